"""Which devices have changed since their row was written, the longest waiting first.

How fast rows are written is a balance: each costs kilobytes, but a start has to replay everything from
the oldest unwritten change on. So rows keep pace with readings: for few devices one row for 256
readings, for many so many that about a million readings are to be replayed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL = 1_000_000
"""So many readings a start may have to replay."""
READINGS_A_ROW = 256
LARGEST_SLICE = 256


class Dirty:
    """The changed devices of one stream, by slot.

    Example:
        >>> dirty = Dirty()
        >>> dirty.note(np.array([3, 5]), position=7, at=100)
        >>> dirty.note(np.array([5, 6]), position=8, at=101)
        >>> dirty.oldest, dirty.take(2).tolist(), dirty.oldest, len(dirty)
        ((7, 100), [3, 5], (8, 101), 1)
    """

    def __init__(self) -> None:
        self._since = np.zeros(0, dtype=np.int64)  # position of the first change; 0: unchanged
        self._queue: deque[tuple[int, int, NDArray[np.int64]]] = deque()
        self._count = 0
        self._owed = 0.0

    def __len__(self) -> int:
        """Return the number of changed devices."""
        return self._count

    @property
    def oldest(self) -> tuple[int, int] | None:
        """Return position and time of the first change that no row holds."""
        self._clear_front()
        return self._queue[0][:2] if self._queue else None

    def note(self, slots: NDArray[np.int64], position: int, at: int) -> None:
        """Note that a record changed devices.

        Args:
            slots: The devices, each once, (k,).
            position: Of the record; at least 1.
            at: When, service clock, µs.
        """
        if not len(slots):
            return
        highest = int(slots.max())
        if highest >= len(self._since):
            grown = np.zeros(max(64, 2 * highest), dtype=np.int64)
            grown[: len(self._since)] = self._since
            self._since = grown
        fresh = slots[self._since[slots] == 0]
        if len(fresh):
            self._since[fresh] = position
            self._count += len(fresh)
            self._queue.append((position, at, fresh))

    def is_dirty(self, slot: int) -> bool:
        """Return whether a device has changed."""
        return slot < len(self._since) and self._since[slot] != 0

    def due(self, readings: int) -> int:
        """Return how many rows keep pace with so many readings more."""
        self._owed += readings * max(1 / READINGS_A_ROW, self._count / TAIL)
        rows = min(int(self._owed), LARGEST_SLICE, self._count)
        self._owed = 0.0 if rows == self._count else self._owed - rows
        return rows

    def take(self, count: int) -> NDArray[np.int64]:
        """Return at most so many slots, the longest changed first; they count as written from now on."""
        taken: list[NDArray[np.int64]] = []
        while count > 0:
            self._clear_front()
            if not self._queue:
                break
            position, at, slots = self._queue.popleft()
            slots = slots[self._since[slots] == position]
            if len(slots) > count:
                self._queue.appendleft((position, at, slots[count:]))
                slots = slots[:count]
            self._since[slots] = 0
            count -= len(slots)
            taken.append(slots)
        self._count -= sum(map(len, taken))
        return np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)

    def written(self, slot: int) -> None:
        """Note that a device was written, or forgotten, out of turn."""
        if self.is_dirty(slot):
            self._since[slot] = 0
            self._count -= 1

    def _clear_front(self) -> None:
        """Drop entries all of whose devices were written out of turn."""
        while self._queue and not (self._since[self._queue[0][2]] == self._queue[0][0]).any():
            self._queue.popleft()
