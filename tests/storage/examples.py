"""What the tests of storage have in common: small records and states, strategies, and a store's content.

`step(k)` is the k-th commit of a scenario in which every table tells how far it has come, so that what is
found after a crash can be held against `content_after(k)`.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from hypothesis import strategies as st

from stream_detector.core.alerts.track import DEVICE, Alert, Count, Holder, Seen, Track
from stream_detector.core.devices.snapshot import Cell, DeviceState, OpenAlert, RowLayout
from stream_detector.core.events import ENDINGS, KINDS, SEVERITIES, SUPPRESSED, AlertChanged, AlertEvent
from stream_detector.core.records import (
    NO_SEQ,
    ROLES,
    Acknowledged,
    Feedback,
    Forgotten,
    Gap,
    ModelSet,
    Readings,
    Record,
    Started,
    Tick,
    TopicState,
)
from stream_detector.outputs.messages import Publication
from stream_detector.storage.change import Change
from stream_detector.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
LAYOUT = RowLayout(
    channels=("a", "b"),
    detector=("light", ""),
    cells=(Cell("device", "newest", "<i8", ()), Cell("layout", "ring", "<f4", (3, 2))),
)


def readings(n: int = 3, *, stream: str = "pumps", at: int = START, devices: int = 2) -> Readings:
    """Return a batch of readings of two channels."""
    return Readings(
        stream=stream,
        devices=[f"pump-{i % devices}" for i in range(n)],
        columns=(("a", "b"),),
        shapes=np.zeros(n, np.int32),
        values=np.arange(2.0 * n),
        ts=at + np.arange(n),
        arrival=np.full(n, at),
        seq=np.arange(n),
        index=np.zeros(n, np.int32),
        tags={"pump-1": {"site": "north"}},
    )


def state(device: str = "pump-0", number: int = 0, layout: RowLayout = LAYOUT) -> DeviceState:
    """Return a device's state in which a number can be recognised."""
    return DeviceState(
        device=device,
        tags={"site": "north"},
        layout=layout,
        row=number.to_bytes(8, "little") + bytes(24),
        tracks={
            "point": Track({DEVICE: Count(number, [Seen(number, 2, 2**64 - 1, 1.5)])}),
        },
        published=(("id", "warning", number % 2 == 0),),
    )


def alert(event: AlertEvent = "raise", seq: int = 1, device: str = "pump-0") -> AlertChanged:
    """Return an event of an alert."""
    return AlertChanged(
        event=event,
        id="4d9243edcfdcfdf39f75038b",
        seq=seq,
        kind="point",
        stream="pumps",
        device=device,
        tags={},
        severity="warning",
        score=1.5,
        peak_score=1.0 + seq,
        raw_score=3.0,
        threshold=2.0,
        confidence=0.99,
        started_at=START,
        updated_at=START + seq,
        ended_at=None,
        received_at=START,
        values={},
        expected={},
        contributions=(),
        reason="",
        model_name="light",
        model_version="",
    )


def message(number: int) -> Publication:
    """Return a message in which a number can be recognised."""
    return Publication(
        f"stream_detector/alert/pumps/{number}", b"payload %d " % number * 20, 1, number % 2 == 0
    )


def topic_state(k: int) -> TopicState:
    """Return a topic's state in which a number can be recognised; now and then it goes."""
    return TopicState(START + k, "pumps", f"plant/{k % 2}", b"" if k % 5 == 0 else b"%d" % k)


def step(k: int) -> Change:
    """Return the k-th commit of a scenario, k from 1 on: all tables say k afterwards."""
    kinds: list[Record] = [
        readings(k % 5 + 1, at=START + k),
        Gap(START + k, START + k + 1),
        topic_state(k),
    ]
    said = ("ack", str(k), START + k, b"reply %d" % k)
    return Change(
        records=[(2 * k - 1, kinds[0]), (2 * k, kinds[k % 3])],
        outbox=[(k, message(k), START + k)],
        confirmed=[k - 3] if k > 3 else [],
        alerts=[alert("raise" if k == 1 else "update", seq=k), alert("clear", 1, "pump-1")],
        rows=[(2 * k, "pumps", state(f"pump-{i}", k)) for i in range(2)],
        evicted=[("pumps", "pump-1")] if k % 2 else [],
        deliveries=[(k, 1000 + k)],
        replies=[said],
        forgotten=[("pumps", "pump-1")] if k % 3 else [],
        facts={"k": str(k)},
        trim=max(0, 2 * k - 8),
        alive_at=START + k,
    )


