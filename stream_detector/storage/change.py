"""What one transaction writes, as a value: everything that was decided together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.events import AlertChanged
    from stream_detector.core.records import Record
    from stream_detector.outputs.messages import Publication


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the outbox: the broker has not confirmed it.

    Attributes:
        number: In the order of publication.
        publication: At QoS 1.
        at: Service clock when it was put in, µs.
    """

    number: int
    publication: Publication
    at: int


@dataclass(slots=True)
class Change:
    """Everything that one transaction writes.

    Attributes:
        records: Position and record, for the journal.
        outbox: Number, message at QoS 1 and service clock (µs).
        confirmed: Numbers of messages that the outbox may forget.
        alerts: What was published of alerts; those that are open afterwards are kept.
        rows: Position, stream and state of devices; they count as resident.
        evicted: Stream and name of devices that are only on disk from now on; applied after `rows`.
        deliveries: Packet id and digest of messages without time and number.
        keep_deliveries: How many of those are kept.
        replies: Command, what tells its request from others, service clock (µs) and the reply.
        forgotten: Stream and name of devices whose rows go; applied before `rows`.
        facts: Small facts by name.
        trim: Records up to this position may be deleted but for the standing ones; it holds from then on.
        alive_at: Service clock, µs.
    """

    records: list[tuple[int, Record]] = field(default_factory=list)
    outbox: list[tuple[int, Publication, int]] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)
    alerts: list[AlertChanged] = field(default_factory=list)
    rows: list[tuple[int, str, DeviceState]] = field(default_factory=list)
    evicted: list[tuple[str, str]] = field(default_factory=list)
    deliveries: list[tuple[int, int]] = field(default_factory=list)
    keep_deliveries: int = 4096
    replies: list[tuple[str, str, int, bytes]] = field(default_factory=list)
    forgotten: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    trim: int = 0
    alive_at: int = 0

    def __bool__(self) -> bool:
        """Return whether there is anything to write; the clock alone is nothing."""
        return bool(
            self.records
            or self.outbox
            or self.confirmed
            or self.alerts
            or self.rows
            or self.evicted
            or self.deliveries
            or self.replies
            or self.forgotten
            or self.facts
            or self.trim
        )


@dataclass(frozen=True, slots=True)
class Head:
    """How far everything has come: one row, written with each commit."""

    position: int = 0
    number: int = 0
    alive_at: int = 0
    trim: int = 0

    def after(self, change: Change) -> Head:
        """Return it as it is after a change."""
        return Head(
            max(self.position, max((position for position, _ in change.records), default=0)),
            max(self.number, max((number for number, _, _ in change.outbox), default=0)),
            max(self.alive_at, change.alive_at),
            max(self.trim, change.trim),
        )
