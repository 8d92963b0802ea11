"""A device's row: its cells in all tables, written as bytes and put back.

Put back, a cell belongs to the array of the same name. The bytes may come from another version of the
code or another configuration, so not all cells need fit. What says which readings were here, and when,
is kept in any case. The windows and the rules on them go together, and what a detector learned goes with
them and together: half a memory is worse than none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.devices.snapshot import DEVICE, OBSERVED, Cell, RowLayout, learned_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.devices.table import Table
    from stream_detector.core.records import Role
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.scoring.layouts import Layout

PROCESS_LOCAL = frozenset({"layout", "row"})
"""Columns of the table of devices that say where the rest of a row stands in this process."""


class Rows:
    """Reads and writes the rows of one stream's devices.

    Args:
        devices: The table with one row a device of the stream.
        layouts: The stream's layouts; the list grows.
        detectors: What scores the stream, by role, and since when (service clock, µs); it may change.
    """

    def __init__(
        self, devices: Table, layouts: list[Layout], detectors: Mapping[Role, tuple[Detector, int]]
    ) -> None:
        self._devices = devices
        self._layouts = layouts
        self._detectors = detectors
        self.detectors_changed()

    def detectors_changed(self) -> None:
        """Take what is learned from now on as learned by other detectors than before."""
        self._meanings: dict[int, RowLayout] = {}

    def meaning(self, slot: int) -> RowLayout:
        """Return what the bytes of a row mean: one and the same object for all devices of a layout."""
        place = int(self._devices["layout"][slot])
        if place not in self._meanings:
            cells = [*_cells(DEVICE, self._devices)]
            if place >= 0:
                for name, table in self._layouts[place].tables():
                    cells += _cells(name, table)
            live, since = self._detectors["live"]
            self._meanings[place] = RowLayout(
                channels=self._layouts[place].channels if place >= 0 else (),
                detector=(live.name, live.version),
                cells=tuple(cells),
                in_use_since=since,
                others=tuple(
                    (role, detector.name, detector.version, since)
                    for role, (detector, since) in self._detectors.items()
                    if role != "live"
                ),
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
            for _, table in self._layouts[place].tables():
                cells += [array[row : row + 1] for array in table.arrays.values()]
        return b"".join(cells)

    def write(self, slot: int, state: DeviceState) -> None:
        """Put the cells that fit into a blank row, which stands in its layout already."""
        arrays = self._devices.arrays
        place, row = arrays["layout"][slot], arrays["row"][slot]
        found = np.frombuffer(state.row, _structure(state.layout))[0]
        here = self.meaning(slot)
        homes = {DEVICE: {name: (array, slot) for name, array in arrays.items()}}
        if place >= 0:
            for name, table in self._layouts[place].tables():
                home = homes.setdefault(name, {})
                home.update((column, (array, row)) for column, array in table.arrays.items())
        for cell in _fitting(state.layout, here, self._learned()):
            array, at = homes[cell.table][cell.name]
            value = found[_field(cell)]
            array[at] = value.view(array.dtype) if array.dtype.fields else value  # a record came as bytes

    def _learned(self) -> frozenset[tuple[str, str]]:
        """Return table and name of the cells that belong to detectors."""
        return frozenset(
            (learned_name(role), name)
            for role, (detector, _) in self._detectors.items()
            for name in detector.columns()
        )


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
def _fitting(there: RowLayout, here: RowLayout, learned: frozenset[tuple[str, str]]) -> tuple[Cell, ...]:
    """Return the cells that keep their meaning from one row layout to another.

    Args:
        there: What the bytes mean.
        here: What is wanted.
        learned: Table and name of the cells that belong to detectors here.
    """
    wanted = {(cell.table, cell.name): cell for cell in here.cells}
    known = [cell for cell in there.cells if (cell.table, cell.name) in wanted]
    same = {cell: wanted[cell.table, cell.name] == cell for cell in known}
    of_device = tuple(cell for cell in known if cell.table == DEVICE and same[cell])
    observed = tuple(
        cell for cell in known if cell.table == OBSERVED and (cell.table, cell.name) not in learned
    )
    if there.channels != here.channels or not all(same[cell] for cell in observed):
        return of_device
    fitting = of_device + observed
    for role, detector in _detectors(here).items():
        names = {name for table, name in learned if table == learned_name(role)}
        taught = tuple(
            cell for cell in known if cell.table == learned_name(role) and cell.name in names and same[cell]
        )
        if _detectors(there).get(role) == detector and len(taught) == len(names):
            fitting += taught
    return fitting


def _detectors(layout: RowLayout) -> dict[Role, tuple[str, str, int]]:
    """Return name, version and time of each detector that cells belong to, by role."""
    found: dict[Any, tuple[str, str, int]] = {"live": (*layout.detector, layout.in_use_since)}
    return found | {role: (name, version, since) for role, name, version, since in layout.others}