def content(store: Store) -> dict[str, Any]:
    """Return everything that a store holds, so that two can be compared."""
    records = [(position, plain(record)) for position, record in store.records()]
    return {
        "records": records,
        "rows": list(store.rows()),
        "evicted": {device: store.row("pumps", device) for device in ("pump-0", "pump-1")},
        "alerts": store.open_alerts(),
        "topic_states": store.topic_states(),
        "outbox": store.outbox(),
        "deliveries": store.deliveries(),
        "replies": [store.reply("ack", str(k), 0) for k in range(1, REPLIES + 1)],
        "k": store.get("k"),
        "head": (store.last_position, store.last_number, store.alive_at),
        "damaged": store.damaged,
    }


def check_prefix(found: dict[str, Any], committed: int) -> int:
    """Assert that a store holds the first k commits of the scenario for some k, and return it.

    Args:
        found: Its `content`.
        committed: So many were begun, so k cannot be more.
    """
    k = int(found["k"] or 0)
    assert k <= committed
    assert found["damaged"] == []
    assert found["head"] == ((2 * k, k, START + k) if k else (0, 0, 0))
    assert [waiting.number for waiting in found["outbox"]] == list(range(max(1, k - 2), k + 1))
    assert all(waiting.publication == message(waiting.number) for waiting in found["outbox"])
    assert found["replies"] == [b"reply %d" % i if i <= k else None for i in range(1, REPLIES + 1)]
    newest = {topic_state(i).topic: topic_state(i) for i in range(2, k + 1, 3)}
    assert {each.topic: each for each in found["topic_states"]} == {
        topic: each for topic, each in newest.items() if each.content
    }
    assert found["deliveries"] == [(i, 1000 + i) for i in range(1, k + 1)]
    positions = [position for position, _ in found["records"]]
    assert positions == sorted(positions)
    trimmed = max(0, 2 * k - 8)
    expected = dict(pair for i in range(1, k + 1) for pair in step(i).records)
    assert [position for position in positions if position > trimmed] == list(range(trimmed + 1, 2 * k + 1))
    assert all(record == plain(expected[position]) for position, record in found["records"])
    for device, row in found["evicted"].items():
        assert row == ((2 * k, state(device, k)) if k else None)
    residents = [] if not k else ["pump-0"] if k % 2 else ["pump-0", "pump-1"]
    assert sorted(row[2].device for row in found["rows"]) == residents
    assert [(opened.seq, opened.peak) for opened in found["alerts"]] == ([(k, 1.0 + k)] if k else [])
    return k


