"""`stream-detector demo`: a broker, a simulated plant and the detector, live in one terminal."""

from __future__ import annotations

import logging
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stream_detector.errors import BrokerError, ConfigurationError, StreamDetectorError

if TYPE_CHECKING:
    from stream_detector.core.events import Event
    from stream_detector.demo.fleet import Fault, Fleet
    from stream_detector.demo.plant import Connection
    from stream_detector.mqtt.settings import BrokerSettings
    from stream_detector.service.assembly import Service
    from stream_detector.settings import Settings

STATUS_EVERY_S = 5.0
CONNECT_S = 10.0
FAULTS = {
    "spike": "a spike",
    "level_shift": "a level shift",
    "drift": "a slow drift",
    "stuck": "a stuck value",
    "silence": "a silence",
}
BROKER = typer.Option(
    "embedded://127.0.0.1:1883", "--broker", help="Use a broker of your own: mqtt://host:port."
)


def command(
    broker: str = BROKER,
    seed: int = typer.Option(1, help="Another seed is another plant, with other faults."),
    devices: int = typer.Option(24, min=1, max=10_000, help="Devices of the plant."),
    rate: float = typer.Option(20.0, min=0.1, max=1000, help="Readings a second of each device."),
    duration: float = typer.Option(0.0, min=0, help="End after so many seconds; 0: at Ctrl-C."),
) -> None:
    """Show the detector at work on a simulated plant."""
    from stream_detector.demo.fleet import Fleet
    from stream_detector.demo.plant import Plant
    from stream_detector.service.assembly import Service

    logging.getLogger("stream_detector").setLevel(logging.CRITICAL)  # the screen is the log
    folder = Path(tempfile.mkdtemp(prefix="stream-detector-demo-"))
    try:
        fleet = Fleet(seed, devices)
        screen = Screen(len(fleet.devices))
        service = Service(settings_for(broker, folder), readers=[screen.event])
        service.stop_on_signals()
        plant = Plant(fleet, connection(service), rate_hz=rate)
        screen.open(service, fleet, rate)
        stop = threading.Event()
        trouble: list[StreamDetectorError] = []

        def publish() -> None:
            try:
                deadline = time.monotonic() + CONNECT_S
                while not service.ready and not stop.wait(0.02):
                    if time.monotonic() > deadline:
                        raise BrokerError("; ".join(service.not_ready()))
                screen.begin()
                plant.run(stop, duration_s=duration or None, on_fault=screen.fault)
                if duration:
                    service.stop()
            except StreamDetectorError as error:
                trouble.append(error)
                service.stop()

        threads = [
            threading.Thread(target=publish, name="plant", daemon=True),
            threading.Thread(target=screen.watch, args=(service, stop), name="screen", daemon=True),
        ]
        for thread in threads:
            thread.start()
        service.run()
        stop.set()
        screen.close()
        for error in trouble:
            raise error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settings_for(broker: str, folder: Path) -> Settings:
    """Return the demo's configuration; the ports are free ones where the usual ones are taken."""
    from stream_detector.demo.fleet import stream_settings
    from stream_detector.settings import validate

    if broker.startswith("embedded://") and not _free(1883):
        broker = "embedded://127.0.0.1:0"
    return validate(
        {
            "broker": {"url": broker, "session_expiry_s": 0},
            "streams": stream_settings(),
            "http": {"listen": f"127.0.0.1:{8808 if _free(8808) else 0}"},
            "state_dir": str(folder / "state"),
            "models_dir": str(folder / "models"),
        },
        where="demo",
    )


def connection(service: Service) -> Connection:
    """Return how the plant reaches the service's broker."""
    from stream_detector.demo.plant import Connection

    if service.broker is not None:
        return Connection(service.broker.host, service.broker.port, protocol="3.1.1")
    return connection_to(service.settings.broker)


def connection_to(broker: BrokerSettings) -> Connection:
    """Return how the plant reaches a broker.

    Raises:
        ConfigurationError: It is reached by websockets.
    """
    from stream_detector.demo.plant import Connection

    address = broker.address
    if address.websockets:
        raise ConfigurationError("--broker: the simulated plant speaks mqtt:// and mqtts://, not websockets")
    try:
        password = broker.read_password()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text, or too long"
        raise ConfigurationError(f"{broker.password_file}: the password cannot be read: {reason}") from None
    return Connection(
        address.host,
        address.port,
        protocol="3.1.1",
        username=broker.username,
        password=password,
        tls=address.tls,
        ca_file=broker.ca_file,
    )


