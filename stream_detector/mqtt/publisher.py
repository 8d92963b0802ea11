"""What we say to the broker, kept until the broker has confirmed it.

At most a window of QoS 1 messages is on its way; what a lost connection left unconfirmed is sent again in
order, and what the broker refuses is tried again after a pause: nothing at QoS 1 is ever dropped. A later
message on a topic never overtakes an earlier one, so what is retained at the end is the last one put.
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
    packet_id: int = 0  # of the connection that was lost before it was confirmed


class Publisher:
    """The outgoing messages of one link.

    Args:
        link: Where they go.
        limit: From so many unconfirmed messages on we are `full`: whoever feeds us should wait; at four
            times as many we are `overfull`: whoever cannot wait should be turned away.
        window: QoS 1 messages on their way at most; the broker may ask for fewer.

    Attributes:
        results: What became of messages so far; the keys are closed.
        dropped_qos0: QoS 0 messages that came while the broker could not take them.
    """

    def __init__(self, link: Link, *, limit: int = 10_000, window: int = 100) -> None:
        self.results = {"confirmed": 0, "no_subscribers": 0, "refused": 0, "sent_qos0": 0}
        self.dropped_qos0 = 0
        self._link = link
        self._limit = limit
        self._window = window
        self._number = 0
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
    def full(self) -> bool:
        """Whether no more should be put; `put` itself refuses nothing, for a batch is not cut in two."""
        return len(self) >= self._limit

    @property
    def overfull(self) -> bool:
        """Whether nothing must be put that can be avoided."""
        return len(self) >= OVERFULL * self._limit

    @property
    def oldest_at(self) -> int | None:
        """When the oldest unconfirmed message was put, service clock in µs."""
        heads = [*self._sent.values(), *list(self._queue)[:1], *list(self._refused)[:1]]
        return min((message.at for message in heads), default=None)

    def put(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Take a message over.

        Returns:
            Its number, which `pump` returns once it is confirmed; 0 at QoS 0.
        """
        if qos == 0:
            if self._link.connected and not self._link.congested:
                self._link.publish(topic.encode(), payload, 0, retain=retain)
                self.results["sent_qos0"] += 1
            else:
                self.dropped_qos0 += 1
            return 0
        self._number += 1
        self._queue.append(_Message(self._number, topic.encode(), payload, retain, self._link.clock()))
        return self._number

    def pump(self) -> list[int]:
        """Take confirmations, send what the window allows.

        Returns:
            Numbers of the messages that are confirmed since the last call.
        """
        done = [
            number
            for packet_id, reason in self._link.confirmed()
            if (number := self._answered(packet_id, reason))
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

    def _answered(self, packet_id: int, reason: int) -> int:
        """Note the broker's answer; return the message's number where it is done, else 0."""
        message = self._sent.pop(packet_id, None)
        if message is None:
            return 0
        message.packet_id = 0
        if reason >= FIRST_FAILURE:
            self.results["refused"] += 1
            if not self._refused:
                self._retry_at = monotonic() + self._backoff.pause()
            self._refused.append(message)
            self._refused_topics.add(message.topic)
            return 0
        if not self._refused:
            self._backoff.reset()
        self.results["no_subscribers" if reason == NO_SUBSCRIBERS else "confirmed"] += 1
        return message.number

    def _send_again(self) -> None:
        """Put what the lost connection left unconfirmed back to the front, marked as sent before."""
        for packet_id, message in reversed(self._sent.items()):
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
                message.topic, message.payload, 1, retain=message.retain, packet_id=message.packet_id
            )
            self._sent[packet_id] = message
            if message.retain:
                retained.add(message.topic)
