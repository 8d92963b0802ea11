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
    from collections.abc import Callable, Iterable
    from pathlib import Path

ANY = 268_435_455
"""Bytes: the largest packet of MQTT."""
SIZES = {131_072: "128 kB", 1_048_576: "1 MB", ANY: "256 MB"}
UNHEARD = "alerts that are published while nobody subscribes"


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """A broker, as we meet it.

    Attributes:
        name: With its version.
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
        name="Mosquitto 2.0.11",
        start=_mosquitto,
        protocol="5",
        unheard=True,
        drops=True,
        ahead=1000,
        lost="nothing, with the settings of `deploy/mosquitto`",
    ),
    "mosquitto-3.1.1": Abilities(
        name="Mosquitto 2.0.11",
        start=_mosquitto,
        protocol="3.1.1",
        wish="3.1.1",
        drops=True,
        ahead=500,
        lost=UNHEARD,
    ),
    "embedded-5": Abilities(
        name="embedded (iotcore 0.4.0)",
        start=lambda folder: Embedded(folder, "5").start(),
        protocol="5",
        restart=False,
        ahead=100,
        marks=False,
        packet=131_072,
        lost=f"whatever waits in it when it ends; {UNHEARD}",
    ),
    "embedded-3.1.1": Abilities(
        name="embedded (iotcore 0.4.0)",
        start=lambda folder: Embedded(folder, "3.1.1").start(),
        protocol="3.1.1",
        restart=False,
        ahead=100,
        marks=False,
        packet=131_072,
        lost=f"whatever waits in it when it ends; {UNHEARD}",
    ),
    "aedes": Abilities(
        name="aedes 1.2.0",
        start=lambda folder: Aedes(folder).start(),
        protocol="3.1.1",
        restart=False,
        ahead=None,
        marks=False,
        lost=f"whatever waits in it when it ends; {UNHEARD}",
    ),
    "rabbitmq": Abilities(
        name="RabbitMQ 3.10.8",
        start=lambda folder: RabbitMQ(folder).start(),
        protocol="3.1.1",
        wildcards=False,
        ahead=10,
        dots=False,
        lost=f"readings of devices whose names have a dot; {UNHEARD}",
    ),
    "nats": Abilities(
        name="nats-server 2.15.1",
        start=lambda folder: Nats(folder).start(),
        protocol="3.1.1",
        ahead=1024,
        again="later",
        packet=1_048_576,
        spaces=False,
        lost="readings that were on their way when a connection broke, unless `ack_wait` is short: they count"
        f" as late; {UNHEARD}",
    ),
}


def table() -> str:
    """Return what each can do, as the docs have it."""
    head = (
        *("broker", "MQTT", "keeps sessions over its restart", "retained messages come to"),
        *("says that nobody listens", "counts what it drops", "sends before we acknowledge"),
        *("sends again after a cut", "packets up to", "topics"),
    )
    return _markdown(head, map(_row, BROKERS.values()))


def losses() -> str:
    """Return what each loses, as the docs have it."""
    rows = ((broker.name, broker.protocol, broker.lost) for broker in BROKERS.values())
    return _markdown(("broker", "MQTT", "what is lost"), rows)


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def _row(broker: Abilities) -> tuple[str, ...]:
    yes = {True: "yes", False: "**no**"}
    again = "at once" if broker.again == "at once" else "**after 30 s**"
    topics = "all"
    if not broker.dots:
        topics = "**`.` becomes `/`**"
    elif not broker.spaces:
        topics = "**none with a space**"
    return (
        broker.name,
        broker.protocol,
        yes[broker.restart],
        "all subscriptions" if broker.wildcards else "**those without wildcards**",
        yes[broker.unheard],
        yes[broker.drops],
        "all" if broker.ahead is None else str(broker.ahead),
        again if broker.marks else f"{again}, **not marked**",
        SIZES[broker.packet],
        topics,
    )
