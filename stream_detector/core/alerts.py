"""The life of an alert: raised after N of M anomalous readings, cleared after K normal ones.

    reading    . . x x x . x . . . . .        x anomalous, . normal
    3 of 5             R                      raised; started_at is the first x
    clear 4                        C          the fourth normal reading in a row

Each (device, kind) has at most one open alert. A relapse within the cooldown opens the same alert
again, under the same id; later ones are new. Nothing is kept for a device without anomalies.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stream_detector.core.events import SEVERITIES

if TYPE_CHECKING:
    from stream_detector.core.events import AlertEvent, Severity

UPDATE_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class AlertRules:
    """When an alert opens, speaks again and closes.

    Attributes:
        raise_n: So many anomalous readings ...
        raise_m: ... of the last so many raise it.
        clear_after: So many normal readings in a row clear it.
        cooldown: A relapse within this time after the end opens the same alert again, µs.
        min_severity: Anomalies below it raise nothing.
        critical_from: Score from which an alert is critical.
        update_every: At most one update in this time, µs.
    """

    raise_n: int = 1
    raise_m: int = 1
    clear_after: int = 10
    cooldown: int = 60_000_000
    min_severity: Severity = "warning"
    critical_from: float = 2.0
    update_every: int = 60_000_000

    def at_once(self) -> AlertRules:
        """Return the rules for kinds that are certain from one reading: raise at the first."""
        return replace(self, raise_n=1, raise_m=1)

    def severity(self, score: float) -> Severity:
        """Return how bad a score is."""
        return "critical" if score >= self.critical_from else "warning"


@dataclass(frozen=True, slots=True)
class Judged:
    """One judgement as the alert machine sees it.

    Attributes:
        at: When it is made: the reading's event time, or the tick's.
        ts: Event time of the reading that it is about (for silence: the last one heard).
        identity: Of that reading.
        score: 1.0 is the threshold.
        anomalous: The verdict.
    """

    at: int
    ts: int
    identity: int
    score: float
    anomalous: bool


@dataclass(slots=True)
class Alert:
    """An alert from its first event to its last.

    Attributes:
        id: The same for its whole life.
        seq: Number of its last event.
        started_at: Event time of the first anomalous reading, µs.
        severity: Highest so far.
        peak: Highest score so far.
        told_at: Event time of its last event, µs.
        told_peak: Peak when it was last told.
        ended_at: Event time of its end, µs; None while open.
    """

    id: str
    seq: int
    started_at: int
    severity: Severity
    peak: float
    told_at: int
    told_peak: float
    ended_at: int | None = None


@dataclass(slots=True)
class Track:
    """What is remembered of one (device, kind): recent anomalies, and its alert.

    Attributes:
        readings: How many were judged.
        anomalous: The anomalous ones among the last M, each with its number, oldest first.
        normal: Normal readings in a row.
        alert: The open alert, or the last one for as long as a relapse would open it again.
        held_back: The policy suppressed the alert that these readings call for.
    """

    readings: int = 0
    anomalous: list[tuple[int, Judged]] = field(default_factory=list)
    normal: int = 0
    alert: Alert | None = None
    held_back: bool = False

    @property
    def open(self) -> Alert | None:
        """Return the alert if it is open."""
        return self.alert if self.alert is not None and self.alert.ended_at is None else None

    @property
    def idle(self) -> bool:
        """Return whether normal readings would change nothing here."""
        return self.open is None and not self.anomalous


def step(track: Track, reading: Judged, rules: AlertRules, name: tuple[str, str, str]) -> AlertEvent | None:
    """Take one reading into account.

    Args:
        track: Changed in place.
        reading: The next reading, in arrival order.
        rules: The policy.
        name: Stream, device and kind: what the id is made of, beside the first reading.

    Returns:
        What happened to ``track.alert``, or None. A raise that the policy holds back sets
        ``track.held_back`` and returns None.
    """
    _remember(track, reading, rules)
    alert = track.open
    if alert is None:
        if len(track.anomalous) < rules.raise_n or not reading.anomalous:
            track.held_back = track.held_back and bool(track.anomalous)
            return None
        peak = max(judged.score for _, judged in track.anomalous)
        if SEVERITIES.index(rules.severity(peak)) < SEVERITIES.index(rules.min_severity):
            track.held_back = True
            return None
        track.held_back = False
        _open(track, reading, peak, rules, name)
        return "raise"
    if not reading.anomalous:
        if track.normal < rules.clear_after:
            return None
        alert.seq += 1
        alert.severity = max(alert.severity, rules.severity(alert.peak), key=SEVERITIES.index)
        alert.ended_at = alert.told_at = reading.at
        track.anomalous.clear()
        return "clear"
    return _update(alert, reading, rules)


def alert_id(name: tuple[str, str, str], ts: int, identity: int) -> str:
    """Return the id of an alert that began with a reading: 24 hex digits.

    Example:
        >>> alert_id(("pumps", "pump-1", "point"), 1_700_000_000_000_000, 42)
        '4d9243edcfdcfdf39f75038b'
    """
    text = "\0".join((*name, str(ts), f"{identity:016x}"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _remember(track: Track, reading: Judged, rules: AlertRules) -> None:
    track.readings += 1
    track.normal = 0 if reading.anomalous else track.normal + 1
    if reading.anomalous:
        track.anomalous.append((track.readings, reading))
    oldest = track.readings - rules.raise_m
    while track.anomalous and track.anomalous[0][0] <= oldest:
        del track.anomalous[0]


def _open(track: Track, reading: Judged, peak: float, rules: AlertRules, name: tuple[str, str, str]) -> None:
    first = track.anomalous[0][1]
    last = track.alert
    if last is not None and last.ended_at is not None and first.ts - last.ended_at <= rules.cooldown:
        last.seq += 1
        last.severity = max(last.severity, rules.severity(peak), key=SEVERITIES.index)
        last.peak = max(last.peak, peak)
        last.told_at, last.told_peak, last.ended_at = reading.at, last.peak, None
        return
    track.alert = Alert(
        id=alert_id(name, first.ts, first.identity),
        seq=1,
        started_at=first.ts,
        severity=rules.severity(peak),
        peak=peak,
        told_at=reading.at,
        told_peak=peak,
    )


def _update(alert: Alert, reading: Judged, rules: AlertRules) -> AlertEvent | None:
    alert.peak = max(alert.peak, reading.score)
    severity = rules.severity(alert.peak)
    worse = SEVERITIES.index(severity) > SEVERITIES.index(alert.severity)
    if not worse and alert.peak < UPDATE_GROWTH * alert.told_peak:
        return None
    if reading.at - alert.told_at < rules.update_every:
        return None
    alert.seq += 1
    alert.severity = max(severity, alert.severity, key=SEVERITIES.index)
    alert.told_at, alert.told_peak = reading.at, alert.peak
    return "update"
