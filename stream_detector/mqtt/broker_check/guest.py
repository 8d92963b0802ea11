"""Guests: connections of our own, from which a broker is asked; none disturbs a running service."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from stream_detector.mqtt.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stream_detector.mqtt.settings import BrokerSettings

ANSWER_S = 10.0
PAUSE_S = 1.0
"""What is retained, or queued for us, comes without a pause."""
DUP = 8


class Guest:
    """A connection of ours, what came on it, and what was answered.

    Args:
        link: Not connected yet.

    Attributes:
        heard: Topics and payloads, in order.
        marked: Payloads that the broker said it has sent before.
        silent: Whether nothing that comes is acknowledged.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard: list[tuple[str, bytes]] = []
        self.marked: set[bytes] = set()
        self.silent = False
        self._answers: dict[int, int] = {}  # packet id -> reason code

    def turn(self) -> None:
        """Take one turn of the connection."""
        received = self.link.poll(0.01)
        self._answers |= dict(self.link.confirmed())
        if received is not None:
            topics = (topic.decode(errors="replace") for topic in received.topics)
            self.heard += zip(topics, received.payloads, strict=True)
            flagged = zip(received.flags, received.payloads, strict=True)
            self.marked.update(payload for flags, payload in flagged if flags & DUP)
            if not self.silent:
                self.link.acknowledge(received)

    def until(self, done: Callable[[], object], *others: Guest, timeout_s: float = ANSWER_S) -> bool:
        """Take turns until something holds, the broker refuses us, or it takes too long."""
        deadline = monotonic() + timeout_s
        while not done():
            for guest in (self, *others):
                guest.turn()
            if self.link.last_error or monotonic() > deadline:
                return bool(done())
        return True

    def last(self, topic: str) -> bytes | None:
        """Return what came last on a topic."""
        return next((payload for name, payload in reversed(self.heard) if name == topic), None)

    def more(self) -> bool:
        """Wait for further messages; return whether there are any."""
        before = len(self.heard)
        return self.until(lambda: len(self.heard) > before, timeout_s=PAUSE_S)

    def publish(
        self, messages: Sequence[tuple[str, bytes]], *others: Guest, retain: bool = False
    ) -> list[int | None]:
        """Publish at QoS 1, never more at once than the broker takes.

        Returns:
            Its answer to each: a reason code, 0 with 3.1.1; None where there is none.
        """
        codes: list[int | None] = []
        window = min(self.link.window, 500)
        for start in range(0, len(messages), window):
            if not self.link.connected:
                break
            sent = [
                self.link.publish(topic.encode(), payload, 1, retain=retain)
                for topic, payload in messages[start : start + window]
            ]
            self.until(lambda sent=sent: self._answers.keys() >= set(sent), *others)  # type: ignore[misc]
            codes += [self._answers.get(packet_id) for packet_id in sent]
        return codes + [None] * (len(messages) - len(codes))


@dataclass(frozen=True)
class Guests:
    """Lets guests in.

    Args:
        broker: Where and how they log in.
        base: What the service publishes stands below this topic.
    """

    broker: BrokerSettings
    base: str

    @contextmanager
    def enter(
        self, client_id: str, subscriptions: Sequence[tuple[str, int]] = (), *, expiry_s: int = 0
    ) -> Iterator[Guest]:
        """Give a connection that ends with the block; with an expiry, its session does not."""
        link = Link(
            self.broker.model_copy(update={"session_expiry_s": expiry_s}),
            client_id=client_id,
            subscriptions=subscriptions,
            will=(f"{self.base}/canary/will", b""),
            clock=lambda: time_ns() // 1000,
        )
        try:
            yield Guest(link)
        finally:
            link.close(1.0)

    def erase(self, client_id: str) -> None:
        """Leave no session behind: a login that starts clean ends the one before."""
        with self.enter(client_id) as guest:
            guest.until(lambda: guest.link.connected)
