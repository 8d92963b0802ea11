"""From verdicts to events: the one place with a loop over single readings.

It looks only at readings that can change something: anomalous ones, those of devices with an open
alert or a recent anomaly, and a device's first score.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.alerts import explanation, sentences
from stream_detector.core.alerts.device_states import NEW, DeviceStates
from stream_detector.core.alerts.machine import Step, changes_nothing, kept, over, step
from stream_detector.core.alerts.next_tick import next_tick
from stream_detector.core.alerts.observing import observe
from stream_detector.core.alerts.policy import STORM, STORM_US, policy_of
from stream_detector.core.alerts.track import DEVICE, Alert, Judgement, Observation, Track
from stream_detector.core.devices.registry import NEVER
from stream_detector.core.events import KINDS, ActiveAlert, AlertChanged, AlertSuppressed
from stream_detector.core.scoring.rules import MOSTLY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.alerts.explanation import Explanation
    from stream_detector.core.devices.registry import Devices
    from stream_detector.core.devices.snapshot import DeviceState, OpenAlert, PublishedAlerts
    from stream_detector.core.events import DeviceStateChanged, Kind, Outcome
    from stream_detector.core.records import Acknowledged, Role
    from stream_detector.core.scoring.batch import ScoredBatch
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.spec import StreamSpec


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
        self._states = DeviceStates(spec.name, devices)
        self._owners: dict[str, int] = {}  # slots by id of an alert, as they were some time ago
        self._marked = np.zeros(0, dtype=np.bool_)

    def use(self, detectors: Mapping[Role, tuple[Detector, int]]) -> None:
        """Take the verdicts of these detectors from now on; each has its own N of M for point alerts."""
        self._detectors = {role: detector for role, (detector, _) in detectors.items()}
        policy = self._spec.policy
        if self._spec.own_raise_after:
            policy = replace(
                policy, of_roles={role: each.raise_after for role, each in self._detectors.items()}
            )
        self._policies = {kind: policy_of(kind, policy) for kind in KINDS}

    def readings(self, batch: ScoredBatch, judged: NDArray[np.int64], outcome: Outcome) -> None:
        """Step the machines of a batch, in arrival order: readings at these places, late ones among them."""
        table = self._devices.table
        if len(judged) == 1:  # as in most batches while it is quiet; what follows takes 10 µs for it
            i = int(judged[0])
            if self._can_change(batch, i):
                outcome.events.extend(batch.added.get(i, ()))
                self._reading(batch, i, outcome)
            return
        slots = batch.slots[judged]
        hot = batch.anomalous[judged] | (batch.beyond[judged] >= 1.0) | (batch.stuck[judged] >= 1.0)
        hot |= batch.acceptance.late[judged] >= MOSTLY
        if len(self._marked) < len(table["open"]):
            self._marked = np.zeros(len(table["open"]), dtype=np.bool_)
        marked = self._marked
        marked[slots[hot]] = True
        first_score = ~table["warm"][slots] & ~np.isnan(batch.score[judged])
        look = marked[slots] | table["open"][slots] | first_score | (table["state"][slots] == NEW)
        marked[slots[hot]] = False
        if batch.added:
            look |= np.isin(judged, list(batch.added))
        for i in judged[look].tolist():
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

    def next_tick(self) -> int | None:
        """Return an instant before which no tick changes a silence that is known; None: no tick does."""
        silences = {slot: track for (slot, kind), track in self._tracks.items() if kind == "silence"}
        return next_tick(
            silences, self._devices.table, self._policies["silence"], self._spec.silence_at_least or 0
        )

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
                details = explanation.of_words(sentences.acknowledged(said.by, said.comment), alert.peak)
                seen = _words(said.at, alert, alert.peak)
                outcome.events.append(self._changed(Step("ack", "live"), alert, seen, kind, slot, details))
                self._states.follow(slot, self.active(slot), said.at, None, outcome)

    def end(self, slot: int, at: int, outcome: Outcome) -> None:
        """End the alerts of a device that is about to be forgotten; the service clock is `at`."""
        for kind in KINDS:
            alert = self._open(slot, kind)
            if alert is not None:
                alert.seq += 1
                alert.ended_at = at
                details = explanation.of_words("the device was forgotten", 0.0)
                seen, stepped = _words(at, alert, 0.0), Step("clear", "live", "forgotten")
                outcome.events.append(self._changed(stepped, alert, seen, kind, slot, details))

    def state(self, slot: int) -> DeviceStateChanged | None:
        """Return a device's state as it stands, for who has missed it; None: it was never published."""
        return self._states.now(slot, self.active(slot))

    def memory(self, slot: int) -> tuple[dict[Kind, Track], PublishedAlerts]:
        """Return copies of a device's machines that hold something, by kind, and what was published."""
        found = {kind: self._tracks[slot, kind] for kind in KINDS if (slot, kind) in self._tracks}
        return self._kept(slot, found), self._states.published(slot)

    def restore(self, slot: int, state: DeviceState) -> None:
        """Take a device's machines and what was published back; the rest of the device is there already."""
        for kind, track in self._kept(slot, state.tracks).items():
            self._tracks[slot, kind] = track
        self._states.restore(slot, state.published)

    def forget(self, slot: int) -> None:
        """Drop a device's machines."""
        for kind in KINDS:
            self._tracks.pop((slot, kind), None)
        self._states.forget(slot)

    def busy(self, size: int) -> NDArray[np.bool_]:
        """Return which slots have a machine that holds something, (size,)."""
        out = np.zeros(size, dtype=np.bool_)
        out[[slot for slot, _ in self._tracks]] = True
        return out

    def open_alerts(self) -> list[OpenAlert]:
        """Return the open alerts as they were last published."""
        stream, names = self._spec.name, self._devices.names
        return [
            track.open.as_published(stream, names[slot], kind)
            for (slot, kind), track in self._tracks.items()
            if track.open
        ]

    def reconcile(self, published: Mapping[tuple[int, Kind], OpenAlert]) -> int:
        """Let the open alerts be these, without an event; return how many were not."""
        changed = set()
        for key in [key for key, track in self._tracks.items() if track.open]:
            if key not in published:
                del self._tracks[key]  # its anomalies too: they would raise an alert of that id again
                changed.add(key)
        for key, alert in published.items():
            here = self._tracks[key].open if key in self._tracks else None
            if here is None or (here.id, here.seq) != (alert.id, alert.seq):
                self._tracks[key] = Track.published(alert)
                changed.add(key)
        table = self._devices.table
        for slot in {slot for slot, _ in changed}:
            table["open"][slot] = self._any_waits(slot)
            self._states.take_over(slot, self.active(slot))
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
        judged = Judgement(DEVICE, score if silent else 0.0, silent)
        observation = Observation(at, ts, identity, at, (judged,))
        track = self._tracks.get((slot, "silence"))
        if silent and track and changes_nothing(track, observation, self._policies["silence"]):
            return False  # silence lasts for days: it is remembered as it was published, not as it grows
        stepped = self._step(slot, "silence", observation, outcome)
        if stepped:
            details = explanation.of_silence(
                quiet=float(at - table["heard"][slot] - table["unheard"][slot]) if silent else 0.0,
                cadence=float(table["cadence"][slot]),
                allowed=float(table["allowed"][slot]),
                arrivals=int(table["arrivals"][slot]),
                at_least=self._spec.silence_at_least or 0,
            )
            outcome.events.append(self._changed(*stepped, observation, "silence", slot, details))
        table["open"][slot] = self._any_waits(slot)
        if len(outcome.events) > first_event:
            self._states.follow(slot, self.active(slot), at, None, outcome)
        return True

    def _can_change(self, batch: ScoredBatch, i: int) -> bool:
        """Return whether reading i, alone in its batch, can change something; see `readings`."""
        table, slot = self._devices.table, batch.slots[i]
        return bool(
            batch.anomalous[i]
            or batch.beyond[i] >= 1.0
            or batch.stuck[i] >= 1.0
            or batch.acceptance.late[i] >= MOSTLY
            or table["open"][slot]
            or table["state"][slot] == NEW
            or not (table["warm"][slot] or math.isnan(batch.score[i]))
            or i in batch.added
        )

    def _reading(self, batch: ScoredBatch, i: int, outcome: Outcome) -> None:
        table, first_event = self._devices.table, len(outcome.events)
        slot, ts = int(batch.slots[i]), int(batch.readings.ts[i])
        score = float(batch.score[i])
        scored = not math.isnan(score)
        first = bool(table["state"][slot] == NEW or (scored and not table["warm"][slot]))
        if scored:
            table["warm"][slot] = True
        for kind in self._asked(batch, i, slot):
            held_by = int(table["late_beyond"][slot])
            observation = observe(kind, batch, i, self._tracks.get((slot, kind)), held_by)
            if observation is None:
                continue
            if observation.anomalous and kind == "range":
                table["late_beyond"][slot] = max(ts, held_by) if observation.late else NEVER
            stepped = self._step(slot, kind, observation, outcome)
            if stepped is not None:
                outcome.events.append(self._event_of_reading(kind, *stepped, observation, batch, i))
        table["open"][slot] = self._any_waits(slot)
        if first or len(outcome.events) > first_event:  # else the state is as it was
            self._states.follow(slot, self.active(slot), ts, score if scored else None, outcome)

    def _asked(self, batch: ScoredBatch, i: int, slot: int) -> list[Kind]:
        """Return the kinds about which reading i says something that can matter, in the order of `KINDS`."""
        hot: dict[Kind, bool] = {
            "point": bool(batch.anomalous[i]),
            "range": bool(batch.beyond[i] >= 1.0),
            "stuck": bool(batch.stuck[i] >= 1.0),
            "data_quality": bool(batch.acceptance.late[i] >= MOSTLY),
        }
        return [kind for kind in KINDS if hot.get(kind, False) or self._waits(slot, kind)]

    def _event_of_reading(
        self, kind: Kind, stepped: Step, alert: Alert, observation: Observation, batch: ScoredBatch, i: int
    ) -> AlertChanged:
        if kind == "silence":
            details = explanation.of_silence(
                quiet=0.0,
                cadence=float(batch.acceptance.cadence[i]),
                allowed=float(batch.acceptance.allowed[i]),
                arrivals=int(batch.acceptance.arrivals[i]),
                at_least=self._spec.silence_at_least or 0,
            )
        elif kind == "data_quality":
            late, behind = int(batch.acceptance.late[i]), int(batch.acceptance.behind[i])
            details = explanation.of_lateness(late, behind if observation.anomalous else None)
        else:
            because = stepped.ended_because
            over = None if because is None else (because, self._policies[kind].clear_after)
            details = explanation.of_reading(kind, batch, i, stepped.role, over=over)
        return self._changed(stepped, alert, observation, kind, int(batch.slots[i]), details)

    def _waits(self, slot: int, kind: Kind) -> bool:
        """Return whether a normal reading would change something."""
        track = self._tracks.get((slot, kind))
        return track is not None and not track.idle

    def _any_waits(self, slot: int) -> bool:
        """Return whether a normal reading would change something of any kind; asked after each reading."""
        found = (self._tracks.get((slot, kind)) for kind in KINDS)
        return any(track is not None and not track.idle for track in found)

    def _open(self, slot: int, kind: Kind) -> Alert | None:
        track = self._tracks.get((slot, kind))
        return None if track is None else track.open

    def _changed(
        self, stepped: Step, alert: Alert, seen: Observation, kind: Kind, slot: int, details: Explanation
    ) -> AlertChanged:
        detector = self._detectors.get(stepped.role, self._detectors["live"])
        return AlertChanged(
            event=stepped.event,
            id=alert.id,
            seq=alert.seq,
            kind=kind,
            stream=self._spec.name,
            device=self._devices.names[slot],
            tags=self._devices.tags.get(slot, {}),
            severity=alert.severity,
            score=seen.score,
            peak_score=alert.peak,
            raw_score=details.raw_score,
            threshold=details.threshold,
            confidence=details.confidence,
            started_at=alert.started_at,
            updated_at=seen.at,
            ended_at=alert.ended_at,
            received_at=seen.arrival,
            values=details.values,
            expected=details.expected,
            contributions=details.contributions,
            reason=details.reason,
            model_name=detector.name,
            model_version=detector.version,
            acknowledged=alert.acknowledged,
            channels=alert.channels,
            ended_because=stepped.ended_because,
        )

    def _step(self, slot: int, kind: Kind, seen: Observation, outcome: Outcome) -> tuple[Step, Alert] | None:
        track = self._tracks.get((slot, kind))
        if track is None:
            track = self._tracks[slot, kind] = Track()
        held_before = track.held_back
        name = (self._spec.name, self._devices.names[slot], kind)
        may_speak = kind == "silence" or self._may_speak(slot, seen.arrival)
        stepped = step(track, seen, self._policies[kind], name, may_speak=may_speak)
        if track.held_back and track.held_back != held_before:
            outcome.events.append(AlertSuppressed(self._spec.name, name[1], kind, track.held_back))
        if stepped is None or track.alert is None:
            return None
        self._devices.table["events"][slot] += 1
        return stepped, track.alert

    def _may_speak(self, slot: int, arrival: int) -> bool:
        """Return whether a device's readings have made few enough events lately: see `policy.STORM`."""
        table = self._devices.table
        if arrival - table["events_since"][slot] >= STORM_US:
            table["events_since"][slot], table["events"][slot] = arrival, 0
        return bool(table["events"][slot] < STORM)


def _words(at: int, alert: Alert, score: float) -> Observation:
    """Return what a person's word is to an alert: no reading, at an instant of the service clock."""
    judged = Judgement(DEVICE, score, anomalous=score > 0.0)
    return Observation(at, alert.started_at, 0, at, (judged,))
