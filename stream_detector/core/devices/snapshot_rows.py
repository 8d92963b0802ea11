"""A device's row: its cells in all tables, written as bytes and put back.

Put back, a cell belongs to the array of the same name. The bytes may come from another version of the
code or another configuration, so not all cells need fit. What says which readings were here, and when,
is kept in any case. The windows and the rules on them go together, and what the detector learned goes
with them and together: half a memory is worse than none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.devices.snapshot import Cell, RowLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.devices.table import Table
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.scoring.layouts import Layout

DEVICE, LAYOUT = "device", "layout"
PROCESS_LOCAL = frozenset({"layout", "row"})
"""Columns of the table of devices that say where the rest of a row stands in this process."""


class Rows:
    """Reads and writes the rows of one stream's devices.

    Args:
        devices: The table with one row a device of the stream.
        layouts: The stream's layouts; the list grows.
        detector: What scores the stream; `use` names another one.
    """

    def __init__(self, devices: Table, layouts: list[Layout], detector: Detector) -> None:
        self._devices = devices
        self._layouts = layouts
        self.use(detector, 0)

    def use(self, detector: Detector, since: int) -> None:
        """Take what is learned from now on as learned by this detector."""
        self._detector = detector
        self._since = since
        self._meanings: dict[int, RowLayout] = {}

    def meaning(self, slot: int) -> RowLayout:
        """Return what the bytes of a row mean: one and the same object for all devices of a layout."""
        place = int(self._devices["layout"][slot])
        if place not in self._meanings:
            cells = [*_cells(DEVICE, self._devices)]
            if place >= 0:
                cells += _cells(LAYOUT, self._layouts[place].table)
            self._meanings[place] = RowLayout(
                channels=self._layouts[place].channels if place >= 0 else (),
                detector=(self._detector.name, self._detector.version),
                cells=tuple(cells),
                in_use_since=self._since,
            )
        return self._meanings[place]

    def read(self, slot: int) -> bytes:
        """Return a device's cells, one after another, in the order of `meaning`."""
        arrays = self._devices.arrays
        place, row = int(arrays["layout"][slot]), int(arrays["row"][slot])
        # Slices, as bytes are joined from arrays: half the time of `tobytes` on each cell.
        cells: list[Any] = [
            array[slot : slot + 1] for name, array in arrays.items() if name not in PROCESS_LOCAL
        ]
        if place >= 0:
            cells += [array[row : row + 1] for array in self._layouts[place].table.arrays.values()]
        return b"".join(cells)

    def write(self, slot: int, state: DeviceState) -> None:
        """Put the cells that fit into a blank row, which stands in its layout already."""
        arrays = self._devices.arrays
        place, row = arrays["layout"][slot], arrays["row"][slot]
        found = np.frombuffer(state.row, _structure(state.layout))[0]
        learned = frozenset(self._detector.columns())
        for cell in _fitting(state.layout, self.meaning(slot), learned):
            if cell.table == DEVICE:
                arrays[cell.name][slot] = found[_field(cell)]
            else:
                self._layouts[place].table[cell.name][row] = found[_field(cell)]


def check(state: DeviceState) -> None:
    """Refuse a row that is not as long as its layout says.

    Raises:
        ValueError: It is not.
    """
    size = _structure(state.layout).itemsize
    if len(state.row) != size:
        raise ValueError(
            f"the row of device '{state.device}' has {len(state.row)} bytes, its layout says {size};"
            " it is damaged and cannot be restored"
        )


def _cells(name: str, table: Table) -> Iterator[Cell]:
    for column, array in table.arrays.items():
        if name != DEVICE or column not in PROCESS_LOCAL:
            yield Cell(name, column, array.dtype.str, array.shape[1:])


def _field(cell: Cell) -> str:
    return f"{cell.table} {cell.name}"


@lru_cache(maxsize=1024)
def _structure(meaning: RowLayout) -> np.dtype[np.void]:
    return np.dtype([(_field(cell), cell.dtype, cell.shape) for cell in meaning.cells])


@lru_cache(maxsize=1024)
def _fitting(there: RowLayout, here: RowLayout, learned: frozenset[str]) -> tuple[Cell, ...]:
    """Return the cells that keep their meaning from one row layout to another.

    Args:
        there: What the bytes mean.
        here: What is wanted.
        learned: Names of the cells that belong to the detector here.
    """
    wanted = {(cell.table, cell.name): cell for cell in here.cells}
    known = [cell for cell in there.cells if (cell.table, cell.name) in wanted]
    same = {cell: wanted[cell.table, cell.name] == cell for cell in known}
    of_device = tuple(cell for cell in known if cell.table == DEVICE and same[cell])
    observed = tuple(cell for cell in known if cell.table == LAYOUT and cell.name not in learned)
    taught = tuple(cell for cell in known if cell.table == LAYOUT and cell.name in learned)
    if there.channels != here.channels or not all(same[cell] for cell in observed):
        return of_device
    same_detector = (there.detector, there.in_use_since) == (here.detector, here.in_use_since)
    if not same_detector or len(taught) < len(learned) or not all(same[cell] for cell in taught):
        return of_device + observed
    return of_device + observed + taught
