"""What is written as bytes comes back equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given

from stream_detector.storage import codec
from tests.storage.examples import RECORDS, STATES, plain, readings

if TYPE_CHECKING:
    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.records import Record


@given(RECORDS)
def test_every_record_comes_back(record: Record) -> None:
    """A record is the same after storage: values bit by bit, and the types of the columns."""
    found = codec.record_from(codec.record_row(7, record))
    assert found is not None
    assert plain(found) == plain(record)


def test_columns_that_come_back_can_be_written() -> None:
    """Compiled loops take arrays of one kind: those of a stored batch are as writable as fresh ones."""
    found = codec.record_from(codec.record_row(7, readings(2)))
    assert found is not None
    assert all(getattr(found, name).flags.writeable for name in ("values", "ts", "arrival", "seq", "index"))


@given(RECORDS)
def test_a_record_is_only_read_where_it_was_written(record: Record) -> None:
    """A record under another position, kind or stream, or with one bit changed, is known to be damaged."""
    position, at, kind, stream, standing, content, total = codec.record_row(7, record)
    flipped = bytes([content[0] ^ 1]) + content[1:]
    for row in (
        (8, at, kind, stream, standing, content, total),
        (position, at + 1, kind, stream, standing, content, total),
        (position, at, kind + "x", stream, standing, content, total),
        (position, at, kind, stream + "x", standing, content, total),
        (position, at, kind, stream, standing, flipped, total),
        (position, at, kind, stream, standing, content, total ^ 1),
        (position, at, kind, stream, standing, None, total),
    ):
        assert codec.record_from(row) is None


@given(STATES)
def test_every_state_comes_back(state: DeviceState) -> None:
    """A device's state is the same after storage, with its layout, its tracks and what was published."""
    layout_id, content = codec.encode_layout(state.layout)
    layout = codec.decode_layout(content)
    assert codec.layout_id(content) == layout_id
    assert layout == state.layout
    assert codec.decode_state(state.device, layout, state.row, *codec.encode_extras(state)) == state
