"""Writes `schema-4/state.db`: ``python -m tests.storage.released.make``.

The files are kept as they are for ever: what a release has written, every later one must read. A new
schema gets a folder of its own; what the older ones hold stands here, too.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stream_detector.core.alerts.track import DEVICE, Alert, Count, Holder, Seen, Track
from stream_detector.core.devices.snapshot import Cell, DeviceState, OpenAlert, RowLayout
from stream_detector.core.events import AlertChanged
from stream_detector.core.records import (
    NO_SEQ,
    Acknowledged,
    Feedback,
    Forgotten,
    Gap,
    ModelSet,
    Readings,
    Started,
    Tick,
    TopicState,
)
from stream_detector.outputs.messages import Publication
from stream_detector.storage.change import Change, Waiting
from stream_detector.storage.store import Store
from tests.storage.examples import REPLIES, plain

AT = 1_700_000_000_000_000

STATE = TopicState(AT + 34, "pumps", "plant/north", b"7=temp")
RECORDS = [
    (1, Started(AT, "c0ffee")),
    (2, ModelSet(AT, "pumps", "live", "forest", "3", "ab" * 32)),
    (
        3,
        Readings(
            stream="pumps",
            devices=["pump-1", "pümp 2", "pump-1"],
            columns=(("a", "b"), ("c",)),
            shapes=np.array([0, 1, 0], np.int32),
            values=np.array([1.5, np.nan, -0.0, 1e300, 2.5]),
            ts=np.array([AT, AT + 1, AT + 2]),
            arrival=np.array([AT + 5] * 3),
            seq=np.array([7, NO_SEQ, 8]),
            index=np.array([0, 1, 2], np.int32),
            tags={"pump-1": {"site": "north"}},
        ),
    ),
    (4, Tick(AT + 10)),
    (5, Gap(AT + 20, AT + 30)),
    (6, Acknowledged(AT + 31, "pumps", "pump-1", "4d9243edcfdcfdf39f75038b", "anna", "seen")),
    (7, Feedback(AT + 32, "4d9243edcfdcfdf39f75038b", "true_alert")),
    (8, Forgotten(AT + 33, "pumps", "pump-9")),
    (9, STATE),
]
LAYOUT = RowLayout(
    channels=("a", "b"),
    detector=("forest", "3"),
    cells=(Cell("device", "newest", "<i8", ()), Cell("layout", "ring", "<f4", (2, 2))),
    in_use_since=AT,
)
HOLDER = Holder("live", "b")
ALERT = Alert(
    *("4d9243edcfdcfdf39f75038b", 2, AT, "critical", 2.5, AT + 2, 2.5, None),
    acknowledged=True,
    channels=("b",),
    arrived_at=AT + 5,
    holders=(HOLDER,),
)
STATES = [
    DeviceState(
        device="pump-1",
        tags={"site": "north"},
        layout=LAYOUT,
        row=bytes(range(24)),
        tracks={"point": Track({HOLDER: Count(9, [Seen(8, AT, 2**64 - 1, 1.25)], 1, holds=True)}, ALERT)},
        published=(("4d9243edcfdcfdf39f75038b", "critical", True),),
    ),
    DeviceState(device="pümp 2", tags={}, layout=LAYOUT, row=bytes(24)),
]
RAISED = AlertChanged(
    event="raise",
    id=ALERT.id,
    seq=2,
    kind="point",
    stream="pumps",
    device="pump-1",
    tags={},
    severity="critical",
    score=2.5,
    peak_score=2.5,
    raw_score=5.0,
    threshold=2.0,
    confidence=0.99,
    started_at=AT,
    updated_at=AT + 2,
    ended_at=None,
    received_at=AT + 5,
    values={},
    expected={},
    contributions=(),
    reason="",
    model_name="forest",
    model_version="3",
    acknowledged=True,
    channels=("b",),
)
MESSAGE = Publication("stream_detector/alert/pumps/pump-1", b'{"a": 1}', retain=True)
ELSEWHERE = Publication("hook", b"{}", target="elsewhere")

CHANGE = Change(
    records=RECORDS,
    outbox=[(1, MESSAGE, AT + 6), (2, ELSEWHERE, AT + 7)],
    alerts=[RAISED],
    rows=[(3, "pumps", STATES[0]), (5, "pumps", STATES[1])],
    evicted=[("pumps", "pümp 2")],
    deliveries=[(4, 2**63 - 1), (5, 0)],
    replies=[("ack", "transaction 1", AT + 31, b"{}")],
    facts={"k": "v"},
    trim=0,
    alive_at=AT + 40,
)
EXPECTED: dict[str, Any] = {
    "records": [(position, plain(record)) for position, record in RECORDS],
    "rows": [(3, "pumps", STATES[0])],
    "evicted": {"pump-0": None, "pump-1": (3, STATES[0])},
    "alerts": [OpenAlert("pumps", "pump-1", "point", ALERT.id, 2, AT, "critical", 2.5, AT + 2, True, ("b",))],
    "topic_states": [STATE],
    "outbox": [Waiting(1, MESSAGE, AT + 6), Waiting(2, ELSEWHERE, AT + 7)],
    "deliveries": [(4, 2**63 - 1), (5, 0)],
    "replies": [None] * REPLIES,
    "k": "v",
    "head": (9, 2, AT + 40),
    "damaged": [],
}

_WHOLE = replace(ALERT, channels=(), arrived_at=0, holders=(DEVICE,))
_BEFORE_HOLDERS = replace(
    STATES[0],
    tracks={
        "point": Track(
            {DEVICE: Count(9, [Seen(8, AT, 2**64 - 1, 1.25)], 1, holds=True)}, _WHOLE, "min_severity"
        )
    },
)
_UNSEEN = replace(
    _BEFORE_HOLDERS,
    tracks={"point": replace(_BEFORE_HOLDERS.tracks["point"], alert=replace(_WHOLE, acknowledged=False))},
    published=((ALERT.id, "critical", False),),
)
EXPECTED_3 = {
    **EXPECTED,
    "rows": [(3, "pumps", _BEFORE_HOLDERS)],
    "evicted": {"pump-0": None, "pump-1": (3, _BEFORE_HOLDERS)},
    "alerts": [replace(alert, channels=()) for alert in EXPECTED["alerts"]],
}
"""The third schema knew no channels that hold an alert."""
EXPECTED_2 = {
    **EXPECTED_3,
    "records": EXPECTED["records"][:8],
    "topic_states": [],
    "outbox": EXPECTED["outbox"][:1],
    "head": (8, 1, AT + 40),
}
"""The second schema knew no target but the broker, and no state of topics."""
EXPECTED_1 = {
    **EXPECTED_2,
    "records": EXPECTED["records"][:5],
    "rows": [(3, "pumps", _UNSEEN)],
    "evicted": {"pump-0": None, "pump-1": (3, _UNSEEN)},
    "alerts": [replace(alert, acknowledged=False) for alert in EXPECTED_3["alerts"]],
    "head": (5, 1, AT + 40),
}
"""The first schema had no acknowledgements, and no replies."""

if __name__ == "__main__":
    folder = Path(__file__).parent / "schema-4"
    shutil.rmtree(folder, ignore_errors=True)
    store = Store(folder)
    store.commit(CHANGE)
    store.close()
    (folder / "lock").unlink()
