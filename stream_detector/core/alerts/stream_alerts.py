"""From verdicts to events: the one place with a loop over single readings.

It looks only at readings that can change something: anomalous ones, those of devices with an open
alert or a recent anomaly, and a device's first score.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.alerts import explanation as description
from stream_detector.core.alerts import sentences as explain
from stream_detector.core.alerts.machine import Alert, Observation, Track, changes_nothing, kept, over, step
from stream_detector.core.devices.snapshot import OpenAlert
from stream_detector.core.events import (
    KINDS,
    SEVERITIES,
    STATES,
    ActiveAlert,
    AlertChanged,
    AlertSuppressed,
    DeviceStateChanged,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.alerts.explanation import Description
    from stream_detector.core.alerts.policy import AlertPolicy
    from stream_detector.core.devices.registry import Devices
    from stream_detector.core.devices.snapshot import DeviceState, PublishedAlerts
    from stream_detector.core.events import AlertEvent, Kind, Outcome
    from stream_detector.core.records import Acknowledged
    from stream_detector.core.scoring.batch import ScoredBatch
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.spec import StreamSpec

NEW = -1
WARMING_UP, OK, ALERTING, SILENT = range(len(STATES))


class StreamAlerts:
    """The alert machines of one stream.

    Args:
        spec: What is configured.
        devices: Its devices; their `state`, `warm` and `open` columns are kept here.
    """

    def __init__(self, spec: StreamSpec, devices: Devices) -> None:
        self._spec = spec
        self._devices = devices
        self._tracks: dict[tuple[int, Kind], Track] = {}
        self._told: dict[int, PublishedAlerts] = {}
        self._owners: dict[str, int] = {}  # slots by id of an alert, as they were some time ago
        self._marked = np.zeros(0, dtype=np.bool_)

    def use(self, detector: Detector, policy: AlertPolicy) -> None:
        """Judge by this detector's verdicts from now on."""
        self._detector = detector
        at_once = policy.at_once()
        self._policies: Mapping[Kind, AlertPolicy] = {
            "point": policy,
            "range": at_once,
            "stuck": at_once,
            "silence": replace(at_once, clear_after=1),
        }

    def readings(self, batch: ScoredBatch, accepted: NDArray[np.int64], outcome: Outcome) -> None:
        """Step the machines of a batch, in arrival order."""
        table = self._devices.table
        slots = batch.slots[accepted]
        hot = batch.anomalous[accepted] | (batch.beyond[accepted] >= 1.0) | (batch.stuck[accepted] >= 1.0)
        if len(self._marked) < len(table["open"]):
            self._marked = np.zeros(len(table["open"]), dtype=np.bool_)
        marked = self._marked
        marked[slots[hot]] = True
        first_score = ~table["warm"][slots] & ~np.isnan(batch.score[accepted])
        look = marked[slots] | table["open"][slots] | first_score | (table["state"][slots] == NEW)
        marked[slots[hot]] = False
        if batch.added:
            look |= np.isin(accepted, list(batch.added))
        for i in accepted[look].tolist():
            outcome.events.extend(batch.added.get(i, ()))
            self._reading(batch, i, outcome)

    def tick(self, at: int, scores: NDArray[np.float64], outcome: Outcome) -> None:
        """Raise, update and end silence alerts; forget what no relapse can open again.

        Args:
            at: Service clock, µs.
            scores: Quiet time / allowed quiet time of each slot.
            outcome: Gets the events, and the slots where something changed.
        """
        # What was silent and is not any more has been heard, but only with late readings and
        # duplicates: an accepted one would have ended the silence.
        waiting = {slot for slot, kind in self._tracks if kind == "silence" and self._waits(slot, kind)}
        slots = waiting.union(np.flatnonzero(scores >= 1.0).tolist())
        touched = [
            slot
            for slot in sorted(slots, key=self._age)
            if self._silence(slot, at, float(scores[slot]), outcome)
        ]
        outcome.touched = np.array(touched, dtype=np.int64)
        for slot, kind in [key for key, track in self._tracks.items() if track.idle]:
            if over(self._tracks[slot, kind], self._oldest(slot), self._policies[kind]):
                del self._tracks[slot, kind]

    def active(self, slot: int) -> tuple[ActiveAlert, ...]:
        """Return a device's open alerts."""
        found = [(kind, self._tracks[slot, kind].open) for kind in KINDS if (slot, kind) in self._tracks]
        return tuple(
            ActiveAlert(alert.id, kind, alert.severity, alert.started_at, alert.acknowledged)
            for kind, alert in found
            if alert
        )

    def slot_of_alert(self, alert_id: str) -> int | None:
        """Return whose open alert has an id."""
        slot = self._owners.get(alert_id)
        if slot is None or all(alert.id != alert_id for alert in self.active(slot)):
            # Kept between two calls, not with each alert: a storm is acknowledged in one go, if at all.
            self._owners = {track.open.id: slot for (slot, _), track in self._tracks.items() if track.open}
            slot = self._owners.get(alert_id)
        return slot

    def acknowledge(self, slot: int, said: Acknowledged, outcome: Outcome) -> None:
        """Note that a person has seen an alert, once, while it is open."""
        for kind in KINDS:
            alert = self._open(slot, kind)
            if alert is not None and alert.id == said.id and not alert.acknowledged:
                alert.acknowledged = True
                alert.seq += 1
                alert.published_peak = alert.peak
                details = description.of_words(explain.acknowledged(said.by, said.comment), alert.peak)
                observation = Observation(said.at, alert.started_at, 0, alert.peak, anomalous=True)
                outcome.events.append(self._changed("ack", alert, observation, kind, slot, said.at, details))
                self._follow(slot, said.at, None, outcome)

    def end(self, slot: int, at: int, outcome: Outcome) -> None:
        """End the alerts of a device that is about to be forgotten; the service clock is `at`."""
        for kind in KINDS:
            alert = self._open(slot, kind)
            if alert is not None:
                alert.seq += 1
                alert.ended_at = at
                details = description.of_words("the device was forgotten", 0.0)
                observation = Observation(at, alert.started_at, 0, 0.0, anomalous=False)
                outcome.events.append(self._changed("clear", alert, observation, kind, slot, at, details))

    def told(self, slot: int) -> DeviceStateChanged | None:
        """Return a device's state as it stands, for those who have missed it; None: it was never told."""
        state = int(self._devices.table["state"][slot])
        if state == NEW:
            return None
        newest = int(self._devices.table["newest"][slot])
        return self._device_state(slot, state, self.active(slot), None, newest)

    def memory(self, slot: int) -> tuple[dict[Kind, Track], PublishedAlerts]:
        """Return copies of a device's machines that hold something, by kind, and what was told."""
        found = {kind: self._tracks[slot, kind] for kind in KINDS if (slot, kind) in self._tracks}
        return self._kept(slot, found), self._told.get(slot, ())

    def restore(self, slot: int, state: DeviceState) -> None:
        """Take a device's machines and what was told back; the rest of the device is there already."""
        for kind, track in self._kept(slot, state.tracks).items():
            self._tracks[slot, kind] = track
        if state.told:
            self._told[slot] = state.told

    def forget(self, slot: int) -> None:
        """Drop a device's machines."""
        for kind in KINDS:
            self._tracks.pop((slot, kind), None)
        self._told.pop(slot, None)

    def busy(self, size: int) -> NDArray[np.bool_]:
        """Return which slots have a machine that holds something, (size,)."""
        out = np.zeros(size, dtype=np.bool_)
        out[[slot for slot, _ in self._tracks]] = True
        return out

    def open_alerts(self) -> list[OpenAlert]:
        """Return the open alerts as they were last told."""
        return [
            OpenAlert(
                stream=self._spec.name,
                device=self._devices.names[slot],
                kind=kind,
                id=track.open.id,
                seq=track.open.seq,
                started_at=track.open.started_at,
                severity=track.open.severity,
                peak=track.open.published_peak,
                published_at=track.open.published_at,
                acknowledged=track.open.acknowledged,
            )
            for (slot, kind), track in self._tracks.items()
            if track.open
        ]

    def reconcile(self, told: Mapping[tuple[int, Kind], OpenAlert]) -> int:
        """Let the open alerts be these, without an event; return how many were not."""
        changed = set()
        for key in [key for key, track in self._tracks.items() if track.open]:
            if key not in told:
                del self._tracks[key]  # its anomalies too: they would raise an alert of that id again
                changed.add(key)
        for key, alert in told.items():
            here = self._tracks[key].open if key in self._tracks else None
            if here is None or (here.id, here.seq) != (alert.id, alert.seq):
                self._tracks[key] = Track(alert=_alert(alert))
                changed.add(key)
        table = self._devices.table
        for slot in {slot for slot, _ in changed}:
            active = self.active(slot)
            table["open"][slot] = any(self._waits(slot, kind) for kind in KINDS)
            table["state"][slot] = self._state(slot, active)
            self._tell(slot, active)
        return len(changed)

    def _age(self, slot: int) -> tuple[int, str]:
        """Return what orders devices in one instant: slots differ from process to process."""
        return self._devices.last_identity(slot)[0], self._devices.names[slot]

    def _kept(self, slot: int, tracks: Mapping[Kind, Track]) -> dict[Kind, Track]:
        oldest = self._oldest(slot)
        copies = {kind: kept(track, oldest, self._policies[kind]) for kind, track in tracks.items()}
        return {kind: track for kind, track in copies.items() if track is not None}

    def _oldest(self, slot: int) -> int:
        """Return a time that no reading of a device that is still accepted is older than."""
        return int(self._devices.table["newest"][slot]) - self._spec.lateness

    def _silence(self, slot: int, at: int, score: float, outcome: Outcome) -> bool:
        """Judge a device at a tick; return whether that changed anything."""
        table, first_event = self._devices.table, len(outcome.events)
        silent = score >= 1.0
        ts, identity = self._devices.last_identity(slot)
        observation = Observation(at, ts, identity, score if silent else 0.0, silent)
        track = self._tracks.get((slot, "silence"))
        if silent and track and changes_nothing(track, observation, self._policies["silence"]):
            return False  # silence lasts for days: it is remembered as it was told, not as it grows
        stepped = self._step(slot, "silence", observation, outcome)
        if stepped:
            details = description.of_silence(
                quiet=float(at - table["heard"][slot] - table["unheard"][slot]) if silent else 0.0,
                cadence=float(table["cadence"][slot]),
                arrivals=int(table["arrivals"][slot]),
                at_least=self._spec.silence_at_least or 0,
            )
            outcome.events.append(self._changed(*stepped, observation, "silence", slot, at, details))
        table["open"][slot] = any(self._waits(slot, kind) for kind in KINDS)
        if len(outcome.events) > first_event:
            self._follow(slot, at, None, outcome)
        return True

    def _reading(self, batch: ScoredBatch, i: int, outcome: Outcome) -> None:
        table, first_event = self._devices.table, len(outcome.events)
        slot, ts = int(batch.slots[i]), int(batch.readings.ts[i])
        score = float(batch.score[i])
        verdicts: list[tuple[Kind, float, bool]] = [
            ("range", float(batch.beyond[i]), bool(batch.beyond[i] >= 1.0)),
            ("stuck", float(batch.stuck[i]), bool(batch.stuck[i] >= 1.0)),
            ("silence", 0.0, False),
        ]
        scored = not math.isnan(score)
        first = bool(table["state"][slot] == NEW or (scored and not table["warm"][slot]))
        if scored:
            verdicts.insert(0, ("point", score, bool(batch.anomalous[i])))
            table["warm"][slot] = True
        elif self._open(slot, "point"):  # which would stay so if the device never had a score again
            verdicts.insert(0, ("point", 0.0, False))
        for kind, kind_score, anomalous in verdicts:
            if not anomalous and not self._waits(slot, kind):
                continue
            observation = Observation(ts, ts, int(batch.identity[i]), kind_score, anomalous)
            stepped = self._step(slot, kind, observation, outcome)
            if stepped is None:
                continue
            event, alert = stepped
            if kind == "silence":  # which a reading can only end
                details = description.of_silence(
                    quiet=0.0,
                    cadence=float(batch.acceptance.cadence[i]),
                    arrivals=int(batch.acceptance.arrivals[i]),
                    at_least=self._spec.silence_at_least or 0,
                )
            else:
                part, place = batch.details(i)
                over = self._policies[kind].clear_after if event == "clear" else None
                details = description.of_reading(kind, part, place, over=over)
            received_at = int(batch.readings.arrival[i])
            outcome.events.append(self._changed(event, alert, observation, kind, slot, received_at, details))
        table["open"][slot] = any(self._waits(slot, kind) for kind in KINDS)
        if first or len(outcome.events) > first_event:  # else the state is as it was
            self._follow(slot, ts, score if scored else None, outcome)

    def _waits(self, slot: int, kind: Kind) -> bool:
        """Return whether a normal reading would change something."""
        track = self._tracks.get((slot, kind))
        return track is not None and not track.idle

    def _open(self, slot: int, kind: Kind) -> Alert | None:
        track = self._tracks.get((slot, kind))
        return None if track is None else track.open

    def _changed(
        self,
        event: AlertEvent,
        alert: Alert,
        observation: Observation,
        kind: Kind,
        slot: int,
        received_at: int,
        details: Description,
    ) -> AlertChanged:
        return AlertChanged(
            event=event,
            id=alert.id,
            seq=alert.seq,
            kind=kind,
            stream=self._spec.name,
            device=self._devices.names[slot],
            tags=self._devices.tags.get(slot, {}),
            severity=alert.severity,
            score=observation.score,
            peak_score=alert.peak,
            raw_score=details.raw_score,
            threshold=details.threshold,
            confidence=details.confidence,
            started_at=alert.started_at,
            updated_at=observation.at,
            ended_at=alert.ended_at,
            received_at=received_at,
            values=details.values,
            expected=details.expected,
            contributions=details.contributions,
            reason=details.reason,
            model_name=self._detector.name,
            model_version=self._detector.version,
            acknowledged=alert.acknowledged,
        )

    def _step(
        self, slot: int, kind: Kind, observation: Observation, outcome: Outcome
    ) -> tuple[AlertEvent, Alert] | None:
        track = self._tracks.get((slot, kind))
        if track is None:
            track = self._tracks[slot, kind] = Track()
        held_before = track.held_back
        name = (self._spec.name, self._devices.names[slot], kind)
        event = step(track, observation, self._policies[kind], name)
        if track.held_back and not held_before:
            outcome.events.append(AlertSuppressed(self._spec.name, name[1], kind, "min_severity"))
        if event is None or track.alert is None:
            return None
        return event, track.alert

    def _follow(self, slot: int, at: int, score: float | None, outcome: Outcome) -> None:
        """Keep the device's state, and say so where it changed."""
        table = self._devices.table
        active = self.active(slot)
        before, state = int(table["state"][slot]), self._state(slot, active)
        if not self._tell(slot, active) and state == before:
            return
        table["state"][slot] = state
        outcome.events.append(self._device_state(slot, before, active, score, at))

    def _device_state(
        self, slot: int, before: int, active: tuple[ActiveAlert, ...], score: float | None, at: int
    ) -> DeviceStateChanged:
        return DeviceStateChanged(
            stream=self._spec.name,
            device=self._devices.names[slot],
            tags=self._devices.tags.get(slot, {}),
            state=STATES[self._devices.table["state"][slot]],
            previous=None if before == NEW else STATES[before],
            severity=max((alert.severity for alert in active), key=SEVERITIES.index, default=None),
            score=score,
            active=active,
            updated_at=at,
        )

    def _state(self, slot: int, active: tuple[ActiveAlert, ...]) -> int:
        if any(alert.kind == "silence" for alert in active):
            return SILENT
        if active:
            return ALERTING
        return OK if self._devices.table["warm"][slot] else WARMING_UP

    def _tell(self, slot: int, active: tuple[ActiveAlert, ...]) -> bool:
        """Note the open alerts as told; return whether that is news."""
        told = tuple((alert.id, alert.severity, alert.acknowledged) for alert in active)
        if told == self._told.get(slot, ()):
            return False
        if told:
            self._told[slot] = told
        else:
            del self._told[slot]
        return True


def _alert(told: OpenAlert) -> Alert:
    """Return an open alert as it was last told."""
    return Alert(
        id=told.id,
        seq=told.seq,
        started_at=told.started_at,
        severity=told.severity,
        peak=told.peak,
        published_at=told.published_at,
        published_peak=told.peak,
        acknowledged=told.acknowledged,
    )
