"""Announcements: how the service appears at the broker, and what the broker says to it.

On every new login the service says what it is and that it is online; to a broker that has kept nothing,
the states of all devices are published again, some at a time.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from stream_detector import __version__
from stream_detector.outputs.home_assistant import A_TURN
from stream_detector.outputs.messages import ModelMessage
from stream_detector.service.commands import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stream_detector.formats.taken import Taken
    from stream_detector.outputs.home_assistant import HomeAssistant
    from stream_detector.outputs.messages import Publication
    from stream_detector.service.connection import Connection, Connector
    from stream_detector.service.engine import Engine
    from stream_detector.service.other_instances import OtherInstances
    from stream_detector.service.persistence import Persistence

WARN_EVERY_S = 60.0
GAUGES_EVERY_S = 0.1
"""The gauges of the outbox are at most so old."""
DROPPED = "$SYS/broker/publish/messages/dropped"
MOST_DIGITS = 20
HOME_ASSISTANT = "home_assistant"
"""The fact that outlives a start: what was announced to Home Assistant."""


class Announcements:
    """What the broker knows of us.

    Args:
        engine: Its memory is what is announced.
        persistence: Remembers what was announced.
        connector: Knows where we connect to.
        home_assistant: Introduces devices.
        other_instances: Who else publishes under our base topic.
        streams: What `info` says of each stream, beside its model.
        commands: Filter of the requests.
        client_id: Our name.
    """

    def __init__(
        self,
        engine: Engine,
        persistence: Persistence,
        connector: Connector,
        home_assistant: HomeAssistant,
        other_instances: OtherInstances,
        *,
        streams: Mapping[str, Mapping[str, Any]],
        commands: str,
        client_id: str,
    ) -> None:
        self._engine = engine
        self._log = engine.log
        self._persistence = persistence
        self._connector = connector
        self._home_assistant = home_assistant
        self._other_instances = other_instances
        self._streams = streams
        self._commands = commands
        self._client_id = client_id
        self._gauges_at = 0.0

    def begin(self, connection: Connection) -> None:
        """Begin with a new connection."""
        self._link = connection.link
        self._delivery = connection.delivery
        self._publisher = connection.target.publisher
        self._home_assistant.begin(self._persistence.fact(HOME_ASSISTANT))
        self._persistence.note(HOME_ASSISTANT, self._home_assistant.fact)
        self.announced = 0
        self._states: Iterator[Publication] = iter(())
        self._shown = (False, 0)
        self._denied: set[str] = set()
        self._warned_at = time.monotonic() - WARN_EVERY_S + 1.0  # a broker answers within a second
        self._warned_of: str | None = None

    def follow(self) -> None:
        """Warn while there is no connection, and announce the service on every new one.

        Raises:
            ConfigurationError: Another service is online under our base topic.
        """
        link, publisher = self._link, self._publisher
        self._warn()
        new_login = link.drained and self.announced != link.epoch
        if new_login and (self.announced or self._other_instances.absent()):
            self._announce()
        if link.denied != self._denied:
            self._denied = set(link.denied)
            if self._commands in link.denied:
                self._log.info(
                    "commands are not heard: the broker refuses %s; allow our login to read it",
                    self._commands,
                )
        on_disk = self.announced and self._delivery.problem is None  # what memory says is on disk
        if on_disk and publisher.denied is None and publisher.under_way < A_TURN:
            self._introduce()
            for publication in islice(self._states, A_TURN):
                self._delivery.put(publication)
        shown = (link.ready, link.epoch)
        if shown != self._shown or time.monotonic() - self._gauges_at >= GAUGES_EVERY_S:
            self._shown, self._gauges_at = shown, time.monotonic()
            self._engine.metrics.connection(
                ready=link.ready,
                reconnects=max(0, link.epoch - 1),
                results=publisher.results,
                waiting=len(publisher),
                oldest_at=publisher.oldest_at,
            )

    def listen(self, taken: Taken) -> None:
        """Take in what the broker says of itself, and what others say under our base topic."""
        self._other_instances.listen(taken.own)
        self._home_assistant.listen(taken.own)
        for topic, payload in taken.own:
            if topic == DROPPED and payload.isdigit() and len(payload) < MOST_DIGITS:
                self._dropped(int(payload))

    def info(self) -> Publication:
        """Return what the service says of itself."""
        streams = {
            name: {**fixed, "model": self._models(name)[0], "models": self._models(name)}
            for name, fixed in self._streams.items()
        }
        return self._engine.messages.info(
            {
                "instance": self._client_id,
                "version": __version__,
                "streams": streams,
                "commands": list(REQUESTS),
            }
        )

    def leave(self) -> None:
        """Say that the service stops, where it was announced at all; else the status is another one's."""
        if self.announced:
            self._delivery.put(self._engine.messages.status("stopped"))

    def _dropped(self, total: int) -> None:
        """Take in how many messages the broker has dropped, for anybody."""
        if more := self._engine.metrics.broker_dropped(total):
            self._log.warn(
                "dropped",
                "the broker says that it has dropped %d messages, perhaps ours; raise its queue limits"
                " (deploy/mosquitto tells which)",
                more,
            )

    def _models(self, stream: str) -> list[ModelMessage]:
        """Return what scores a stream, the live detector first."""
        detectors = self._engine.memory.streams[stream].detectors
        return [ModelMessage(each.name, each.version, role) for role, (each, _) in detectors.items()]

    def _warn(self) -> None:
        """Say why there is no connection: at once where the reason is a new one, else once a minute."""
        problem = self._link.problem
        if self._link.ready or not problem:
            return
        news = self._warned_of is not None and self._warned_of != problem
        if news or time.monotonic() - self._warned_at >= WARN_EVERY_S:
            self._warned_at, self._warned_of = time.monotonic(), problem
            self._log.info("not connected: %s", problem)

    def _announce(self) -> None:
        link = self._link
        self.announced = link.epoch
        self._warned_at, self._warned_of = -WARN_EVERY_S, None
        self._delivery.put(self.info())
        self._delivery.put(self._engine.messages.status("online"))
        self._connector.subscribed(link)
        self._log.info(
            "connected to %s with MQTT %s, subscribed to %s",
            self._connector.address,
            link.protocol,
            ", ".join(self._engine.intake.filters),
        )
        if not link.session_present:  # then what was retained may be gone, too
            self._states = self._all_states()
            if link.epoch > 1:  # a start announces everybody anyway
                self._home_assistant.once_more()
        for note in link.notes:
            self._log.info("%s", note)

    def _introduce(self) -> None:
        """Introduce some devices to Home Assistant."""
        home_assistant = self._home_assistant
        if not home_assistant.done:
            for publication in home_assistant.take():
                self._delivery.put(publication)
        elif home_assistant.formerly and not len(self._publisher):
            home_assistant.formerly.clear()
            self._persistence.note(HOME_ASSISTANT, home_assistant.fact)

    def _all_states(self) -> Iterator[Publication]:
        """Yield the states of all devices in memory, each as it is when its turn comes."""
        engine = self._engine
        for name in self._streams:
            for device in list(engine.memory.streams[name].devices.slot_of):
                state = engine.memory.streams[name].published_state(
                    device
                )  # the stream may be a new object by now
                publication = state and engine.messages.of(state, engine.clock())
                if publication:
                    yield publication
