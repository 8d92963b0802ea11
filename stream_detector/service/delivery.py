"""What leaves the service: nothing before it is on disk, and everything in order.

    decision -> written -> told -> acknowledged -> published

A decision that cannot be written waits, and is written again; whoever feeds us asks `written` before the
next one. Acknowledgements are held back while the broker owes us confirmations: so it stops at what it may
have open, and what it sends at QoS 1 waits there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stream_detector import failpoints
from stream_detector.errors import StorageError
from stream_detector.mqtt.frames import Received
from stream_detector.mqtt.publisher import Publisher

if TYPE_CHECKING:
    from stream_detector.mqtt.link import Link
    from stream_detector.outputs.messages import Publication
    from stream_detector.outputs.telemetry import Telemetry
    from stream_detector.service.persistence import Persistence
    from stream_detector.service.processing import Decision, Processing
    from stream_detector.settings import Settings
    from stream_detector.storage.store import Store

TRY_AGAIN_S = 0.25
"""What could not be written is written again after this pause."""
ALERTS = "alert"


class Delivery:
    """Writes decisions, tells them, acknowledges what they came from and publishes what they say.

    Args:
        settings: The configuration.
        processing: Tells the readers of events.
        persistence: Knows what of a decision is to be written.
        store: Holds the outbox.
        telemetry: Is told of trouble.
        link: The way to the broker.

    Attributes:
        problem: Why nothing can be written now; None: it can.
        publisher: What is on its way to the broker.
    """

    def __init__(
        self,
        settings: Settings,
        processing: Processing,
        persistence: Persistence,
        store: Store,
        telemetry: Telemetry,
        link: Link,
    ) -> None:
        self.problem: StorageError | None = None
        self.publisher = Publisher(link)
        self._settings = settings
        self._processing = processing
        self._persistence = persistence
        self._telemetry = telemetry
        self._link = link
        self._try_again_at = 0.0
        self._unacknowledged: list[Received] = []  # without their messages
        self._untold: list[tuple[Decision, list[tuple[int, Publication]], Received | None]] = []
        for waiting in store.outbox():
            if waiting.number not in persistence.confirmed:
                self.put(waiting.publication, waiting.number, waiting.at)

    def conclude(self, decision: Decision, received: Received | None = None) -> None:
        """Write what was decided, then tell it; what waits for the disk is told later.

        Args:
            decision: What follows from some input.
            received: The messages that it came from, to be acknowledged.
        """
        self._untold.append((decision, self._persistence.keep(decision), received))
        if received is not None or decision.publications or self._persistence.due:
            self.write()

    def write(self) -> None:
        """Commit where something has to be, and tell what is on disk by then."""
        if self._persistence.due:
            try:
                self._persistence.commit()
            except StorageError as error:
                self.problem = error
                self._try_again_at = time.monotonic() + TRY_AGAIN_S
                self._telemetry.complain("storage", "%s", error)
                return
            failpoints.reach("after commit")
        if self.problem is not None:
            self.problem = None
            self._telemetry.say("state_dir can be written again")
        untold, self._untold = self._untold, []
        for decision, outgoing, received in untold:
            self._processing.tell(decision)
            if received is not None and any(received.packet_ids):
                self._unacknowledged.append(Received(packet_ids=received.packet_ids, epoch=received.epoch))
            self.acknowledge()
            for number, publication in outgoing:
                self.put(publication, number)

    def written(self) -> bool:
        """Return whether everything is on disk that has to be; try again where it was not, now and then."""
        if self.problem is not None and time.monotonic() >= self._try_again_at:
            self.write()
        return self.problem is None

    def acknowledge(self) -> None:
        """Acknowledge in order, but nothing while the broker owes us: it stops at what it may have open."""
        if self.publisher.full:
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
        """Publish something.

        Args:
            publication: What.
            number: Its number in the outbox; 0: it is not in there.
            at: When it was made, service clock, µs; 0: now.
        """
        self.publisher.put(
            publication.topic,
            publication.payload,
            qos=publication.qos,
            retain=publication.retain,
            once=publication.once,
            correlation=publication.correlation,
            heard=publication.topic.startswith(f"{self._settings.topics.base}/{ALERTS}/"),
            number=number,
            at=at,
        )

    def pump(self) -> None:
        """Send what the broker takes now, and take note of what it has confirmed."""
        self._persistence.confirm(self.publisher.pump())
        failpoints.reach("after publish")

    def reasons(self) -> list[str]:
        """Return why not everything gets out, as sentences."""
        reasons = []
        if self.problem is not None:
            reasons.append(f"{self.problem}; input waits until then")
        if (topic := self.publisher.denied) is not None:
            base, prefix = self._settings.topics.base, self._settings.home_assistant.prefix
            ours = f"{base}/#" if topic.startswith(f"{base}/") else f"{prefix}/device/#"
            reasons.append(
                f"the broker refuses what is published on {topic}; it is kept and tried again: allow our"
                f" login to write {ours}"
            )
        if self.publisher.full:
            reasons.append(self._held_back())
        return reasons

    def _held_back(self) -> str:
        so_far = "input at QoS 0 is ignored" if self.publisher.overfull else "input at QoS 1 waits"
        if unheard := self.publisher.unheard:
            return (
                f"{unheard} alert events wait for somebody who subscribes to"
                f" {self._settings.topics.base}/{ALERTS}/#; {so_far}"
            )
        return f"the broker does not confirm what is published; {so_far}"
