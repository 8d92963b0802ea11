"""The life of an alert: raised after N of M anomalous readings, cleared after K normal ones.

    reading    . . x x x . x . . . . .        x anomalous, . normal
    3 of 5             R                      raised; started_at is the first x
    clear 4                        C          the fourth normal reading in a row

Each (device, kind) has at most one open alert. A relapse within the cooldown opens the same alert
again, under the same id; later ones are new. Nothing is kept for a device without anomalies.

What is kept is only what can still change an event, so that a device restored from disk is the same
as one that never left: counting begins anew when nothing is open and no anomaly is remembered.
"""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stream_detector.core.devices.snapshot import OpenAlert
from stream_detector.core.events import SEVERITIES

if TYPE_CHECKING:
    from stream_detector.core.alerts.policy import AlertPolicy
    from stream_detector.core.events import AlertEvent, Kind, Severity

UPDATE_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class Observation:
    """One judgement as the alert machine sees it.

    Attributes:
        at: When it is made: the reading's event time, or the tick's.
        ts: Event time of the reading that it is about (for silence: the last one heard).
        identity: Of that reading.
        score: 1.0 is the threshold.
        anomalous: The verdict.
        channels: Those that are anomalous; empty where the device as a whole is.
        carries: Whether the reading carries what the alert is about; one that does not is not counted.
        one_in: Of normal readings like this one, so many count as one.
        late: It is about the past, and opens nothing again.
    """

    at: int
    ts: int
    identity: int
    score: float
    anomalous: bool
    channels: tuple[str, ...] = ()
    carries: bool = True
    one_in: int = 1
    late: bool = False


@dataclass(slots=True)
class Alert:
    """An alert from its first event to its last.

    Attributes:
        id: The same for its whole life.
        seq: Number of its last event.
        started_at: Event time of the first anomalous reading, µs.
        severity: Highest so far.
        peak: Highest score so far.
        published_at: Event time of its last event, µs.
        published_peak: Peak when it was last published.
        ended_at: Event time of its end, µs; None while open.
        acknowledged: A person has seen it since it was raised.
        channels: Those that hold it, in the order in which they joined.
    """

    id: str
    seq: int
    started_at: int
    severity: Severity
    peak: float
    published_at: int
    published_peak: float
    ended_at: int | None = None
    acknowledged: bool = False
    channels: tuple[str, ...] = ()

    @classmethod
    def published(cls, alert: OpenAlert) -> Alert:
        """Return an open alert as it was last published."""
        return cls(
            id=alert.id,
            seq=alert.seq,
            started_at=alert.started_at,
            severity=alert.severity,
            peak=alert.peak,
            published_at=alert.published_at,
            published_peak=alert.peak,
            acknowledged=alert.acknowledged,
        )

    def as_published(self, stream: str, device: str, kind: Kind) -> OpenAlert:
        """Return the alert as it was last published, for storage."""
        return OpenAlert(
            stream=stream,
            device=device,
            kind=kind,
            id=self.id,
            seq=self.seq,
            started_at=self.started_at,
            severity=self.severity,
            peak=self.published_peak,
            published_at=self.published_at,
            acknowledged=self.acknowledged,
        )


@dataclass(slots=True)
class Track:
    """What is remembered of one (device, kind): recent anomalies, and its alert.

    Attributes:
        readings: How many were judged since the last time that it was idle.
        anomalous: The anomalous ones among the last M, each with its number, oldest first.
        normal: Normal readings in a row.
        alert: The open alert, or the last one for as long as a relapse would open it again.
        held_back: The policy suppressed the alert that these readings call for.
    """

    readings: int = 0
    anomalous: list[tuple[int, Observation]] = field(default_factory=list)
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
        return not self.anomalous and (self.alert is None or self.alert.ended_at is not None)


def step(
    track: Track, reading: Observation, policy: AlertPolicy, name: tuple[str, str, str]
) -> AlertEvent | None:
    """Take one reading into account.

    Args:
        track: Changed in place.
        reading: The next reading, in arrival order.
        policy: When alerts open, speak again and close.
        name: Stream, device and kind: what the id is made of, beside the first reading.

    Returns:
        What happened to ``track.alert``, or None. A raise that the policy holds back sets
        ``track.held_back`` and returns None.
    """
    if not reading.carries:
        return None
    _remember(track, reading, policy)
    if track.open is None:
        return _perhaps_raise(track, reading, policy, name)
    return _perhaps_change(track, track.open, reading, policy)


def changes_nothing(track: Track, reading: Observation, policy: AlertPolicy) -> bool:
    """Return whether one more anomalous judgement would be no event, under a policy that raises at once."""
    if track.open is None:
        return track.held_back and not _severe_enough(reading.score, policy)
    return not _is_news(track.open, reading, policy)


def next_news(track: Track, policy: AlertPolicy) -> tuple[int, float] | None:
    """Return when an anomalous judgement can be an event again: not before that instant and that score.

    Args:
        track: Of a policy that raises at once.
        policy: When alerts open, speak again and close.

    Returns:
        µs, and the score that it takes; None: nothing was anomalous so far.
    """
    if track.open is None:
        return (0, policy.critical_from) if track.held_back else None
    score = UPDATE_GROWTH * track.open.published_peak
    if track.open.severity != SEVERITIES[-1]:
        score = min(score, policy.critical_from)
    return track.open.published_at + policy.update_every, score