def plain(record: Record) -> Any:
    """Return a record as plain values that can be compared, types of arrays included."""
    if not isinstance(record, Readings):
        return record
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    return {
        name: (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def scenario(folder: Path, steps: int) -> None:
    """Write the first commits of the scenario into a new store, and end in order."""
    store = Store(folder)
    for k in range(1, steps + 1):
        store.commit(step(k))
    store.close()


REPLIES = 20
"""So many of the scenario's replies are looked at."""
INTS = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=False)


@st.composite
def batches(draw: st.DrawFn) -> Readings:
    """Draw any batch of readings, an empty one too."""
    columns = tuple(draw(st.lists(st.lists(NAMES, max_size=3).map(tuple), min_size=1, max_size=3)))
    pool = draw(st.lists(NAMES, min_size=1, max_size=4))
    devices = draw(st.lists(st.sampled_from(pool), max_size=12))
    n = len(devices)
    shapes = np.array(draw(st.lists(st.integers(0, len(columns) - 1), min_size=n, max_size=n)), np.int32)
    width = sum(len(columns[shape]) for shape in shapes)

    def column(elements: st.SearchStrategy[int], dtype: type[Any]) -> Any:
        if draw(st.booleans()):
            return np.full(n, draw(elements), dtype)
        return np.array(draw(st.lists(elements, min_size=n, max_size=n)), dtype)

    return Readings(
        stream=draw(NAMES),
        devices=devices,
        columns=columns,
        shapes=shapes,
        values=np.array(draw(st.lists(st.floats(), min_size=width, max_size=width)), np.float64),
        ts=column(INTS, np.int64),
        arrival=column(INTS, np.int64),
        seq=column(st.just(NO_SEQ) | INTS, np.int64),
        index=column(st.integers(0, 2**31 - 1), np.int32),
        tags=draw(st.dictionaries(NAMES, st.dictionaries(NAMES, NAMES, max_size=2), max_size=2)),
    )


RECORDS: st.SearchStrategy[Record] = st.one_of(
    batches(),
    st.builds(Started, INTS, NAMES),
    st.builds(Tick, INTS),
    st.builds(Gap, INTS, INTS),
    st.builds(ModelSet, INTS, NAMES, st.just("live"), NAMES, NAMES, NAMES),
    st.builds(Acknowledged, INTS, NAMES, NAMES, NAMES, NAMES, NAMES),
    st.builds(Feedback, INTS, NAMES, st.just("true_alert"), NAMES, NAMES),
    st.builds(Forgotten, INTS, NAMES, NAMES),
    st.builds(TopicState, INTS, NAMES, NAMES, st.binary(max_size=9)),
)

_SEVERITY = st.sampled_from(SEVERITIES)
_HOLDER = st.builds(Holder, st.sampled_from(list(ROLES)), NAMES)
_ALERT = st.builds(
    Alert,
    *(NAMES, INTS, INTS, _SEVERITY, FLOATS, INTS, FLOATS, st.none() | INTS, st.booleans()),
    channels=st.lists(NAMES, max_size=2).map(tuple),
    arrived_at=INTS,
    holders=st.lists(_HOLDER, min_size=1, max_size=2).map(tuple),
)
_COUNT = st.builds(
    Count,
    INTS,
    st.lists(st.builds(Seen, INTS, INTS, st.integers(0, 2**64 - 1), FLOATS), max_size=3),
    INTS,
    st.booleans(),
    st.none() | st.sampled_from(ENDINGS),
)
_TRACK = st.builds(
    Track,
    st.dictionaries(_HOLDER, _COUNT, max_size=2),
    st.none() | _ALERT,
    st.none() | st.sampled_from(SUPPRESSED),
)
_CELL = st.builds(
    Cell, st.sampled_from(["device", "layout"]), NAMES, st.just("<f8"), st.lists(st.integers(0, 9)).map(tuple)
)
_LAYOUT = st.builds(
    RowLayout,
    channels=st.lists(NAMES, max_size=3).map(tuple),
    detector=st.tuples(NAMES, NAMES),
    cells=st.lists(_CELL, max_size=3).map(tuple),
    in_use_since=INTS,
)
STATES = st.builds(
    DeviceState,
    device=NAMES,
    tags=st.dictionaries(NAMES, NAMES, max_size=2),
    layout=_LAYOUT,
    row=st.binary(max_size=40),
    tracks=st.dictionaries(st.sampled_from(KINDS), _TRACK, max_size=2),
    published=st.lists(st.tuples(NAMES, _SEVERITY, st.booleans()), max_size=2).map(tuple),
)
EVENTS = st.builds(
    lambda event, kind, severity, peak, device: replace(
        alert(event, device=device), kind=kind, severity=severity, peak_score=peak
    ),
    st.sampled_from(get_args(AlertEvent)),
    st.sampled_from(KINDS),
    _SEVERITY,
    st.floats(0, 1000),
    st.sampled_from(["pump-0", "pump-1"]),
)
"""Events of alerts; each is followed by `still_open` to know what remains."""


def still_open(events: list[AlertChanged]) -> dict[tuple[str, str], OpenAlert]:
    """Return what is open after events, by device and kind."""
    out = {}
    for event in events:
        key = event.device, event.kind
        if event.event == "clear":
            out.pop(key, None)
        else:
            out[key] = OpenAlert(
                event.stream,
                event.device,
                event.kind,
                event.id,
                event.seq,
                event.started_at,
                event.severity,
                event.peak_score,
                event.updated_at,
            )
    return out
