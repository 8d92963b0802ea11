"""What we say to the broker, kept until the broker has confirmed it.

At most a window of QoS 1 messages is on its way; what a lost connection left unconfirmed is sent again in
order, and what the broker refuses is tried again after a pause, as is what somebody has to hear while
nobody listens: nothing at QoS 1 is ever dropped but what is to be said only once. A later message on a
topic never overtakes an earlier one, so what is retained at the end is the last one put.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from .backoff import Backoff

if TYPE_CHECKING:
    from .link import Link

NO_SUBSCRIBERS = 0x10
FIRST_FAILURE = 0x80
OVERFULL = 4


@dataclass(slots=True)
class _Message:
    number: int
    topic: bytes
    payload: bytes
    retain: bool
    at: int  # when it was put, service clock
    heard: bool  # it is done only when somebody has got it
    once: bool = False  # it is not tried again
    correlation: bytes = b""
    denied: bool = False  # the broker has refused it
    packet_id: int = 0  # of the connection that was lost before it was confirmed


class Publisher:
    """The outgoing messages of one link.

    Args:
        link: Where they go.
        limit: With so many unconfirmed messages we are `full`: whoever feeds us should wait. Those that the
            broker refused, or that nobody listened to, do not count so soon. With four times as many
            altogether we are `overfull`: whoever cannot wait should be turned away.
        window: QoS 1 messages on their way at most; the broker may ask for fewer.

    Attributes:
        results: What became of messages so far; the keys are closed.
        denied: The topic of a message that the broker has refused and not taken since; None: it takes all.
    """

    def __init__(self, link: Link, *, limit: int = 10_000, window: int = 100) -> None:
        self.results = {"confirmed": 0, "no_subscribers": 0, "refused": 0}
        self.denied: str | None = None
        self._link = link
        self._limit = limit
        self._window = window
        self._epoch = link.epoch
        self._queue: deque[_Message] = deque()
        self._sent: dict[int, _Message] = {}  # packet id -> message, in the order of sending
        self._refused: deque[_Message] = deque()
        self._refused_topics: set[bytes] = set()
        self._retry_at = 0.0
        self._backoff = Backoff(60.0)

    def __len__(self) -> int:
        """Return the number of QoS 1 messages that are not confirmed."""
        return len(self._queue) + len(self._sent) + len(self._refused)

    @property
    def under_way(self) -> int:
        """How many messages wait for the broker only."""
        return len(self._queue) + len(self._sent)

    @property
    def full(self) -> bool:
        """Whether no more should be put; `put` itself refuses nothing, for a batch is not cut in two."""
        return self.under_way >= self._limit or self.overfull

    @property
    def unheard(self) -> int:
        """How many messages wait for somebody to listen."""
        return sum(message.heard and not message.denied for message in list(self._refused))

    @property
    def overfull(self) -> bool:
        """Whether nothing must be put that can be avoided."""
        return len(self) >= OVERFULL * self._limit

    @property
    def oldest_at(self) -> int | None:
        """When the oldest unconfirmed message was put, service clock in µs."""
        heads = [*self._sent.values(), *list(self._queue)[:1], *list(self._refused)[:1]]
        return min((message.at for message in heads), default=None)

    def put(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        heard: bool = False,
        once: bool = False,
        correlation: bytes = b"",
        number: int = 0,
        at: int = 0,
    ) -> None:
        """Take a message over; at QoS 0 it is lost where the broker cannot take it now.

        Args:
            topic: UTF-8, without wildcards.
            payload: Bytes.
            qos: 0 or 1.
            retain: Whether the broker keeps it for later subscribers.
            heard: Whether it is done only when somebody has got it, not already when the broker has.
            once: Whether it is done, too, when the broker has refused it, or the connection is lost before it
                has said so.
            correlation: Of the request that it answers.
            number: What `pump` returns once it is confirmed.
            at: When it was made, service clock, µs; 0: now.
        """
        if qos == 0:
            if self._link.connected and not self._link.congested:
                self._link.publish(topic.encode(), payload, 0, retain=retain)
            return
        at = at or self._link.clock()
        self._queue.append(_Message(number, topic.encode(), payload, retain, at, heard, once, correlation))

    def pump(self) -> list[int]:
        """Take confirmations, send what the window allows.

        Returns:
            Numbers of the messages that are done since the last call.
        """
        done = [
            message.number
            for packet_id, reason in self._link.confirmed()
            if (message := self._answered(packet_id, reason))
        ]
        if not self._link.connected:
            return done
        if self._epoch != self._link.epoch:
            self._epoch = self._link.epoch
            self._send_again()
        if self._refused and monotonic() >= self._retry_at:
            self._queue.extendleft(reversed(self._refused))
            self._refused.clear()
            self._refused_topics.clear()
        self._fill_window()
        self._link.flush()
        return done

    def _answered(self, packet_id: int, reason: int) -> _Message | None:
        """Note the broker's answer; return the message where it is done."""
        message = self._sent.pop(packet_id, None)
        if message is None:
            return None
        message.packet_id = 0
        unheard = reason == NO_SUBSCRIBERS
        if reason >= FIRST_FAILURE or (unheard and message.heard):
            self.results["no_subscribers" if unheard else "refused"] += 1
            if message.once:
                return message
            if not unheard:
                message.denied, self.denied = True, message.topic.decode()
            if not self._refused:
                self._retry_at = monotonic() + self._backoff.pause()
            self._refused.append(message)
            self._refused_topics.add(message.topic)
            return None
        if message.denied:
            self.denied = None
        if not self._refused:
            self._backoff.reset()
        self.results["no_subscribers" if unheard else "confirmed"] += 1
        return message

    def _send_again(self) -> None:
        """Put what the lost connection left unconfirmed back to the front, marked as sent before.

        But not what is said once: where it goes somebody else has chosen, and some brokers end the connection
        of whoever publishes where they do not want it, which would happen again for ever.
        """
        for packet_id, message in reversed(self._sent.items()):
            if not message.once:
                message.packet_id = packet_id
                self._queue.appendleft(message)
        self._sent.clear()

    def _fill_window(self) -> None:
        window = min(self._window, self._link.window)
        retained = {message.topic for message in self._sent.values() if message.retain}
        while self._queue and len(self._sent) < window:
            message = self._queue[0]
            if message.topic in retained:
                break  # were the one before it refused, its second try would come later and stay
            self._queue.popleft()
            if message.topic in self._refused_topics:
                message.packet_id = 0
                self._refused.append(message)
                continue
            packet_id = self._link.publish(
                message.topic,
                message.payload,
                1,
                retain=message.retain,
                packet_id=message.packet_id,
                correlation=message.correlation,
            )
            self._sent[packet_id] = message
            if message.retain:
                retained.add(message.topic)
