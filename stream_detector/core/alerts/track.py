"""What the alert machine is told, and what it remembers: observations, counts, alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stream_detector.core.devices.snapshot import OpenAlert

if TYPE_CHECKING:
    from stream_detector.core.events import Ending, Kind, Severity, SuppressedReason
    from stream_detector.core.records import Role


class Holder(NamedTuple):
    """What can hold an alert: a channel as a detector judges it; without a name, the device as a whole."""

    role: Role
    channel: str


DEVICE = Holder("live", "")


class Judgement(NamedTuple):
    """One holder's part of an observation.

    Attributes:
        holder: Whom it is about.
        score: 1.0 is the threshold.
        anomalous: The verdict.
        accepted: What was unusual has become the new normal.
        gone: Nobody judges this holder any more: the detector was replaced.
        one_in: Of normal readings like this one, so many count as one.
    """

    holder: Holder
    score: float
    anomalous: bool
    accepted: bool = False
    gone: bool = False
    one_in: int = 1


@dataclass(frozen=True, slots=True)
class Observation:
    """What a reading, or a tick, says of a device.

    Attributes:
        at: When it is made: the reading's event time, or the tick's.
        ts: Event time of the reading that it is about (for silence: the last one heard).
        identity: Of that reading.
        arrival: By the service clock.
        judgements: Of the holders that the reading carries.
        late: It is about the past, and opens nothing again.
    """

    at: int
    ts: int
    identity: int
    arrival: int
    judgements: tuple[Judgement, ...]
    late: bool = False

    @property
    def score(self) -> float:
        """Return the highest score, of what is anomalous if anything is."""
        scores = [each.score for each in self.judgements if each.anomalous]
        return max(scores or [each.score for each in self.judgements], default=0.0)

    @property
    def anomalous(self) -> bool:
        """Return whether anything is."""
        return any(each.anomalous for each in self.judgements)


class Seen(NamedTuple):
    """An anomalous reading: its number among those of its holder, and what an alert needs of it."""

    number: int
    ts: int
    identity: int
    score: float
    late: bool = False


@dataclass(slots=True)
class Count:
    """What is remembered of a holder.

    Attributes:
        readings: How many were judged since the last time that nothing was remembered.
        anomalous: The anomalous ones among the last M, oldest first.
        normal: Normal readings in a row.
        holds: It is one of those that hold the open alert.
        ending: Why it will leave, if it is about to.
    """

    readings: int = 0
    anomalous: list[Seen] = field(default_factory=list)
    normal: int = 0
    holds: bool = False
    ending: Ending | None = None


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
        channels: Those that held it when it was last published, in the order in which they joined.
        arrived_at: Arrival of its last event, µs.
        holders: All that have held it: whose relapse opens it again.
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
    arrived_at: int = 0
    holders: tuple[Holder, ...] = ()

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
            channels=alert.channels,
            holders=tuple(Holder("live", name) for name in alert.channels) or (DEVICE,),
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
            channels=self.channels,
        )


@dataclass(slots=True)
class Track:
    """What is remembered of one (device, kind).

    Attributes:
        counts: Of each holder about which there is something to remember.
        alert: The open alert, or the last one for as long as a relapse would open it again.
        held_back: Why the alert that these readings call for is not raised; None: there is none.
    """

    counts: dict[Holder, Count] = field(default_factory=dict)
    alert: Alert | None = None
    held_back: SuppressedReason | None = None

    @classmethod
    def published(cls, alert: OpenAlert) -> Track:
        """Return a track that holds an open alert as it was last published."""
        known = Alert.published(alert)
        return cls(counts={holder: Count(holds=True) for holder in known.holders}, alert=known)

    @property
    def open(self) -> Alert | None:
        """Return the alert if it is open."""
        return self.alert if self.alert is not None and self.alert.ended_at is None else None

    @property
    def idle(self) -> bool:
        """Return whether normal readings would change nothing here."""
        return not self.counts

    @property
    def holding(self) -> tuple[Holder, ...]:
        """Return who holds the alert, in the order in which they joined."""
        return tuple(holder for holder, count in self.counts.items() if count.holds)
