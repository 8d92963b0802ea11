"""The whole check of one broker, in its order."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from stream_detector.mqtt.broker_check.carrying import carrying, retaining
from stream_detector.mqtt.broker_check.finding import Finding
from stream_detector.mqtt.broker_check.guest import Guests
from stream_detector.mqtt.broker_check.keeping import keeping
from stream_detector.mqtt.broker_check.login import login, software
from stream_detector.mqtt.broker_check.permissions import hearing, reading, round_trip, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stream_detector.formats.topics import TopicPattern
    from stream_detector.mqtt.settings import BrokerSettings


@dataclass(frozen=True)
class BrokerCheck:
    """Checks one broker.

    Args:
        broker: Where and how; not ``embedded://``.
        base: What the service publishes stands below this topic.
        streams: What it listens to, by the streams' names, each with its QoS.
        embedded: Whether it is the broker inside, which keeps nothing over a restart anyway.
    """

    broker: BrokerSettings
    base: str
    streams: Mapping[str, tuple[TopicPattern, int]]
    embedded: bool = False

    @property
    def _guests(self) -> Guests:
        return Guests(self.broker, self.base)

    def examine(self) -> Iterator[Finding]:
        """Yield what is found, one after the other; without a login there is no more to find."""
        name = f"stream-detector-check-{secrets.token_hex(4)}"
        with self._guests.enter(name, expiry_s=self.broker.session_expiry_s) as guest:
            if not guest.until(lambda: guest.link.connected, timeout_s=3 * self.broker.connect_timeout_s):
                yield Finding("FAIL", "broker", guest.link.problem or "the broker does not answer")
                return
            yield from login(self._guests, guest)
            protocol = cast('Literal["5", "3.1.1"]', guest.link.protocol)
        # Which protocol it speaks is found out once: some brokers hang on the other.
        found = replace(self, broker=self.broker.model_copy(update={"protocol": protocol}))
        yield from found.visit(name)

    def visit(self, name: str) -> Iterator[Finding]:
        """Yield what is found in the protocol that the broker speaks.

        Args:
            name: Of the session that has just logged in.
        """
        self._guests.erase(name)
        canary = f"{self.base}/canary/{name}"
        with ExitStack() as stack:
            listener = stack.enter_context(self._guests.enter(f"{name}-listener", self._wanted(canary)))
            speaker = stack.enter_context(self._guests.enter(f"{name}-speaker"))
            if not speaker.until(lambda: speaker.link.connected):
                yield Finding("FAIL", "broker", speaker.link.problem or "a second login is not answered")
                return
            granted = listener.until(lambda: listener.link.ready)
            if not self.embedded:
                yield from software(self._guests, name)
            canary_lives = granted and (yield from round_trip(self._guests, speaker, listener, canary))
            yield from writing(self._guests, speaker, listener, name, granted=granted)
            yield from reading(listener, self.streams, granted=granted)
            if canary_lives and not self.embedded:
                yield from hearing(speaker, canary)
                yield from carrying(self._guests, speaker, name, canary)
                yield from retaining(self._guests, speaker, name, canary)
                yield from keeping(self._guests, speaker, name, f"{canary}-missed")

    def _wanted(self, canary: str) -> list[tuple[str, int]]:
        """Return what the service listens to, and the canary."""
        own = [(f"{self.base}/{topic}", 1) for topic in ("info", "status")]
        streams = [(pattern.filter, qos) for pattern, qos in self.streams.values()]
        return [*own, *streams, (canary, 1)]
