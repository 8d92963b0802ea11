"""The hot loop: one thread that does all the work, a batch at a time; a batch is what one read brought.

    read -> decide -> write to disk -> report, acknowledge, publish

While a decision cannot be written, nothing further is taken in. A broker that does not confirm what we
publish is still read, because its confirmations come on the same socket: input at QoS 1 is held back by
not acknowledging it, and input at QoS 0 is ignored once too much waits. An error that nobody expected
costs memory, never data: memory comes back from disk, and what was not acknowledged comes again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from stream_detector.core.events import ModelRefused
from stream_detector.errors import StorageError, StreamDetectorError
from stream_detector.formats.intake import RETAIN
from stream_detector.formats.taken import Oversized, Tally
from stream_detector.models.reload import Loaded
from stream_detector.service.broker_requests import Message
from stream_detector.service.decision import Decision
from stream_detector.service.hearing import Hearing

if TYPE_CHECKING:
    from stream_detector.core.records import Record
    from stream_detector.models.reload import ModelWatcher
    from stream_detector.mqtt.frames import Received
    from stream_detector.service.announcements import Announcements
    from stream_detector.service.broker_requests import BrokerRequests
    from stream_detector.service.connection import Connector
    from stream_detector.service.engine import Engine
    from stream_detector.service.persistence import Persistence
    from stream_detector.service.start_records import StartRecords

POLL_S = 0.2
STOP_S = 1.5
MOST_ERRORS, ERRORS_S = 5, 600.0
"""So many errors that nobody expected in so many seconds, and the process ends."""
MOST_WAITING = 64
"""So many batches may wait while nothing can be written; what comes at QoS 0 then is ignored."""


class Loop:
    """The hot thread's work; one turn is one call of `turn`.

    Args:
        engine: Decides and reports.
        persistence: Writes, and restores memory.
        connector: Makes connections.
        announcements: Shows the service at the broker.
        requests: Takes what the service is asked over MQTT.
        watcher: Finds new versions of models.
        start: Makes the records that everything begins with.
        deaf_since: When the service was last alive, service clock, µs.
    """

    def __init__(
        self,
        engine: Engine,
        persistence: Persistence,
        connector: Connector,
        announcements: Announcements,
        requests: BrokerRequests,
        watcher: ModelWatcher,
        start: StartRecords,
        *,
        deaf_since: int,
    ) -> None:
        self._engine = engine
        self._log = engine.log
        self._processing = engine.processing
        self._persistence = persistence
        self._connector = connector
        self._announcements = announcements
        self._requests = requests
        self._watcher = watcher
        self._start = start
        self._hearing = Hearing(deaf_since)
        self._errors: deque[float] = deque(maxlen=MOST_ERRORS)
        self._connect()

    def _connect(self) -> None:
        """Begin a connection, with nothing on its way but what the outbox holds."""
        self.connection = self._connector.connect()
        self._link = self.connection.link
        self._delivery = self.connection.delivery
        self._announcements.begin(self.connection)
        self._hearing.reconnect()
        self._inbox: deque[tuple[Received, bool]] = deque()  # and whether it is one that failed with others
        self._session = 0
        self._record(*self._start.make(self._engine.clock()))

    @property
    def excused_until(self) -> float:
        """Until when, monotonic, a turn may take long: a slow dial is no hang. Any thread may ask."""
        return self.connection.link.excused_until

    def turn(self) -> None:
        """Read once, and do what is due.

        Raises:
            ConfigurationError: Another service lives under the same base topic.
        """
        delivery = self._delivery
        received = self._link.poll(POLL_S)
        if received is not None:
            self._inbox.append((self._without_qos0(received) if self._overfull else received, False))
        self._follow_session()
        if delivery.written():
            self._record_gaps()
        while self._inbox and delivery.written():
            self._batch(*self._inbox.popleft())
        if delivery.written():
            self._reload()
        if delivery.written():
            self._tick()
        if delivery.written():
            delivery.write()
        else:  # what waits is not heard
            self._hearing.pause(self._engine.clock())
        delivery.acknowledge()
        self._announcements.follow()
        delivery.pump()

    def start_over(self, error: Exception) -> None:
        """Begin anew from what is on disk after an error: what was not acknowledged comes again.

        Raises:
            StreamDetectorError: It happened too often.
        """
        self._log.warn(
            "start over",
            "something unexpected happened (%s: %s); starting over from state_dir, nothing acknowledged is"
            " lost; please report this",
            type(error).__name__,
            error,
        )
        self._errors.append(time.monotonic())
        if len(self._errors) == MOST_ERRORS and self._errors[-1] - self._errors[0] < ERRORS_S:
            raise StreamDetectorError(
                f"the service failed {MOST_ERRORS} times within ten minutes"
                f" ({type(error).__name__}: {error}); nothing acknowledged is lost: start it again, and"
                " please report this"
            )
        self._link.close(0.0)
        self._persistence.restore()
        self._connect()

    def finish(self) -> None:
        """Write and publish what is left, and leave in order."""
        deadline = time.monotonic() + STOP_S
        publisher = self.connection.target.publisher
        if self._link.connected:
            self._announcements.leave()
            while publisher.under_way and self._link.connected and time.monotonic() < deadline:
                self._delivery.pump()
                self._link.poll(0.01)
        self._link.close(max(0.1, deadline - time.monotonic()))
        try:
            self._persistence.finish(time.monotonic() + STOP_S)
        except StorageError as error:
            self._log.warn("storage", "%s", error)
        self._log.info("stopped")

    def not_ready(self) -> list[str]:
        """Return why the service does not do its job now; empty: it does. Any thread may ask."""
        link, delivery = self.connection.link, self.connection.delivery
        reasons = []
        if not link.ready:
            reasons.append(link.problem or "not connected to the broker yet")
        return reasons + delivery.reasons()

    # -- one turn ---------------------------------------------------------------------------------

    def _record(self, *records: Record) -> None:
        """Take records in that bring no readings, as one decision."""
        decision = Decision()
        for record in records:
            self._processing.record(decision, record)
        self._delivery.conclude(decision)

    def _batch(self, received: Received, alone: bool) -> None:  # noqa: FBT001 - as the inbox holds it
        """Decide about what one read brought; what the core cannot take is found message by message."""
        oversized = {place: Oversized(cut.size, cut.sha256) for place, cut in received.truncated.items()}
        decision = Decision()
        try:
            taken = self._processing.messages(
                decision,
                received.topics,
                received.payloads,
                received.flags,
                received.arrival,
                oversized,
                received.packet_ids,
                time.time_ns() // 1000,
            )
            for place in taken.commands:
                self._requests.take(decision, _request(received, place, oversized.get(place)))
        except Exception as error:  # noqa: BLE001 - no message can stop the next one
            self._isolate(received, error, alone=alone)
            return
        if taken.own:
            self._announcements.listen(taken)
        self._delivery.conclude(decision, received)

    def _isolate(self, received: Received, error: Exception, *, alone: bool) -> None:
        """Restore memory, and take a batch again, message by message: the one that fails again is refused."""
        self._log.warn(
            "internal error",
            "a batch of %d messages could not be processed (%s); please report this",
            len(received),
            type(error).__name__,
        )
        self._persistence.restore()
        if not alone:
            self._inbox.extendleft((received.one(place), True) for place in reversed(range(len(received))))
            return
        decision = Decision()
        self._processing.refuse_message(
            decision, received.topics[0], received.payloads[0], received.arrival, error
        )
        self._delivery.conclude(decision, received)

    @property
    def _overfull(self) -> bool:
        return self._delivery.overfull or len(self._inbox) >= MOST_WAITING

    def _without_qos0(self, received: Received) -> Received:
        """Count the messages at QoS 0 as ignored, and return the others."""
        kept = received.without_qos0()
        if ignored := len(received) - len(kept):
            tally = Tally(received=ignored, ignored=Counter(overload=ignored))
            self._engine.metrics.messages({"": tally}, received.arrival)
        return kept

    def _reload(self) -> None:
        for report in self._watcher.take():
            now, decision = self._engine.clock(), Decision()
            if isinstance(report, Loaded):
                role = self._engine.bundle_roles[report.stream]
                record = self._engine.models.record(now, report.stream, role, report.model)
                self._processing.record(decision, record)
                decision.publications.append(("", self._announcements.info()))
            else:
                refused = ModelRefused(
                    now, report.stream, report.name, report.version, report.reason, report.message
                )
                self._processing.events(decision, [refused])
            self._delivery.conclude(decision)

    def _tick(self) -> None:
        """Let time pass: only while we would have heard, once a second."""
        if self._link.drained and (tick := self._hearing.tick(self._engine.clock())) is not None:
            self._record(tick)

    def _record_gaps(self) -> None:
        """Record when we could not hear: without a connection, held back, or draining what piled up."""
        link, now = self._link, self._engine.clock()
        if not link.ready or self._delivery.full:
            self._hearing.interrupt(now)
        elif (gap := self._hearing.resume(now, drained=link.drained)) is not None:
            self._record(gap)

    def _follow_session(self) -> None:
        """A session that the broker did not keep begins with new packet ids: the old ones mean nothing."""
        if self._session != self._link.epoch:
            self._session = self._link.epoch
            if not self._link.session_present:
                self._engine.intake.deliveries.forget()


def _request(received: Received, place: int, oversized: Oversized | None) -> Message:
    return Message(
        topic=received.topics[place].decode(),
        payload=received.payloads[place],
        retained=bool(received.flags[place] & RETAIN),
        oversized=oversized,
        properties=received.properties.get(place, b""),
        arrival=received.arrival,
    )
