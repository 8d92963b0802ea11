"""A connection to the broker: what is subscribed to, under which name, and all that lasts as long as it.

After an unexpected error the service begins a new connection with nothing on its way but what the outbox
holds; a network that comes and goes is the link's own business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from stream_detector.mqtt.link import Link
from stream_detector.outputs.messages import BROKER
from stream_detector.service.broker_target import BrokerTarget
from stream_detector.service.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.mqtt.broker import EmbeddedBroker
    from stream_detector.mqtt.settings import BrokerSettings
    from stream_detector.service.engine import Engine
    from stream_detector.service.persistence import Persistence
    from stream_detector.storage.store import Store

FILTERS = "filters"
"""The fact that outlives a start: which filters the session at the broker may hold."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What lasts as long as a connection.

    Attributes:
        link: Reads and writes.
        target: What is published on it.
        delivery: Writes, reports, acknowledges and publishes decisions.
    """

    link: Link
    target: BrokerTarget
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """What is subscribed to, each filter with its QoS.

    Attributes:
        service: What other instances of the service say of themselves.
        streams: Telemetry.
        optional: What the service works without.
        requests: How the topics of requests begin.
    """

    service: Sequence[tuple[str, int]]
    streams: Sequence[tuple[str, int]]
    optional: Sequence[tuple[str, int]]
    requests: str

    @property
    def lasting(self) -> list[str]:
        """Return what a later configuration may not want any more, and a kept session would still bring."""
        own = [(topic, qos) for topic, qos in self.optional if not topic.startswith("$SYS/")]
        return [topic for topic, _ in (*self.streams, *own)]


class Connector:
    """Makes connections.

    Args:
        settings: How to reach the broker.
        embedded: The broker inside, if there is one; it is connected to instead.
        client_id: Our name at the broker.
        subscriptions: What is subscribed to.
        engine: Decides and reports.
        persistence: Writes; remembers which filters were subscribed to.
        store: Holds the outbox.
        base: All our topics stand below it.
        home_assistant_prefix: What Home Assistant reads stands below it.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        embedded: EmbeddedBroker | None,
        *,
        client_id: str,
        subscriptions: Subscriptions,
        engine: Engine,
        persistence: Persistence,
        store: Store,
        base: str,
        home_assistant_prefix: str,
    ) -> None:
        self._settings = settings
        self._embedded = embedded
        self._client_id = client_id
        self._subscriptions = subscriptions
        self._engine = engine
        self._persistence = persistence
        self._store = store
        self._base = base
        self._home_assistant_prefix = home_assistant_prefix

    def connect(self) -> Connection:
        """Return a new connection; its link connects by itself."""
        wanted, engine = self._subscriptions, self._engine
        formerly = cast("list[str]", self._persistence.fact(FILTERS) or [])
        own = [topic for topic, _ in wanted.service]
        settings = self._settings
        if self._embedded is not None:
            settings = settings.model_copy(update={"url": self._embedded.url(settings.protocol)})
        link = Link(
            settings,
            client_id=self._client_id,
            subscriptions=[*wanted.service, *wanted.streams, *wanted.optional],
            will=(engine.messages.status_topic, b"offline"),
            clock=engine.clock,
            replayed=own,  # one that was there before must be heard of, too
            optional=[topic for topic, _ in wanted.optional],
            formerly=formerly,
            requests=wanted.requests.encode(),
            known=self._store.alive_at > 0 and self._embedded is None,
        )
        self._persistence.note(FILTERS, sorted({*formerly, *wanted.lasting}))
        target = BrokerTarget(link, self._base, self._home_assistant_prefix)
        delivery = Delivery(
            self._persistence, engine.reporting, self._store, engine.log, link, {BROKER: target}
        )
        return Connection(link, target, delivery)

    def subscribed(self, link: Link) -> None:
        """Note that the session holds what is wanted and nothing else, where it does."""
        if not link.formerly:
            self._persistence.note(FILTERS, self._subscriptions.lasting)

    @property
    def address(self) -> str:
        """Return where we connect to, for a sentence."""
        if self._embedded is not None:
            return (
                f"the embedded broker on {self._embedded.host} port {self._embedded.port} (MQTT 3.1.1) and"
                f" {self._embedded.port_v5} (MQTT 5)"
            )
        return str(self._settings.address)
