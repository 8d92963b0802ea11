"""One stream: its devices, their layouts, and the way of a batch through them.

    names -> slots -> new? -> layouts (windows, detector, rules) -> alert machine -> events

Only the alert machine loops over single readings, and only over those that can change something:
anomalous ones, those of devices with something open, and a device's first score.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stream_detector.core.alerts.stream_alerts import StreamAlerts
from stream_detector.core.devices.registry import (
    ACCEPTED,
    CADENCE_KNOWN,
    DUPLICATE,
    LATE,
    NEVER,
    Devices,
    identities,
)
from stream_detector.core.devices.snapshot import DeviceState
from stream_detector.core.devices.snapshot_rows import Rows, check
from stream_detector.core.events import STATES, ChannelAdded, DeviceForgotten, Outcome
from stream_detector.core.scoring import rules
from stream_detector.core.scoring.batch import ScoredBatch
from stream_detector.core.scoring.layouts import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.devices.snapshot import OpenAlert
    from stream_detector.core.events import DeviceStateChanged
    from stream_detector.core.records import Acknowledged, Forgotten, Readings
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.spec import StreamSpec


_Hashes: TypeAlias = "tuple[tuple[tuple[str, ...], ...], NDArray[np.uint64], NDArray[np.int64]]"
"""Column sets, the hashes of their channels one after another, and where each set begins."""


class Stream:
    """All state of one stream.

    Args:
        spec: What is configured.
        detector: What scores it.
    """

    def __init__(self, spec: StreamSpec, detector: Detector) -> None:
        self.spec = spec
        self.detector = detector
        self.devices = Devices()
        self.layouts: list[Layout] = []
        self._layout_of: dict[tuple[str, ...], int] = {}
        self._hash_of: dict[str, int] = {}
        self._hashed: _Hashes = ((), np.empty(0, np.uint64), np.empty(0, np.int64))
        self._alerts = StreamAlerts(spec, self.devices)
        self._rows = Rows(self.devices.table, self.layouts, detector)
        self.use(detector, since=0)

    def use(self, detector: Detector, since: int) -> None:
        """Score with another detector from now on, which is this instant of the service clock, µs."""
        self.detector = detector
        self._rows.use(detector, since)
        for layout in self.layouts:
            layout.use(detector)
        policy = self.spec.policy
        if self.spec.own_raise_after:
            policy = replace(policy, raise_n=detector.raise_after[0], raise_m=detector.raise_after[1])
        self._alerts.use(detector, policy)

    def channels_of(self, device: str) -> tuple[str, ...]:
        """Return the channels known of a device, () where it is new."""
        slot = self.devices.slot_of.get(device)
        place = -1 if slot is None else int(self.devices.table["layout"][slot])
        return self.layouts[place].channels if place >= 0 else ()

    def process(self, readings: Readings) -> Outcome:
        """Take a batch in; see `stream_detector.core.pipeline.Pipeline.process`."""
        outcome = Outcome()
        devices = self.devices
        slots = devices.slots(readings.devices, readings.tags)
        offsets = readings.offsets()
        identity = identities(readings, offsets, *self._channel_hashes(readings.columns))
        acceptance = devices.accept(slots, readings, identity, self.spec.lateness)
        accepted = np.flatnonzero(acceptance.verdict == ACCEPTED)

        batch = ScoredBatch.blank(readings, slots, identity, acceptance)
        self._settle(batch, accepted)
        for layout, part, values in self._by_layout(readings, offsets, slots, accepted):
            rows = devices.table["row"][slots[part]]
            batch.fill(part, layout.process(rows, values, readings.ts[part]))
        self._alerts.readings(batch, accepted, outcome)

        outcome.scored = accepted[~np.isnan(batch.score[accepted])]
        outcome.scores = batch.score[outcome.scored]
        counts = outcome.counts
        counts.scored = len(outcome.scored)
        counts.warming_up = len(accepted) - counts.scored
        if len(accepted) < len(readings):
            counts.late = int(np.count_nonzero(acceptance.verdict == LATE))
            counts.duplicate = int(np.count_nonzero(acceptance.verdict == DUPLICATE))
        counts.missing_seq = acceptance.missing
        outcome.touched = _distinct(slots)
        return outcome

    def tick(self, at: int) -> Outcome:
        """Judge silence at an instant of the service clock."""
        outcome = Outcome()
        table = self.devices.table
        scores = np.zeros(table.size)
        if self.spec.silence_at_least is not None:
            scores = rules.silent(table.arrays, table.size, at, self.spec.silence_at_least)
        self._alerts.tick(at, scores, outcome)
        return outcome

    def miss(self, start: int, stop: int, slots: NDArray[np.int64] | None = None) -> None:
        """Note that nobody could be heard from one instant to another; see `Devices.miss`."""
        self.devices.miss(start, stop, slots)

    def state_of(self, slot: int) -> DeviceState:
        """Return everything that is known of a device, as a value that later records do not change."""
        tracks, told = self._alerts.memory(slot)
        return DeviceState(
            device=self.devices.names[slot],
            tags=self.devices.tags.get(slot, {}),
            layout=self._rows.meaning(slot),
            row=self._rows.read(slot),
            tracks=tracks,
            told=told,
        )

    def restore(self, state: DeviceState) -> int:
        """Put a device back as it was, in place of what is known of it, and return its slot.

        What does not fit this configuration starts blank: see `stream_detector.core.devices.snapshot_rows`.

        Raises:
            ValueError: The row is not as long as its layout says; nothing was changed.
        """
        check(state)
        if state.device in self.devices.slot_of:
            self.forget(self.devices.slot_of[state.device])
        slot = self.devices.add(state.device, state.tags)
        if state.layout.channels:  # else it has no window yet
            self._enter(slot, tuple(self.spec.channels) or state.layout.channels)
        self._rows.write(slot, state)
        self._alerts.restore(slot, state)
        return slot

    def told(self, device: str) -> DeviceStateChanged | None:
        """Return a device's state as it stands, without the score that it had; None: it was never told."""
        slot = self.devices.slot_of.get(device)
        return None if slot is None else self._alerts.told(slot)

    def device_of_alert(self, alert_id: str) -> str | None:
        """Return whose open alert has an id; None: nobody's."""
        slot = self._alerts.slot_of_alert(alert_id)
        return None if slot is None else self.devices.names[slot]

    def acknowledge(self, said: Acknowledged) -> Outcome:
        """Note that a person has seen an alert; of one that is not open, or was seen before, nothing."""
        outcome = Outcome()
        slot = self.devices.slot_of.get(said.device)
        if slot is not None:
            self._alerts.acknowledge(slot, said, outcome)
        if outcome.events:
            outcome.touched = np.array([slot], dtype=np.int64)
        return outcome

    def leave(self, gone: Forgotten) -> Outcome:
        """End a device's alerts and forget it."""
        outcome = Outcome()
        slot = self.devices.slot_of.get(gone.device)
        if slot is not None:
            self._alerts.end(slot, gone.at, outcome)
            state = int(self.devices.table["state"][slot])
            self.forget(slot)
            last = STATES[state] if state >= 0 else None
            outcome.events.append(DeviceForgotten(self.spec.name, gone.device, last))
            outcome.touched = np.array([slot], dtype=np.int64)
        return outcome

    def forget(self, slot: int) -> None:
        """Remove a device from memory; its slot is used again."""
        place, row = (int(self.devices.table[name][slot]) for name in ("layout", "row"))
        if place >= 0:
            self.layouts[place].table.remove(row)
        self._alerts.forget(slot)
        self.devices.remove(slot)

    def idle_devices(self, limit: int) -> list[int]:
        """Return slots of devices that nothing but their own readings can change, the longest unheard first.

        They can be forgotten, and restored before their next reading, without anybody noticing: they
        have no alert, nor the beginnings of one, and no tick can make them silent.
        """
        table = self.devices.table
        heard = table["heard"][: table.size]
        idle = (heard != NEVER) & ~self._alerts.busy(table.size)
        if self.spec.silence_at_least is not None:
            idle &= table["arrivals"][: table.size] < CADENCE_KNOWN
        slots = np.flatnonzero(idle)
        found: list[int] = slots[np.argsort(heard[slots], kind="stable")[:limit]].tolist()
        return found

    def open_alerts(self) -> list[OpenAlert]:
        """Return the open alerts as they were last told."""
        return self._alerts.open_alerts()

    def reconcile(self, open_alerts: Sequence[OpenAlert]) -> int:
        """Let the open alerts be these, as they were told and stored, without an event.

        After a replay they are, unless the code or the configuration has changed: then what was told
        wins, and an alert that is open for others but not here ends as usual. A device that nobody
        knows any more gets a blank slot.

        Returns:
            How many alerts were not as they should be.
        """
        told = {}
        for alert in open_alerts:
            if alert.stream == self.spec.name:
                slot = self.devices.slot_of.get(alert.device)
                told[self.devices.add(alert.device, {}) if slot is None else slot, alert.kind] = alert
        return self._alerts.reconcile(told)

    def census(self) -> dict[str, int]:
        """Return how many devices are in each of `STATES`; devices without a state yet are in none."""
        states = self.devices.table["state"]
        numbers = np.bincount(states[states >= 0], minlength=len(STATES)).tolist()
        return dict(zip(STATES, numbers, strict=True))

    def _settle(self, batch: ScoredBatch, accepted: NDArray[np.int64]) -> None:
        """Move devices that report something new to layouts that have all their channels.

        All move before any reading is taken in: to the readings before, a channel that a device
        does not have yet is one that they do not report.
        """
        columns = batch.readings.columns
        layout_of_slot = self.devices.table["layout"]
        layout_of = layout_of_slot[batch.slots[accepted]].astype(np.int64)
        # The pairs of a layout and a column set that meet here: a handful, whatever the batch.
        pair = layout_of * len(columns) + batch.readings.shapes[accepted]
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

    def _fits(self, place: int, names: tuple[str, ...]) -> bool:
        if place < 0:
            return False
        # Declared channels are all there is; what else a device reports is not looked at.
        return bool(self.spec.channels) or all(name in self.layouts[place].place for name in names)

    def _move(self, slot: int, names: tuple[str, ...], i: int, batch: ScoredBatch) -> None:
        """Give a device a row in the layout that has all its channels, those of reading i too."""
        table = self.devices.table
        place = int(table["layout"][slot])
        before = self.layouts[place].channels if place >= 0 else ()
        channels = tuple(self.spec.channels) or tuple(sorted({*before, *names}))
        old_row = int(table["row"][slot])
        target, row = self._enter(slot, channels)
        if place >= 0:
            old = self.layouts[place]
            places = np.array([target.place[name] for name in old.channels], dtype=np.int64)
            old.table.copy_row(old_row, target.table, row, places)
            # The new channel's ring holds no values yet.
            fresh = [target.place[name] for name in channels if name not in old.place]
            target.table["ring"][row, fresh] = np.nan
            old.table.remove(old_row)
            device, at = self.devices.names[slot], int(batch.readings.ts[i])
            batch.added[i] = [ChannelAdded(self.spec.name, device, channels[place], at) for place in fresh]

    def _enter(self, slot: int, channels: tuple[str, ...]) -> tuple[Layout, int]:
        """Give a device a blank row in the layout with these channels."""
        place = self._layout(channels)
        row = self.layouts[place].table.add()
        self.devices.table["layout"][slot], self.devices.table["row"][slot] = place, row
        return self.layouts[place], row

    def _layout(self, channels: tuple[str, ...]) -> int:
        if channels not in self._layout_of:
            self._layout_of[channels] = len(self.layouts)
            self.layouts.append(
                Layout(
                    channels,
                    self.spec.window,
                    self.spec.channels,
                    self.detector,
                    watch_stuck=self.spec.watch_stuck,
                )
            )
        return self._layout_of[channels]

    def _by_layout(
        self,
        readings: Readings,
        offsets: NDArray[np.int64],
        slots: NDArray[np.int32],
        places: NDArray[np.int64],
    ) -> Iterator[tuple[Layout, NDArray[np.int64], NDArray[np.float64]]]:
        """Group readings by layout and lay their values out as rows (m, channels)."""
        for number, members in _groups(self.devices.table["layout"][slots[places]]):
            layout = self.layouts[number]
            part = places[members]
            yield layout, part, _rows(readings, offsets, part, layout)

    def _channel_hashes(
        self, columns: tuple[tuple[str, ...], ...]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        if columns == self._hashed[0]:  # as in most batches
            return self._hashed[1:]
        hash_of = self._hash_of
        for names in columns:
            for name in names:
                if name not in hash_of:
                    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
                    hash_of[name] = int.from_bytes(digest, "little")
        hashes = np.array([hash_of[name] for names in columns for name in names], dtype=np.uint64)
        widths = [len(names) for names in columns]
        starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64)
        self._hashed = columns, hashes, starts
        return hashes, starts


def _distinct(slots: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the different slots of a batch, (k,); numpy's `unique` takes six times as long."""
    if len(slots) == 1:  # as in most batches while it is quiet
        return slots.astype(np.int64)
    ordered = np.sort(slots)
    new = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new].astype(np.int64)


def _rows(
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
