"""What each broker can and cannot do: one table for the tests and for docs/brokers.md.

The tests ask each broker for every line of it, also for what it cannot do, so that the table stays true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tests.brokers import MOSQUITTO, Mosquitto

from .aedes import Aedes
from .embedded import Embedded
from .nats import Nats
from .program import missing
from .rabbitmq import RabbitMQ

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANY = 268_435_455
"""Bytes: the largest packet of MQTT."""


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """A broker, as we meet it.

    Attributes:
        name: With its version, and the protocol where it has several.
        start: Starts one with its files in a folder.
        protocol: What the service speaks with it, with `wish` in its configuration.
        wish: `broker.protocol` of the service.
        restart: Whether sessions, what they miss, and retained messages outlive its orderly restart.
        wildcards: Whether a subscription with a wildcard brings retained messages.
        unheard: Whether it says that nobody has got a message (MQTT 5).
        drops: Whether it counts what it drops, where we look for that.
        ahead: So many messages it sends before any is acknowledged; None: all.
        again: Whether it sends what was not acknowledged at the next login, or some time later.
        marks: Whether it marks what it sends again.
        packet: Bytes of a packet that it carries.
        dots: Whether a dot in a topic stays a dot.
        spaces: Whether a topic may have a space.
        lost: What is lost with it, in the words of the docs.
    """

    name: str
    start: Callable[[Path], Any]
    protocol: Literal["5", "3.1.1"]
    wish: Literal["auto", "3.1.1"] = "auto"
    restart: bool = True
    wildcards: bool = True
    unheard: bool = False
    drops: bool = False
    ahead: int | None
    again: Literal["at once", "later"] = "at once"
    marks: bool = True
    packet: int = ANY
    dots: bool = True
    spaces: bool = True
    lost: str

    @property
    def mqtt5(self) -> bool:
        """Whether its port speaks MQTT 5 to us, and to the peers of a test."""
        return self.protocol == "5"


def _mosquitto(folder: Path) -> Mosquitto:
    if MOSQUITTO is None:
        missing("Mosquitto is not installed (Debian: apt install mosquitto)")
    return Mosquitto(folder, persistence=True).start()


BROKERS = {
    "mosquitto-5": Abilities(
        name="Mosquitto 2.0.11, MQTT 5",
        start=_mosquitto,
        protocol="5",
        unheard=True,
        drops=True,
        ahead=1000,
        lost="nothing, with the settings below",
    ),
    "mosquitto-3.1.1": Abilities(
        name="Mosquitto 2.0.11, MQTT 3.1.1",
        start=_mosquitto,
        protocol="3.1.1",
        wish="3.1.1",
        drops=True,
        ahead=500,
        lost="alerts that nobody hears; publishes that it denies look delivered",
    ),
    "embedded-5": Abilities(
        name="embedded (iotcore 0.4.0), MQTT 5",
        start=lambda folder: Embedded(folder, "5").start(),
        protocol="5",
        restart=False,
        ahead=100,
        marks=False,
        packet=131_072,
        lost="everything it holds when it ends; alerts that nobody hears",
    ),
    "embedded-3.1.1": Abilities(
        name="embedded (iotcore 0.4.0), MQTT 3.1.1",
        start=lambda folder: Embedded(folder, "3.1.1").start(),
        protocol="3.1.1",
        restart=False,
        ahead=100,
        marks=False,
        packet=131_072,
        lost="everything it holds when it ends; alerts that nobody hears",
    ),
    "aedes": Abilities(
        name="aedes 1.2.0, sessions in memory",
        start=lambda folder: Aedes(folder).start(),
        protocol="3.1.1",
        restart=False,
        ahead=None,
        marks=False,
        lost="everything it holds when it ends; alerts that nobody hears",
    ),
    "rabbitmq": Abilities(
        name="RabbitMQ 3.10.8, MQTT plugin",
        start=lambda folder: RabbitMQ(folder).start(),
        protocol="3.1.1",
        wildcards=False,
        ahead=10,
        dots=False,
        lost="readings on topics with a dot; alerts that nobody hears",
    ),
    "nats": Abilities(
        name="nats-server 2.15.1, MQTT gateway",
        start=lambda folder: Nats(folder).start(),
        protocol="3.1.1",
        ahead=1024,
        again="later",
        packet=1_048_576,
        spaces=False,
        lost="after a cut, readings on their way count as late; alerts that nobody hears",
    ),
}


def table() -> str:
    """Return the table of the docs."""
    head = (
        *("broker", "speaks", "keeps sessions and retained messages over its restart"),
        *("retained messages for", "says that nobody listens", "counts what it drops"),
        *("sends before we acknowledge", "sends again after a cut", "packets up to", "topics"),
        "what is lost",
    )
    rows = [head, ("---",) * len(head), *(_row(broker) for broker in BROKERS.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(broker: Abilities) -> tuple[str, ...]:
    yes = {True: "yes", False: "**no**"}
    marks = "" if broker.marks else ", **not marked**"
    again = "at once" if broker.again == "at once" else "**after 30 s**"
    topics = (
        ("" if broker.dots else "**`.` becomes `/`**") or ("" if broker.spaces else "**no spaces**")
    ) or "all"
    kilobytes = broker.packet // 1024
    size = f"{kilobytes} kB" if kilobytes < 1024 else f"{kilobytes // 1024 or 1} MB"
    return (
        broker.name,
        f"MQTT {broker.protocol}",
        yes[broker.restart],
        "all subscriptions" if broker.wildcards else "**only exact topics**",
        yes[broker.unheard],
        yes[broker.drops],
        "all" if broker.ahead is None else str(broker.ahead),
        again + marks,
        "256 MB" if broker.packet == ANY else size,
        topics,
        broker.lost,
    )