def over(track: Track, oldest: int, policy: AlertPolicy) -> bool:
    """Return whether a track's alert, if there was one, ended too long ago for a relapse.

    Args:
        track: Of a device of which nothing older than `oldest` can be judged from now on.
        oldest: Event time, µs.
        policy: When alerts open, speak again and close.
    """
    if track.alert is None:
        return True
    first = min([oldest, *(observation.ts for _, observation in track.anomalous)])
    return track.alert.ended_at is not None and first - track.alert.ended_at > policy.cooldown


def kept(track: Track, oldest: int, policy: AlertPolicy) -> Track | None:
    """Return a copy of what can still change an event, None where nothing can; see `over`."""
    ended = over(track, oldest, policy)
    if track.idle and ended:
        return None
    return replace(track, anomalous=list(track.anomalous), alert=None if ended else copy(track.alert))


def alert_id(name: tuple[str, str, str], ts: int, identity: int) -> str:
    """Return the id of an alert that began with a reading: 24 hex digits.

    Example:
        >>> alert_id(("pumps", "pump-1", "point"), 1_700_000_000_000_000, 42)
        '4d9243edcfdcfdf39f75038b'
    """
    text = "\0".join((*name, str(ts), f"{identity:016x}"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _remember(track: Track, reading: Observation, policy: AlertPolicy) -> None:
    if track.idle:
        track.readings = track.normal = 0
    track.readings += 1
    if reading.anomalous:
        track.normal = 0
    elif track.readings % reading.one_in == 0:
        track.normal += 1
    if reading.anomalous:
        track.anomalous.append((track.readings, reading))
    oldest = track.readings - policy.raise_m
    while track.anomalous and track.anomalous[0][0] <= oldest:
        del track.anomalous[0]


def _perhaps_raise(
    track: Track, reading: Observation, policy: AlertPolicy, name: tuple[str, str, str]
) -> AlertEvent | None:
    if len(track.anomalous) < policy.raise_n or not reading.anomalous:
        track.held_back = track.held_back and bool(track.anomalous)
        return None
    peak = max(observation.score for _, observation in track.anomalous)
    track.held_back = not _severe_enough(peak, policy)
    if track.held_back:
        return None
    _open(track, reading, peak, policy, name)
    return "raise"


def _perhaps_change(
    track: Track, alert: Alert, reading: Observation, policy: AlertPolicy
) -> AlertEvent | None:
    """Update or clear an open alert."""
    if reading.anomalous:
        alert.peak = max(alert.peak, reading.score)
        alert.channels = _joined(alert.channels, reading)
        if not _is_news(alert, reading, policy):
            return None
    elif track.normal < policy.clear_after:
        return None
    alert.seq += 1
    alert.severity = max(alert.severity, policy.severity(alert.peak), key=SEVERITIES.index)
    alert.published_at = reading.at
    if reading.anomalous:
        alert.published_peak = alert.peak
        return "update"
    alert.ended_at = reading.at
    track.anomalous.clear()
    return "clear"


def _open(
    track: Track, reading: Observation, peak: float, policy: AlertPolicy, name: tuple[str, str, str]
) -> None:
    first = track.anomalous[0][1]
    channels = _joined((), *(seen for _, seen in track.anomalous))
    last = None if first.late else track.alert
    if last is not None and last.ended_at is not None and first.ts - last.ended_at <= policy.cooldown:
        last.seq += 1
        last.severity = max(last.severity, policy.severity(peak), key=SEVERITIES.index)
        last.peak = max(last.peak, peak)
        last.published_at, last.published_peak, last.ended_at = reading.at, last.peak, None
        last.acknowledged = False  # who has seen it then has not seen this
        last.channels = channels
        return
    track.alert = Alert(
        id=alert_id(name, first.ts, first.identity),
        seq=1,
        started_at=first.ts,
        severity=policy.severity(peak),
        peak=peak,
        published_at=reading.at,
        published_peak=peak,
        channels=channels,
    )


def _joined(channels: tuple[str, ...], *readings: Observation) -> tuple[str, ...]:
    """Return channels, and those of anomalous readings after them, each once."""
    return tuple(dict.fromkeys([*channels, *(name for reading in readings for name in reading.channels)]))


def _severe_enough(score: float, policy: AlertPolicy) -> bool:
    return SEVERITIES.index(policy.severity(score)) >= SEVERITIES.index(policy.min_severity)


def _is_news(alert: Alert, reading: Observation, policy: AlertPolicy) -> bool:
    """Return whether an open alert has become so much worse with a reading that it is updated."""
    peak = max(alert.peak, reading.score)
    worse = SEVERITIES.index(policy.severity(peak)) > SEVERITIES.index(alert.severity)
    grown = peak >= UPDATE_GROWTH * alert.published_peak
    return (worse or grown) and reading.at - alert.published_at >= policy.update_every
