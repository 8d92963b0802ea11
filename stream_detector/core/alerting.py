"""From verdicts to events: the one place with a loop over single readings.

It looks only at readings that can change something: anomalous ones, those of devices with an open
alert or a recent anomaly, and a device's first score.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core import description
from stream_detector.core.alerts import Judged, Track, step
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

    from stream_detector.core.alerts import Alert, AlertRules
    from stream_detector.core.description import Description
    from stream_detector.core.detector import Detector
    from stream_detector.core.devices import Devices
    from stream_detector.core.events import AlertEvent, Kind, Outcome, Severity
    from stream_detector.core.judged import JudgedBatch
    from stream_detector.core.stream import StreamSpec

NEW = -1
WARMING_UP, OK, ALERTING, SILENT = range(len(STATES))


class Alerting:
    """The alert machines of one stream.

    Args:
        spec: What is configured.
        devices: Its devices; their `state`, `warm` and `open` columns are kept here.
    """

    def __init__(self, spec: StreamSpec, devices: Devices) -> None:
        self._spec = spec
        self._devices = devices
        self._tracks: dict[tuple[int, Kind], Track] = {}
        self._told: dict[int, tuple[tuple[str, Severity], ...]] = {}
        self._marked = np.zeros(0, dtype=np.bool_)

    def use(self, detector: Detector, rules_: AlertRules) -> None:
        """Judge by this detector's verdicts from now on."""
        self._detector = detector
        at_once = rules_.at_once()
        self._rules: Mapping[Kind, AlertRules] = {
            "point": rules_,
            "range": at_once,
            "stuck": at_once,
            "silence": replace(at_once, clear_after=1),
        }

    def readings(self, batch: JudgedBatch, accepted: NDArray[np.int64], outcome: Outcome) -> None:
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
            outcome: Gets the events.
        """
        # What was silent and is not any more has been heard, but only with late readings and
        # duplicates: an accepted one would have ended the silence.
        waiting = {slot for slot, kind in self._tracks if kind == "silence" and self._waits(slot, kind)}
        for slot in sorted(waiting.union(np.flatnonzero(scores >= 1.0).tolist())):
            self._silence(slot, at, float(scores[slot]), outcome)
        newest, lateness = self._devices.table["newest"], self._spec.lateness
        for key in [key for key, track in self._tracks.items() if track.idle]:
            ended = self._tracks[key].alert
            cooldown = self._rules[key[1]].cooldown
            if ended is None or (ended.ended_at or 0) + cooldown < newest[key[0]] - lateness:
                del self._tracks[key]

    def active(self, slot: int) -> tuple[ActiveAlert, ...]:
        """Return a device's open alerts."""
        found = [(kind, self._tracks[slot, kind].open) for kind in KINDS if (slot, kind) in self._tracks]
        return tuple(
            ActiveAlert(alert.id, kind, alert.severity, alert.started_at) for kind, alert in found if alert
        )

    def _silence(self, slot: int, at: int, score: float, outcome: Outcome) -> None:
        table, first_event = self._devices.table, len(outcome.events)
        silent = score >= 1.0
        ts, identity = self._devices.last_identity(slot)
        judged = Judged(at, ts, identity, score if silent else 0.0, silent)
        stepped = self._step(slot, "silence", judged, outcome)
        if stepped:
            details = description.of_silence(
                quiet=float(at - table["heard"][slot] - table["unheard"][slot]) if silent else 0.0,
                cadence=float(table["cadence"][slot]),
                arrivals=int(table["arrivals"][slot]),
                at_least=self._spec.silence_at_least or 0,
            )
            outcome.events.append(self._changed(*stepped, judged, "silence", slot, at, details))
        table["open"][slot] = any(self._waits(slot, kind) for kind in KINDS)
        if len(outcome.events) > first_event:
            self._follow(slot, at, None, outcome)

    def _reading(self, batch: JudgedBatch, i: int, outcome: Outcome) -> None:
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
        elif self._is_open(slot, "point"):  # which would stay so if the device never had a score again
            verdicts.insert(0, ("point", 0.0, False))
        for kind, kind_score, anomalous in verdicts:
            if not anomalous and not self._waits(slot, kind):
                continue
            judged = Judged(ts, ts, int(batch.identity[i]), kind_score, anomalous)
            stepped = self._step(slot, kind, judged, outcome)
            if stepped is None:
                continue
            event, alert = stepped
            if kind == "silence":  # which a reading can only end
                details = description.of_silence(
                    quiet=0.0,
                    cadence=float(batch.admission.cadence[i]),
                    arrivals=int(batch.admission.arrivals[i]),
                    at_least=self._spec.silence_at_least or 0,
                )
            else:
                part, place = batch.details(i)
                over = self._rules[kind].clear_after if event == "clear" else None
                details = description.of_reading(kind, part, place, over=over)
            received_at = int(batch.readings.arrival[i])
            outcome.events.append(self._changed(event, alert, judged, kind, slot, received_at, details))
        table["open"][slot] = any(self._waits(slot, kind) for kind in KINDS)
        if first or len(outcome.events) > first_event:  # else the state is as it was
            self._follow(slot, ts, score if scored else None, outcome)

    def _waits(self, slot: int, kind: Kind) -> bool:
        """Return whether a normal reading would change something."""
        track = self._tracks.get((slot, kind))
        return track is not None and not track.idle

    def _is_open(self, slot: int, kind: Kind) -> bool:
        track = self._tracks.get((slot, kind))
        return track is not None and track.open is not None

    def _changed(
        self,
        event: AlertEvent,
        alert: Alert,
        judged: Judged,
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
            score=judged.score,
            peak_score=alert.peak,
            raw_score=details.raw_score,
            threshold=details.threshold,
            confidence=details.confidence,
            started_at=alert.started_at,
            updated_at=judged.at,
            ended_at=alert.ended_at,
            received_at=received_at,
            values=details.values,
            expected=details.expected,
            contributions=details.contributions,
            reason=details.reason,
            model_name=self._detector.name,
            model_version=self._detector.version,
        )

    def _step(
        self, slot: int, kind: Kind, judged: Judged, outcome: Outcome
    ) -> tuple[AlertEvent, Alert] | None:
        track = self._tracks.get((slot, kind))
        if track is None:
            track = self._tracks[slot, kind] = Track()
        held_before = track.held_back
        name = (self._spec.name, self._devices.names[slot], kind)
        event = step(track, judged, self._rules[kind], name)
        if track.held_back and not held_before:
            outcome.events.append(AlertSuppressed(self._spec.name, name[1], kind, "min_severity"))
        if event is None or track.alert is None:
            return None
        return event, track.alert

    def _follow(self, slot: int, at: int, score: float | None, outcome: Outcome) -> None:
        """Keep the device's state, and say so where it changed."""
        table = self._devices.table
        active = self.active(slot)
        before = int(table["state"][slot])
        if any(alert.kind == "silence" for alert in active):
            state = SILENT
        elif active:
            state = ALERTING
        else:
            state = OK if table["warm"][slot] else WARMING_UP
        told = tuple((alert.id, alert.severity) for alert in active)
        if state == before and told == self._told.get(slot, ()):
            return
        table["state"][slot] = state
        if told:
            self._told[slot] = told
        else:
            self._told.pop(slot, None)
        outcome.events.append(
            DeviceStateChanged(
                stream=self._spec.name,
                device=self._devices.names[slot],
                tags=self._devices.tags.get(slot, {}),
                state=STATES[state],
                previous=None if before == NEW else STATES[before],
                severity=max((alert.severity for alert in active), key=SEVERITIES.index, default=None),
                score=score,
                active=active,
                updated_at=at,
            )
        )
