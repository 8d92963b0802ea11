"""What holds for all bytes, and for all good readings."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.core.events import REJECTIONS
from stream_detector.formats.names import name_error
from tests.formats.decoding import NOW, intake, only, rows, take

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["values", "ts", "seq", "device_id", "x"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
PAYLOADS = (
    st.binary(max_size=60)
    | JSON.map(lambda content: json.dumps(content).encode())
    | JSON.map(lambda content: json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | st.fixed_dictionaries(
        {"values": st.dictionaries(st.text(max_size=3), JSON, max_size=3)},
        optional={"ts": JSON, "seq": JSON, "device_id": JSON},
    ).map(lambda content: json.dumps(content).encode())
)
TOPICS = st.sampled_from([b"plant/n/p1", b"plant/n/p2", b"base/x", b"other", b"plant/\xff/x", b"plant//"])
FORMATS = {
    "json": {},
    "declared": {"channels": {"x": {}}},
    "coerced": {"coerce": True},
    "mapped": {"map": {"device": "device_id", "time": "ts", "seq": "seq", "values": "values"}},
    "all": {"map": {"values": "."}},
    "scalar": {"format": "scalar"},
}
NAMES = st.text(min_size=1, max_size=128).filter(lambda name: name_error(name) is None)
VALUES = st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=32)
TIMES = st.integers(946_684_800_000_001, NOW + 300_000_000)


@pytest.mark.parametrize("settings", [pytest.param(FORMATS[name], id=name) for name in FORMATS])
@given(messages=st.lists(st.tuples(TOPICS, PAYLOADS, st.integers(0, 15)), max_size=8))
def test_every_message_ends_in_a_tally(
    settings: dict[str, Any], messages: list[tuple[bytes, bytes, int]]
) -> None:
    """Whatever comes, nothing raises: received = accepted + rejected + ignored, for a known reason."""
    topics, payloads, flags = (
        (list(part) for part in zip(*messages, strict=True)) if messages else ([], [], [])
    )
    taken = intake(**settings).take(topics, payloads, flags, NOW)
    assert sum(tally.received for tally in taken.tallies.values()) == len(messages)
    for tally in taken.tallies.values():
        assert tally.received == tally.accepted + tally.rejected.total() + tally.ignored.total()
        assert tally.rejected.keys() | tally.refused_readings.keys() < set(REJECTIONS) - {"internal_error"}
    refused = sum((tally.rejected + tally.refused_readings).total() for tally in taken.tallies.values())
    assert len(taken.rejected) == refused
    for rejected in taken.rejected:
        assert rejected.message.isprintable(), rejected.message
    for readings in taken.readings:
        assert all(name_error(device) is None for device in readings.devices)
        assert all(name_error(name) is None for names in readings.columns for name in names)
        assert not any(math.isinf(x) for x in readings.values.tolist())


@given(device=NAMES, values=VALUES, ts=TIMES, seq=st.none() | st.integers(-(2**62), 2**62))
def test_a_good_reading_comes_out_as_it_went_in(
    device: str, values: dict[str, float], ts: int, seq: int | None
) -> None:
    """Device, channels, values, microseconds and seq are exactly those that were sent."""
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts)
    content: dict[str, Any] = {"device_id": device, "ts": instant.isoformat(), "values": values}
    if seq is not None:
        content["seq"] = seq
    readings = only(take(("up", json.dumps(content).encode()), topic="up"))
    assert rows(readings) == [(device, values)]
    assert readings.ts.tolist() == [ts]
    assert seq is None or readings.seq.tolist() == [seq]


@given(elements=st.lists(VALUES | st.sampled_from([{}, {"x": True}, {"x": None}]), min_size=1, max_size=6))
def test_a_list_is_its_elements(elements: list[dict[str, Any]]) -> None:
    """A list gives the readings that its elements would give one by one."""
    payloads = [json.dumps({"ts": 1767225600, "values": values}).encode() for values in elements]
    one_by_one = take(*payloads)
    listed = take(b"[" + b",".join(payloads) + b"]")
    assert [rows(batch) for batch in listed.readings] == [rows(batch) for batch in one_by_one.readings]
    assert [rejected.reason for rejected in listed.rejected] == [
        rejected.reason for rejected in one_by_one.rejected
    ]