class Screen:
    """Prints what happens, a line an event; times count from the first reading.

    Args:
        devices: How many devices there are.
    """

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self._begin: float | None = None
        self._states = dict.fromkeys(("warming_up", "ok", "alerting", "silent"), 0)
        self._raised = self._cleared = 0
        self._said: set[str] = set()
        self._colours = sys.stdout.isatty()
        self._lock = threading.Lock()

    def open(self, service: Service, fleet: Fleet, rate: float) -> None:
        """Say what there is and where."""
        kinds: dict[str, int] = {}
        for device in fleet.devices:
            kind = device.topic.split("/")[2]
            kinds[kind] = kinds.get(kind, 0) + 1
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        print(f"A simulated plant: {listed}; {rate * len(fleet.devices):.0f} readings a second.\n")
        if service.broker is not None:
            host, port = service.broker.host, service.broker.port
            print(f"  broker   {host}:{port} (MQTT 3.1.1), {host}:{service.broker.port_v5} (MQTT 5)")
        else:
            address = service.settings.broker.address
            host, port = address.host, address.port
            print(f"  broker   {address}")
        print(f"  join in  mosquitto_sub -h {host} -p {port} -v -t 'stream_detector/alert/#'")
        print(f"  metrics  {service.url}/metrics")
        print("  end      Ctrl-C\n", flush=True)

    def begin(self) -> None:
        """Count time from here."""
        self._begin = time.monotonic()

    def fault(self, fault: Fault, starts: bool) -> None:
        """Say what the plant does, so that the detector can be checked."""
        where = f"{fault.device} {fault.channel}" if fault.channel else fault.device
        self._print("plant", f"{where}: {FAULTS[fault.kind]} {'begins' if starts else 'ends'}", "2")

    def event(self, event: Event) -> None:
        """Read one event of the detector."""
        from stream_detector.core.events import AlertChanged, DeviceStateChanged

        if isinstance(event, DeviceStateChanged):
            if event.previous:
                self._states[event.previous] -= 1
            self._states[event.state] += 1
            self._milestones()
        elif isinstance(event, AlertChanged):
            where = f"{event.stream}/{event.device}"
            if event.event == "clear":
                self._cleared += 1
                self._print("CLEARED", f"{where} {event.kind}: {event.reason}", "32")
            else:
                word = "RAISED" if event.event == "raise" else "UPDATED"
                self._raised += event.event == "raise"
                colour = "1;31" if event.severity == "critical" else "33"
                text = f"{where} {event.kind}, {event.severity}, score {event.score:.2f}: {event.reason}"
                self._print(word, text, colour)

    def watch(self, service: Service, stop: threading.Event) -> None:
        """Say every few seconds how fast it goes."""
        last, at = 0.0, time.monotonic()
        while not stop.wait(STATUS_EVERY_S):
            now, total = time.monotonic(), service.metrics.readings()
            states = ", ".join(
                f"{count} {state.replace('_', ' ')}" for state, count in self._states.items() if count
            )
            self._print(
                "status",
                f"{(total - last) / (now - at):.0f} readings/s; devices: {states};"
                f" alerts: {self._raised} raised, {self._cleared} cleared",
                "2",
            )
            last, at = total, now

    def close(self) -> None:
        """Say how it ended."""
        print(f"\nDone: {self._raised} alerts raised, {self._cleared} cleared.", flush=True)

    def _milestones(self) -> None:
        if sum(self._states.values()) == self._devices and "warming" not in self._said:
            self._said.add("warming")
            self._print("detector", f"{self._devices} devices found, warming up (20 readings each)", "2")
        if self._states["warming_up"] == 0 and "warming" in self._said and "warm" not in self._said:
            self._said.add("warm")
            self._print("detector", "all devices are warmed up and scored", "2")

    def _print(self, word: str, text: str, colour: str) -> None:
        seconds = time.monotonic() - self._begin if self._begin else 0.0
        line = f"{seconds:6.1f} s  {word:<8}  {text}"
        with self._lock:
            print(f"\033[{colour}m{line}\033[0m" if self._colours else line, flush=True)


def _free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
