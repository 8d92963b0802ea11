"""Placement: which device has a row in which layout, and how a batch comes apart by layout.

A device stands in the layout that has all its channels. One that reports a new channel moves to another
layout with all that is known of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.events import ChannelAdded
from stream_detector.core.scoring.layouts import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from stream_detector.core.devices.registry import Devices
    from stream_detector.core.records import Readings, Role
    from stream_detector.core.scoring.batch import ScoredBatch
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.spec import StreamSpec


class Placement:
    """The layouts of one stream.

    Args:
        spec: What is configured.
        devices: Its devices; their `layout` and `row` columns are kept here.
        detectors: What scores them, by role; it may change, see `use`.

    Attributes:
        layouts: In the order in which they were needed.
    """

    def __init__(self, spec: StreamSpec, devices: Devices, detectors: Mapping[Role, Detector]) -> None:
        self.layouts: list[Layout] = []
        self._spec = spec
        self._devices = devices
        self._detectors = dict(detectors)
        self._layout_of: dict[tuple[str, ...], int] = {}

    def use(self, role: Role, detector: Detector | None) -> None:
        """Score with another detector in a role from now on; None: nobody has it any more."""
        self._detectors.pop(role, None)
        if detector is not None:
            self._detectors[role] = detector
        for layout in self.layouts:
            layout.use(role, detector)

    def of(self, slot: int) -> tuple[Layout, int] | None:
        """Return a device's layout and its row there; None: it has none yet."""
        table = self._devices.table
        number = int(table["layout"][slot])
        return None if number < 0 else (self.layouts[number], int(table["row"][slot]))

    def enter(self, slot: int, channels: tuple[str, ...]) -> tuple[Layout, int]:
        """Give a device a blank row in the layout with these channels, where all are learned."""
        number = self._number(tuple(self._spec.channels) or channels)
        row = self.layouts[number].add()
        self._devices.table["layout"][slot], self._devices.table["row"][slot] = number, row
        return self.layouts[number], row

    def leave(self, slot: int) -> None:
        """Take a device out of its layout."""
        if (found := self.of(slot)) is not None:
            layout, row = found
            layout.remove(row)

    def settle(self, batch: ScoredBatch, accepted: NDArray[np.int64]) -> None:
        """Move devices that report something new to layouts that have all their channels.

        All move before any reading is taken in: to the readings before, a channel that a device
        does not have yet is one that they do not report.
        """
        columns = batch.readings.columns
        layout_of_slot = self._devices.table["layout"]
        layout_of = layout_of_slot[batch.slots[accepted]]
        alike = len(columns) == 1 and len(accepted) > 0 and bool((layout_of == layout_of[0]).all())
        if alike and self._fits(int(layout_of[0]), columns[0]):  # as in most batches
            return
        # The pairs of a layout and a column set that meet here: a handful, whatever the batch.
        pair = layout_of.astype(np.int64) * len(columns) + batch.readings.shapes[accepted]
        misfits = [
            each
            for each in set(pair.tolist())
            if not self._fits(each // len(columns), columns[each % len(columns)])
        ]
        if not misfits:
            return
        for i in accepted[np.isin(pair, misfits)].tolist():
            slot, names = int(batch.slots[i]), columns[batch.readings.shapes[i]]
            if not self._fits(int(layout_of_slot[slot]), names):
                self._move(slot, names, i, batch)

    def parts(
        self, batch: ScoredBatch, offsets: NDArray[np.int64], accepted: NDArray[np.int64]
    ) -> Iterator[tuple[Layout, NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]]:
        """Group readings by layout; yield the layout, the readings' places, their rows and their values.

        Args:
            batch: With the slots of its readings.
            offsets: Where each reading's values begin.
            accepted: Places of the readings that count.
        """
        table = self._devices.table
        for number, members in _groups(table["layout"][batch.slots[accepted]]):
            layout = self.layouts[number]
            part = accepted[members]
            rows = table["row"][batch.slots[part]]
            yield layout, part, rows, _values(batch.readings, offsets, part, layout)

    def _fits(self, number: int, names: tuple[str, ...]) -> bool:
        if number < 0:
            return False
        # Declared channels are all there is; what else a device reports is not looked at.
        return bool(self._spec.channels) or all(name in self.layouts[number].place for name in names)

    def _move(self, slot: int, names: tuple[str, ...], i: int, batch: ScoredBatch) -> None:
        """Give a device a row in the layout that has all its channels, those of reading i too."""
        before = self.of(slot)
        channels = before[0].channels if before else ()
        target, row = self.enter(slot, tuple(sorted({*channels, *names})))
        if before is None:
            return
        before[0].move(before[1], target, row)
        stream, device, at = self._spec.name, self._devices.names[slot], int(batch.readings.ts[i])
        batch.added[i] = [
            ChannelAdded(stream, device, name, at) for name in target.channels if name not in channels
        ]

    def _number(self, channels: tuple[str, ...]) -> int:
        if channels not in self._layout_of:
            self._layout_of[channels] = len(self.layouts)
            self.layouts.append(
                Layout(
                    channels,
                    self._spec.window,
                    self._spec.channels,
                    self._detectors,
                    watch_stuck=self._spec.watch_stuck,
                )
            )
        return self._layout_of[channels]


def _values(
    readings: Readings, offsets: NDArray[np.int64], part: NDArray[np.int64], layout: Layout
) -> NDArray[np.float64]:
    """Return the values of the readings at `part` in a layout's columns, (m, channels)."""
    if readings.columns == (layout.channels,):  # as in most batches: they lie as they are wanted
        return readings.values.reshape(-1, len(layout.channels))[part]
    values = np.full((len(part), len(layout.channels)), np.nan)
    for shape, here in _groups(readings.shapes[part]):
        names = readings.columns[shape]
        known = [k for k, name in enumerate(names) if name in layout.place]
        columns = np.array([layout.place[names[k]] for k in known], dtype=np.int64)
        where = offsets[part[here]][:, None] + np.array(known, dtype=np.int64)
        values[here[:, None], columns] = readings.values[where]
    return values


def _groups(keys: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each key with the places where it stands, (k,); most batches have only one."""
    if keys.size and (keys == keys[0]).all():
        yield int(keys[0]), np.arange(len(keys))
        return
    for key in np.unique(keys).tolist():
        yield key, np.flatnonzero(keys == key)
