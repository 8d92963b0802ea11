"""`stream-detector simulate`: the demo's plant, to any broker."""

from __future__ import annotations

import re
import signal
import threading
from enum import Enum
from pathlib import Path

import typer

from stream_detector.cli import common
from stream_detector.cli.demo import FAULTS, connection_to
from stream_detector.errors import ConfigurationError


class Qos(Enum):
    """MQTT's qualities of service that the plant can publish with."""

    AT_MOST_ONCE = "0"
    AT_LEAST_ONCE = "1"


def command(
    broker: str = typer.Option(
        "mqtt://127.0.0.1:1883", "--broker", help="mqtt://host:port or mqtts://host:port."
    ),
    devices: int = typer.Option(24, min=1, max=10_000, help="Devices of the plant."),
    rate: float = typer.Option(20.0, min=0.1, max=1000, help="Readings a second of each device."),
    seed: int = typer.Option(1, help="Another seed is another plant, with other faults."),
    faults: bool = typer.Option(True, help="Whether devices fail now and then."),
    qos: Qos = typer.Option(Qos.AT_LEAST_ONCE, help="Publish with."),
    topic: str = typer.Option(
        "plant/{site}/{kind}/{device}", help="Of a device; {site}, {kind} and {device} are filled in."
    ),
    duration: float = typer.Option(0.0, min=0, help="End after so many seconds; 0: at Ctrl-C."),
    username: str | None = typer.Option(None, help="Login name."),
    password_file: Path | None = typer.Option(None, help="File with the password."),
    ca_file: Path | None = typer.Option(None, help="CA that signed the broker's certificate."),
) -> None:
    """Publish a simulated plant."""
    from pydantic import ValidationError

    from stream_detector.demo.fleet import TOPIC, Fault, Fleet
    from stream_detector.demo.plant import Plant
    from stream_detector.mqtt.settings import BrokerSettings

    try:
        reach = BrokerSettings(url=broker, username=username, password_file=password_file, ca_file=ca_file)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"--broker {broker}: {what}") from None
    if reach.address.scheme == "embedded":
        raise ConfigurationError("--broker: name a broker that runs, such as mqtt://127.0.0.1:1883")
    if "{device}" not in topic or set(re.sub("{(site|kind|device)}", "", topic)) & set("{}+#"):
        raise ConfigurationError(
            f"--topic {topic}: a topic with {{device}} in it is needed, such as {TOPIC}; no + and no #"
        )
    fleet = Fleet(seed, devices, faults=faults, topic=topic)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def tell(fault: Fault, starts: bool) -> None:
        where = f"{fault.device} {fault.channel}" if fault.channel else fault.device
        print(f"{where}: {FAULTS[fault.kind]} {'begins' if starts else 'ends'}", flush=True)

    common.note(
        f"{devices} devices, {rate * devices:.0f} readings a second to {reach.address}; Ctrl-C ends it"
    )
    published = Plant(
        fleet, connection_to(reach), rate_hz=rate, qos=1 if qos is Qos.AT_LEAST_ONCE else 0
    ).run(stop, duration_s=duration or None, on_fault=tell)
    common.note(f"{published} readings published")
