"""State tables: rows that grow, are used again, and move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream_detector.core.devices.table import SMALLEST, Column, Table
from tests.core.strategies import SECOND, START, Reading, batch

if TYPE_CHECKING:
    from stream_detector.core.records import Readings

COLUMNS = {
    "count": Column(np.int32),
    "last": Column(np.float64, per_channel=True, fill=np.nan),
    "ring": Column(np.float32, (3,), per_channel=True),
}


def test_growing_keeps_what_is_there() -> None:
    """However many devices come, the rows of the first stay as they were; new ones are blank."""
    table = Table(COLUMNS, 2)
    for row in range(500):
        assert table.add() == row
        table["count"][row] = row
        table["last"][row] = row + 0.5
    assert table["count"][:500].tolist() == list(range(500))
    assert table["last"][499].tolist() == [499.5, 499.5]
    assert np.isnan(table["last"][table.add()]).all()


def test_a_table_with_one_device_is_small() -> None:
    """Thousands of devices may each have channels that no other has."""
    table = Table(COLUMNS, 2)
    table.add()
    assert sum(array.nbytes for array in table.arrays.values()) == SMALLEST * (4 + 2 * 8 + 2 * 3 * 4)
    assert SMALLEST <= 4


def test_a_removed_row_is_blank_for_the_next_device() -> None:
    """Nothing of a device is left for the one that gets its row."""
    table = Table(COLUMNS, 2)
    first, second = table.add(), table.add()
    for name in COLUMNS:
        table[name][first] = 7
    table.remove(first)
    assert table.add() == first
    assert table["count"][first] == 0
    assert np.isnan(table["last"][first]).all()
    assert not table["ring"][first].any()
    assert table.add() == second + 1


def test_a_row_moves_to_a_wider_table() -> None:
    """Each channel's cell goes to its place there; the cells of other channels stay blank."""
    narrow, wide = Table(COLUMNS, 2), Table(COLUMNS, 3)
    row, target = narrow.add(), wide.add()
    narrow["count"][row] = 9
    narrow["last"][row] = [1.0, 2.0]
    narrow["ring"][row] = [[1, 2, 3], [4, 5, 6]]
    narrow.copy_row(row, wide, target, np.array([2, 0]))
    assert wide["count"][target] == 9
    np.testing.assert_array_equal(wide["last"][target], [2.0, np.nan, 1.0])
    assert wide["ring"][target].tolist() == [[4, 5, 6], [0, 0, 0], [1, 2, 3]]


def test_rows_can_be_given_out_by_another_table() -> None:
    """A table that holds as many rows as another has a blank one for each of its devices."""
    table = Table({"score": Column(np.float64, fill=1)})
    for rows in (1, 5, 3, 100):
        table.hold(rows)
    table["score"][99] = 4.0
    table.blank(99)
    assert (table.size, table["score"][:100].tolist()) == (100, [1.0] * 100)


class _Counted(NamedTuple):
    count: Any
    last: Any


def test_a_record_is_the_arrays_as_they_are_now() -> None:
    """It is one object until the table grows, and never one of arrays that the table has left."""
    table = Table(COLUMNS, 2)
    table.add()
    record = table.record(_Counted)
    assert table.record(_Counted) is record
    for _ in range(100):
        table.add()
    assert table.record(_Counted).count is table["count"]
    assert table.record(_Counted).last is table["last"]


def test_selected_readings_are_the_same_readings() -> None:
    """Parts of a batch hold what it held, though readings have different channels."""
    readings = [
        Reading({"a": 1.0}, START, "d0", seq=4),
        Reading({"b": 2.0, "a": 3.0}, START + SECOND, "d1", index=1),
        Reading({"c": 4.0, "b": 5.0, "a": 6.0}, START + 2 * SECOND, "d0"),
    ]
    whole = batch(readings)
    for at in range(4):
        for first, expected in ((True, readings[:at]), (False, readings[at:])):
            part = whole.select((np.arange(3) < at) == first)
            assert _plain(part) == _plain(batch(expected))
    assert _plain(whole.select(np.array([True, False, True]))) == _plain(batch([readings[0], readings[2]]))


def _plain(part: Readings) -> list[tuple[object, ...]]:
    offsets = part.offsets().tolist()
    return [
        (
            device,
            dict(zip(part.columns[part.shapes[i]], part.values[offsets[i] : offsets[i + 1]], strict=True)),
            int(part.ts[i]),
            int(part.arrival[i]),
            int(part.seq[i]),
            int(part.index[i]),
        )
        for i, device in enumerate(part.devices)
    ]


def test_rows_that_another_table_gives_out_are_copied_seldom() -> None:
    """Devices come one by one: the arrays are replaced whenever they double, not once a device."""
    table = Table(COLUMNS, 2)
    kept = []  # all of them, so that no two have the same id
    for rows in range(1, 2_000):
        table.hold(rows)
        kept.append(table["count"])
    assert table.size == 1_999
    assert len({id(array) for array in kept}) <= 12
