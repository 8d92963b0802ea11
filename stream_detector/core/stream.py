"""One stream: its devices, their layouts, and the way of a batch through them.

    names -> slots -> new? -> layouts (windows, detector, rules) -> alert machine -> events

Only the alert machine loops over single readings, and only over those that can change something:
anomalous ones, those of devices with something open, and a device's first score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.alerts.stream_alerts import StreamAlerts
from stream_detector.core.devices.acceptance import (
    ACCEPTED,
    DUPLICATE,
    LATE,
    Identities,
    accept,
)
from stream_detector.core.devices.pauses import KNOWN
from stream_detector.core.devices.registry import NEVER, Devices
from stream_detector.core.devices.snapshot import DeviceState
from stream_detector.core.devices.snapshot_rows import Rows, check
from stream_detector.core.events import STATES, DeviceForgotten, Outcome
from stream_detector.core.records import ROLES
from stream_detector.core.scoring import rules
from stream_detector.core.scoring.batch import ScoredBatch
from stream_detector.core.scoring.placement import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.core.devices.snapshot import OpenAlert
    from stream_detector.core.events import DeviceStateChanged
    from stream_detector.core.records import Acknowledged, Forgotten, Readings, Role
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.scoring.layouts import Layout
    from stream_detector.core.spec import StreamSpec


class Stream:
    """All state of one stream.

    Args:
        spec: What is configured.
        detector: The live one; `use` names others.
    """

    def __init__(self, spec: StreamSpec, detector: Detector) -> None:
        self.spec = spec
        self.devices = Devices()
        self.detectors: dict[Role, tuple[Detector, int]] = {"live": (detector, 0)}
        self._placement = Placement(spec, self.devices, {"live": detector})
        self._identities = Identities()
        self._alerts = StreamAlerts(spec, self.devices)
        self._rows = Rows(self.devices.table, self._placement.layouts, self.detectors)
        self._alerts.use(self.detectors)

    @property
    def detector(self) -> Detector:
        """Return the live detector."""
        return self.detectors["live"][0]

    def use(self, role: Role, detector: Detector | None, since: int) -> None:
        """Score with another detector in a role from now on.

        Args:
            role: One of `ROLES`.
            detector: None: nobody has the role any more.
            since: This instant of the service clock, µs.

        Raises:
            ValueError: A stream without a live detector was asked for.
        """
        if detector is None and role == "live":
            raise ValueError(f"stream {self.spec.name} cannot be without a live detector")
        self.detectors.pop(role, None)
        if detector is not None:
            self.detectors[role] = detector, since
        ordered = {each: self.detectors[each] for each in ROLES if each in self.detectors}
        self.detectors.clear()
        self.detectors.update(ordered)
        self._placement.use(role, detector)
        self._rows.detectors_changed()
        self._alerts.use(self.detectors)

    @property
    def layouts(self) -> list[Layout]:
        """Return the layouts that devices stand in, or stood in."""
        return self._placement.layouts

    def place_of(self, device: str) -> tuple[Layout, int] | None:
        """Return a device's layout and its row there; None: it is not known, or has none yet."""
        slot = self.devices.slot_of.get(device)
        return None if slot is None else self._placement.of(slot)

    def channels_of(self, device: str) -> tuple[str, ...]:
        """Return the channels known of a device, () where it is new."""
        found = self.place_of(device)
        return found[0].channels if found else ()

    def process(self, readings: Readings) -> Outcome:
        """Take a batch in; see `stream_detector.core.pipeline.Pipeline.process`."""
        outcome = Outcome()
        slots = self.devices.slots(readings.devices, readings.tags)
        offsets = readings.offsets()
        identity = self._identities.of(readings, offsets)
        acceptance = accept(
            self.devices.table, slots, readings, identity, self.spec.lateness, self.spec.silence_at_least or 0
        )
        accepted = np.flatnonzero(acceptance.verdict == ACCEPTED)

        batch = ScoredBatch.blank(readings, slots, identity, acceptance)
        self._placement.settle(batch, accepted)
        for layout, part, rows, values in self._placement.parts(batch, offsets, accepted):
            batch.fill(part, layout.process(rows, values, readings.ts[part]))
        judged = accepted
        if len(accepted) < len(readings):
            late = self._late(batch, offsets)
            judged = np.sort(np.concatenate([accepted, late])) if len(late) else accepted
        self._alerts.readings(batch, judged, outcome)

        outcome.scored = accepted[~np.isnan(batch.score[accepted])]
        outcome.scores = batch.score[outcome.scored]
        if len(self.detectors) > 1:
            outcome.others = {role: batch.scores(role) for role in self.detectors if role != "live"}
        counts = outcome.counts
        counts.scored = len(outcome.scored)
        counts.warming_up = len(accepted) - counts.scored
        if len(accepted) < len(readings):
            counts.late = int(np.count_nonzero(acceptance.verdict == LATE))
            counts.duplicate = int(np.count_nonzero(acceptance.verdict == DUPLICATE))
        counts.missing_seq = int(acceptance.missing[0])
        outcome.touched = _distinct(slots)
        return outcome

    def _late(self, batch: ScoredBatch, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Judge the late readings of a batch by their limits; return their places."""
        late = np.flatnonzero(batch.acceptance.verdict == LATE)
        # A device that was restored without its window has no layout until its next reading is accepted.
        late = late[self.devices.table["layout"][batch.slots[late]] >= 0]
        for layout, part, rows, values in self._placement.parts(batch, offsets, late):
            batch.fill(part, layout.look_at(rows, values))
        return late

    def tick(self, at: int) -> Outcome:
        """Judge silence at an instant of the service clock."""
        outcome = Outcome()
        table = self.devices.table
        scores = np.zeros(table.size)
        if self.spec.silence_at_least is not None:
            scores = rules.silent(table.arrays, table.size, at, self.spec.silence_at_least)
        self._alerts.tick(at, scores, outcome)
        return outcome

    def next_tick(self) -> int | None:
        """Return an instant before which no tick changes what is silent already; None: no tick does."""
        return self._alerts.next_tick()

    def miss(self, start: int, stop: int, slots: NDArray[np.int64] | None = None) -> None:
        """Note that nobody could be heard from one instant to another; see `Devices.miss`."""
        self.devices.miss(start, stop, slots)

    def state_of(self, slot: int) -> DeviceState:
        """Return everything that is known of a device, as a value that later records do not change."""
        tracks, published = self._alerts.memory(slot)
        return DeviceState(
            device=self.devices.names[slot],
            tags=self.devices.tags.get(slot, {}),
            layout=self._rows.meaning(slot),
            row=self._rows.read(slot),
            tracks=tracks,
            published=published,
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
            self._placement.enter(slot, state.layout.channels)
        self._rows.write(slot, state)
        self._alerts.restore(slot, state)
        return slot

    def published_state(self, device: str) -> DeviceStateChanged | None:
        """Return a device's state as it stands, without its score; None: it was never published."""
        slot = self.devices.slot_of.get(device)
        return None if slot is None else self._alerts.state(slot)

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
        self._placement.leave(slot)
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
            idle &= table["arrivals"][: table.size] < KNOWN
        slots = np.flatnonzero(idle)
        found: list[int] = slots[np.argsort(heard[slots], kind="stable")[:limit]].tolist()
        return found

    def open_alerts(self) -> list[OpenAlert]:
        """Return the open alerts as they were last published."""
        return self._alerts.open_alerts()

    def reconcile(self, open_alerts: Sequence[OpenAlert]) -> int:
        """Let the open alerts be these, as they were published, without an event.

        After a replay they are, unless the code or the configuration has changed: then what was
        published wins, and an alert that is open for others but not here ends as usual. A device that nobody
        knows any more gets a blank slot.

        Returns:
            How many alerts were not as they should be.
        """
        published = {}
        for alert in open_alerts:
            if alert.stream == self.spec.name:
                slot = self.devices.slot_of.get(alert.device)
                published[self.devices.add(alert.device, {}) if slot is None else slot, alert.kind] = alert
        return self._alerts.reconcile(published)

    def census(self) -> dict[str, int]:
        """Return how many devices are in each of `STATES`; devices without a state yet are in none."""
        states = self.devices.table["state"]
        numbers = np.bincount(states[states >= 0], minlength=len(STATES)).tolist()
        return dict(zip(STATES, numbers, strict=True))


def _distinct(slots: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the different slots of a batch, (k,); numpy's `unique` takes six times as long."""
    if len(slots) == 1:  # as in most batches while it is quiet
        return slots.astype(np.int64)
    ordered = np.sort(slots)
    new = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new].astype(np.int64)
