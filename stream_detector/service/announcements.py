"""The service's place among others: what it listens to, how it announces itself, and who else is there."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, cast

from stream_detector import __version__
from stream_detector.mqtt.link import Link
from stream_detector.outputs.home_assistant import A_TURN
from stream_detector.service.commands import REQUESTS
from stream_detector.service.other_instances import OtherInstances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream_detector.formats.intake import Taken
    from stream_detector.mqtt.broker import EmbeddedBroker
    from stream_detector.outputs.home_assistant import HomeAssistant
    from stream_detector.outputs.messages import Publication
    from stream_detector.outputs.telemetry import Telemetry
    from stream_detector.service.delivery import Delivery
    from stream_detector.service.persistence import Persistence
    from stream_detector.service.processing import Processing
    from stream_detector.settings import Settings

COMPLAIN_S = 60.0
NOTE_S = 0.1
"""The gauges of the outbox are at most so old."""
DROPPED = "$SYS/broker/publish/messages/dropped"
FILTERS, HOME_ASSISTANT = "filters", "home_assistant"
"""Facts that outlive a start: what the session at the broker may hold, and what Home Assistant was told."""


class Announcements:
    """What the broker knows of us, and we of the others at it.

    Args:
        settings: The configuration.
        processing: Makes what is published.
        persistence: Remembers what was announced.
        telemetry: Is told of the connection.
        home_assistant: Whom devices are introduced to.
        commands: Filter of the commands.
        client_id: Our name.
        broker: The one inside, if there is one.
        clock: Service clock, µs.
    """

    def __init__(
        self,
        settings: Settings,
        processing: Processing,
        persistence: Persistence,
        telemetry: Telemetry,
        home_assistant: HomeAssistant,
        *,
        commands: str,
        client_id: str,
        broker: EmbeddedBroker | None,
        clock: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._processing = processing
        self._persistence = persistence
        self._telemetry = telemetry
        self._home_assistant = home_assistant
        self._commands = commands
        self._client_id = client_id
        self._broker = broker
        self._clock = clock
        self._other_instances = OtherInstances(settings.topics.base, client_id)
        self._noted = 0.0

    def dial(self, *, known: bool) -> Link:
        """Return a new link; it connects by itself.

        Args:
            known: The broker may have kept a session of ours.
        """
        settings = self._settings
        formerly = cast("list[str]", self._persistence.fact(FILTERS) or [])
        own = [(topic, 1) for topic in self._other_instances.topics]
        qos = [stream.qos for stream in settings.streams.values()]
        optional = [(self._commands, 1), *((topic, 1) for topic in settings.home_assistant.filters)]
        if self._broker is None:
            optional.append((DROPPED, 0))
        self._link = Link(
            settings.broker
            if self._broker is None
            else settings.broker.model_copy(update={"url": self._broker.url(settings.broker.protocol)}),
            client_id=self._client_id,
            subscriptions=[*own, *zip(self._processing.intake.filters, qos, strict=True), *optional],
            will=(self._processing.publications.status_topic, b"offline"),
            clock=self._clock,
            replayed=[topic for topic, _ in own],  # one that was there before must be heard of, too
            optional=[topic for topic, _ in optional],
            formerly=formerly,
            requests=self._commands.removesuffix("+").encode(),
            known=known and self._broker is None,
        )
        self._persistence.note(FILTERS, sorted({*formerly, *self._filters}))
        self._home_assistant.begin(self._persistence.fact(HOME_ASSISTANT))
        self._persistence.note(HOME_ASSISTANT, self._home_assistant.fact)
        self.announced = 0
        self._states: Iterator[Publication] = iter(())
        self._standing = (False, 0)
        self._denied: set[str] = set()
        self._complained = time.monotonic() - COMPLAIN_S + 1.0  # a broker answers within a second
        self._complaint: str | None = None
        return self._link

    def follow(self, delivery: Delivery) -> None:
        """Complain while there is no connection, and announce ourselves on every new one.

        Raises:
            ConfigurationError: Another service is online under our base topic.
        """
        link = self._link
        self._complain()
        if (
            link.drained
            and self.announced != link.epoch
            and (self.announced or self._other_instances.absent())
        ):
            self._announce(delivery)
        if link.denied != self._denied:
            self._denied = set(link.denied)
            if self._commands in link.denied:
                self._telemetry.say(
                    "commands are not heard: the broker refuses %s; allow our login to read it",
                    self._commands,
                )
        publisher = delivery.publisher
        told = self.announced and delivery.problem is None  # what memory says is on disk
        if told and publisher.denied is None and publisher.under_way < A_TURN:
            self._introduce(delivery)
            for publication in islice(self._states, A_TURN):
                delivery.put(publication)
        standing = (link.ready, link.epoch)
        if standing != self._standing or time.monotonic() - self._noted >= NOTE_S:
            self._standing, self._noted = standing, time.monotonic()
            self._telemetry.connection(
                ready=link.ready,
                reconnects=link.reconnects,
                results=delivery.publisher.results,
                waiting=len(delivery.publisher),
                oldest_at=delivery.publisher.oldest_at,
            )

    def listen(self, taken: Taken) -> None:
        """Take in what the broker says of itself, and what others say under our base topic."""
        self._other_instances.hear(taken.own)
        self._home_assistant.hear(taken.own)
        for topic, payload in taken.own:
            if topic == DROPPED and payload.isdigit() and len(payload) < 20:  # noqa: PLR2004 - digits
                self._telemetry.broker_dropped(int(payload))

    def info(self) -> Publication:
        """Return what we say of ourselves."""
        streams = {
            name: {
                "topic": stream.topic,
                "format": stream.format,
                "channels": {channel: said.unit for channel, said in stream.channels.items()},
                "window": stream.window,
                "model": self._processing.model_of(name),
            }
            for name, stream in self._settings.streams.items()
        }
        return self._processing.publications.info(
            {
                "instance": self._client_id,
                "version": __version__,
                "streams": streams,
                "commands": list(REQUESTS),
            }
        )

    def leave(self, delivery: Delivery) -> None:
        """Say goodbye, where we were there at all; else the status is another one's."""
        if self.announced:
            delivery.put(self._processing.publications.status("stopped"))

    @property
    def _filters(self) -> list[str]:
        """What a later configuration may not want any more, and a kept session would still bring."""
        return [*self._processing.intake.filters, self._commands, *self._settings.home_assistant.filters]

    def _complain(self) -> None:
        """Say why there is no connection: at once where the reason is a new one, else once a minute."""
        problem = self._link.problem
        if self._link.ready or not problem:
            return
        news = self._complaint is not None and self._complaint != problem
        if news or time.monotonic() - self._complained >= COMPLAIN_S:
            self._complained, self._complaint = time.monotonic(), problem
            self._telemetry.say("not connected: %s", problem)

    def _announce(self, delivery: Delivery) -> None:
        link = self._link
        self.announced = link.epoch
        self._complained, self._complaint = -COMPLAIN_S, None
        delivery.put(self.info())
        delivery.put(self._processing.publications.status("online"))
        if not link.formerly:
            self._persistence.note(FILTERS, self._filters)
        self._telemetry.say(
            "connected to %s with MQTT %s, subscribed to %s",
            self._where(),
            link.protocol,
            ", ".join(self._processing.intake.filters),
        )
        if not link.session_present:  # then what was retained may be gone, too
            self._states = self._retold()
            if link.epoch > 1:  # a start announces everybody anyway
                self._home_assistant.once_more()
        for note in link.notes:
            self._telemetry.say("%s", note)

    def _introduce(self, delivery: Delivery) -> None:
        """Tell Home Assistant of some devices."""
        home_assistant = self._home_assistant
        if not home_assistant.done:
            for publication in home_assistant.take():
                delivery.put(publication)
        elif home_assistant.formerly and not len(delivery.publisher):
            home_assistant.formerly.clear()
            self._persistence.note(HOME_ASSISTANT, home_assistant.fact)

    def _retold(self) -> Iterator[Publication]:
        """Yield the states of all devices in memory, each as it is when its turn comes."""
        for name in self._settings.streams:
            for device in list(self._processing.pipeline.streams[name].devices.slot_of):
                told = self._processing.pipeline.streams[name].told(device)  # which may be a new one
                publication = told and self._processing.publications.of(told, self._clock())
                if publication:
                    yield publication

    def _where(self) -> str:
        if self._broker is not None:
            return (
                f"the embedded broker on {self._broker.host} port {self._broker.port} (MQTT 3.1.1) and"
                f" {self._broker.port_v5} (MQTT 5)"
            )
        return str(self._settings.broker.address)
