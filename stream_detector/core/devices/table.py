"""State arrays with one row a device.

All memory of the core stands in such tables: named arrays that grow together. So a device's whole
state is one row across them, which is what a checkpoint stores and what moves when a device gets
a new channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

Arrays = dict[str, "NDArray[Any]"]
R = TypeVar("R", bound="tuple[Any, ...]")

SMALLEST = 4
"""Rows to begin with: there may be thousands of tables with one device each."""


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a table.

    Attributes:
        dtype: Its element type.
        shape: Shape of one cell (of one channel's cell, where `per_channel`).
        per_channel: Whether each channel has a cell of its own: (devices, channels, *shape).
        fill: What a new device starts with.
    """

    dtype: DTypeLike
    shape: tuple[int, ...] = ()
    per_channel: bool = False
    fill: float = 0


class Table:
    """Named arrays (devices, ...) that grow together; removed rows are used again.

    Args:
        columns: What the arrays are; their names are unique in the table.
        channels: Number of channels, for the columns that are per channel.

    Example:
        >>> table = Table({"count": Column(np.int32), "last": Column(np.float64, per_channel=True)}, 2)
        >>> table.add(), table.add(), table["last"][:2].shape
        (0, 1, (2, 2))
    """

    def __init__(self, columns: Mapping[str, Column], channels: int = 0) -> None:
        self.columns = dict(columns)
        self.channels = channels
        self.size = 0
        self._free: list[int] = []
        self._capacity = 0
        self._records: dict[type[Any], Any] = {}
        self.arrays: Arrays = {name: self._blank(column, 0) for name, column in self.columns.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return one array, (capacity, ...); rows from `size` on are unused."""
        return self.arrays[name]

    def record(self, kind: type[R]) -> R:
        """Return the arrays that a kernel owns as a named tuple; the same one until the table grows.

        Args:
            kind: A `NamedTuple` whose fields are names of columns.
        """
        found = self._records.get(kind)
        if found is None:
            fields = cast("Any", kind)._fields
            found = self._records[kind] = kind(*(self.arrays[name] for name in fields))
        return cast("R", found)

    def add(self) -> int:
        """Return the number of a fresh row."""
        if self._free:
            return self._free.pop()
        if self.size == self._capacity:
            self._grow(max(SMALLEST, 2 * self._capacity))
        self.size += 1
        return self.size - 1

    def hold(self, rows: int) -> None:
        """Have at least so many rows, for a table whose rows are given out by another one.

        It grows by doubling, as `add` does: devices come one by one, and growing copies all of them.
        """
        if rows > self._capacity:
            self._grow(max(SMALLEST, rows, 2 * self._capacity))
        self.size = max(self.size, rows)

    def remove(self, row: int) -> None:
        """Blank a row and keep it for the next device."""
        self.blank(row)
        self._free.append(row)

    def blank(self, row: int) -> None:
        """Let a row be as it was at first."""
        for name, column in self.columns.items():
            self.arrays[name][row] = column.fill

    def copy_row(self, row: int, target: Table, target_row: int, places: NDArray[np.int64]) -> None:
        """Copy a device into a table with more channels.

        Args:
            row: The device's row here.
            target: The other table; it has the same columns.
            target_row: The device's row there.
            places: Where each channel of this table stands in the other, (channels,).
        """
        for name, column in self.columns.items():
            source, destination = self.arrays[name][row], target.arrays[name]
            if column.per_channel:
                destination[target_row, places] = source
            else:
                destination[target_row] = source

    def _blank(self, column: Column, rows: int) -> NDArray[Any]:
        shape = (rows, self.channels, *column.shape) if column.per_channel else (rows, *column.shape)
        if column.fill == 0:
            return np.zeros(shape, dtype=column.dtype)  # pages that nobody touches cost nothing
        return np.full(shape, column.fill, dtype=column.dtype)

    def _grow(self, capacity: int) -> None:
        for name, column in self.columns.items():
            grown = self._blank(column, capacity)
            grown[: self._capacity] = self.arrays[name]
            self.arrays[name] = grown
        self._capacity = capacity
        self._records.clear()
