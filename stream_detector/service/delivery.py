"""Delivery: nothing leaves before it is on disk, and everything leaves in order.

    decision -> written -> reported -> acknowledged -> published

A decision that cannot be written waits, and is written again; whoever feeds us asks `written` before the
next one. What is published goes to a target (the broker; others may stand beside it), each with an order,
confirmations and back-pressure of its own. While one of them is full, acknowledgements are held back: the
broker then stops at what it may have open, and what it sends at QoS 1 waits there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from stream_detector import failpoints
from stream_detector.errors import StorageError
from stream_detector.mqtt.frames import Received

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.mqtt.link import Link
    from stream_detector.outputs.log import Log
    from stream_detector.outputs.messages import Publication
    from stream_detector.service.decision import Decision
    from stream_detector.service.persistence import Persistence
    from stream_detector.service.reporting import Reporting
    from stream_detector.storage.store import Store

RETRY_S = 0.25
"""What could not be written is written again after this pause."""


class Target(Protocol):
    """Where publications go."""

    @property
    def full(self) -> bool:
        """Whether it is so far behind that input should wait."""

    @property
    def overfull(self) -> bool:
        """Whether it is so far behind that input which cannot wait should be turned away."""

    def put(self, publication: Publication, number: int, at: int) -> None:
        """Take a publication over; it leaves after those that were put before.

        Args:
            publication: What.
            number: Its number in the outbox; 0: it is not in there.
            at: When it was made, service clock, µs; 0: now.
        """

    def pump(self) -> list[int]:
        """Send what can be sent now; return the numbers that are done since the last call."""

    def reasons(self) -> list[str]:
        """Return why not everything gets out, as sentences."""


class Delivery:
    """Writes decisions, reports them, acknowledges what they came from and publishes what they say.

    Args:
        persistence: Knows what of a decision is to be written.
        reporting: Reports decisions.
        store: Holds the outbox.
        log: Gets trouble.
        link: Acknowledges messages.
        targets: Where publications go, by the name that they carry.

    Attributes:
        problem: Why nothing can be written now; None: it can.
    """

    def __init__(
        self,
        persistence: Persistence,
        reporting: Reporting,
        store: Store,
        log: Log,
        link: Link,
        targets: Mapping[str, Target],
    ) -> None:
        self.problem: StorageError | None = None
        self._persistence = persistence
        self._reporting = reporting
        self._log = log
        self._link = link
        self._targets = targets
        self._retry_at = 0.0
        self._unacknowledged: list[Received] = []  # without their messages
        self._unwritten: list[tuple[Decision, list[tuple[int, Publication]], Received | None]] = []
        for waiting in store.outbox():
            if waiting.number not in persistence.confirmed:
                self.put(waiting.publication, waiting.number, waiting.at)

    @property
    def full(self) -> bool:
        """Whether a target is so far behind that input should wait."""
        return any(target.full for target in self._targets.values())

    @property
    def overfull(self) -> bool:
        """Whether a target is so far behind that input which cannot wait should be turned away."""
        return any(target.overfull for target in self._targets.values())

    def conclude(self, decision: Decision, received: Received | None = None) -> None:
        """Write what was decided, then let it take effect; what waits for the disk does so later.

        Args:
            decision: What follows from some input.
            received: The messages that it came from, to be acknowledged.
        """
        self._unwritten.append((decision, self._persistence.keep(decision), received))
        if received is not None or decision.publications or self._persistence.due:
            self.write()

    def write(self) -> None:
        """Commit where something has to be, and let what is on disk by then take effect."""
        if self._persistence.due:
            try:
                self._persistence.commit()
            except StorageError as error:
                self.problem = error
                self._retry_at = time.monotonic() + RETRY_S
                self._log.warn("storage", "%s", error)
                return
            failpoints.reach("after commit")
        if self.problem is not None:
            self.problem = None
            self._log.info("state_dir can be written again")
        written, self._unwritten = self._unwritten, []
        for decision, outgoing, received in written:
            self._reporting.report(decision)
            if received is not None and any(received.packet_ids):
                self._unacknowledged.append(Received(packet_ids=received.packet_ids, epoch=received.epoch))
            self.acknowledge()
            for number, publication in outgoing:
                self.put(publication, number)

    def written(self) -> bool:
        """Return whether everything is on disk that has to be; try again where it was not, now and then."""
        if self.problem is not None and time.monotonic() >= self._retry_at:
            self.write()
        return self.problem is None

    def acknowledge(self) -> None:
        """Acknowledge in order, but nothing while a target is full."""
        if self.full:
            epoch = self._link.epoch  # what came on an earlier connection comes again
            self._unacknowledged = [batch for batch in self._unacknowledged if batch.epoch == epoch]
            return
        if self._unacknowledged:
            failpoints.reach("before acknowledgements")
            for batch in self._unacknowledged:
                self._link.acknowledge(batch)
            self._unacknowledged.clear()
            failpoints.reach("after acknowledgements")

    def put(self, publication: Publication, number: int = 0, at: int = 0) -> None:
        """Publish something; see `Target.put`. For a target that there is not, it stays in the outbox."""
        target = self._targets.get(publication.target)
        if target is None:
            self._log.warn(
                f"target {publication.target}",
                "messages for %s wait in state_dir: it is not configured any more",
                publication.target,
            )
            return
        target.put(publication, number, at)

    def pump(self) -> None:
        """Send what the targets take now, and take note of what they have confirmed."""
        for target in self._targets.values():
            self._persistence.confirm(target.pump())
        failpoints.reach("after publish")

    def reasons(self) -> list[str]:
        """Return why not everything gets out, as sentences."""
        reasons = []
        if self.problem is not None:
            reasons.append(f"{self.problem}; input waits until then")
        for target in self._targets.values():
            reasons += target.reasons()
        return reasons
