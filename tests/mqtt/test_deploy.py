"""The Mosquitto that we ship: the very file, started, keeps what the promise of the service needs."""

from __future__ import annotations

import re
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.formats.topics import TopicPattern
from stream_detector.mqtt.broker_check.check import BrokerCheck
from stream_detector.mqtt.settings import BrokerSettings
from tests.brokers import Mosquitto, Peer, free_port, wait_for

from .driving import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.certificates import Certificates

pytestmark = pytest.mark.mosquitto

SHIPPED = Path(__file__).parents[2] / "deploy" / "mosquitto"
USERS = {name: f"{name}-secret" for name in ("detector", "operator", "node-red", "pump-1", "pump-2")}
TELEMETRY = "plant/north/pump-1/telemetry"
OURS: dict[str, Any] = {"subscriptions": (("plant/+/+/telemetry", 1), ("stream_detector/status", 1))}


@pytest.fixture
def shipped(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> Iterator[Callable[..., Mosquitto]]:
    """Start the shipped broker, with other ports and folders; `tls` switches the second listener on."""
    brokers: list[Mosquitto] = []

    def start(*, tls: bool = False) -> Mosquitto:
        start_mosquitto(passwords=USERS)  # for its password file, and to skip where there is no Mosquitto
        broker = Mosquitto(tmp_path / "shipped")
        folder = tmp_path / "shipped"
        (folder / "certs").mkdir()
        shutil.copy(SHIPPED / "acl", folder / "stream_detector.acl")
        shutil.copy(tmp_path / "mosquitto-1" / "passwords", folder / "stream_detector.passwords")
        for name, file in (("ca", certificates.ca), ("server", certificates.server)):
            shutil.copy(file, folder / "certs" / f"{name}.pem")
        shutil.copy(certificates.server_key, folder / "certs" / "server.key")
        text = (SHIPPED / "mosquitto.conf").read_text()
        if tls:
            text = re.sub(r"(?m)^#(?=\w)", "", text)
            text = text.replace("listener 8883", f"listener {broker.port} 127.0.0.1")
        text = text.replace("listener 1883", f"listener {free_port() if tls else broker.port}")
        text = re.sub(r"/(etc|var/lib)/mosquitto/", f"{folder}/", text)
        (folder / "mosquitto.conf").write_text(f"user root\n{text}")
        brokers.append(broker)
        return broker.start()

    yield start
    for broker in brokers:
        broker.stop()


def login(user: str) -> dict[str, str]:
    """Return user and password."""
    return {"username": user, "password": USERS[user]}


def publish_many(broker: Mosquitto, topic: bytes, count: int) -> None:
    """Publish numbers at QoS 1 as one device, and return once each is acknowledged."""
    with Driver(broker.url, client_id="pump-1", subscriptions=(("none", 0),), **login("pump-1")) as driver:
        driver.until_ready()
        for start in range(0, count, driver.link.window):
            numbers = range(start, min(start + driver.link.window, count))
            left = {driver.link.publish(topic, b"%d" % number, 1, retain=False) for number in numbers}

            def answered(left: set[int] = left) -> bool:
                left.difference_update(packet_id for packet_id, _ in driver.link.confirmed())
                return not left

            driver.until(answered)


def test_sixty_thousand_messages_wait_for_us(shipped: Callable[..., Mosquitto]) -> None:
    """What devices send while the service is away comes when it is back, over a restart of the broker."""
    broker = shipped()
    with Driver(broker.url, **OURS, **login("detector")).until_ready():
        pass
    publish_many(broker, TELEMETRY.encode(), 60_000)
    broker.restart()
    with Driver(broker.url, **OURS, **login("detector")) as driver:
        driver.until(lambda: sum(map(len, driver.batches)) >= 60_000)
        assert driver.link.session_present
        assert driver.payloads == [b"%d" % number for number in range(60_000)]


def test_a_crash_costs_a_second(shipped: Callable[..., Mosquitto]) -> None:
    """After `kill -9` everything is there that was acknowledged before the last autosave."""
    broker = shipped()
    with Driver(broker.url, **OURS, **login("detector")).until_ready():
        pass
    publish_many(broker, TELEMETRY.encode(), 2_000)
    acknowledged = time.time()
    saved = Path(broker._folder, "mosquitto.db")
    wait_for(lambda: saved.exists() and saved.stat().st_mtime > acknowledged, what="an autosave")
    broker.stop(signal.SIGKILL)
    broker.start()
    with Driver(broker.url, **OURS, **login("detector")) as driver:
        driver.until(lambda: sum(map(len, driver.batches)) == 2_000)
        assert driver.link.session_present


def test_check_finds_nothing_to_complain_of(shipped: Callable[..., Mosquitto]) -> None:
    """The rules allow all that the service does, and the queue is long enough."""
    broker = shipped()
    settings = BrokerSettings.model_validate({"url": broker.url, **login("detector")})
    streams = {"pumps": (TopicPattern.parse("plant/{site}/{device}/telemetry"), 1)}
    findings = list(BrokerCheck(settings, "stream_detector", streams).examine())
    assert {found.what for found in findings if found.level in {"FAIL", "warn"}} <= {"software"}, findings
    assert {"canary", "publish", "queue"} <= {found.what for found in findings if found.level == "ok"}


def test_everybody_writes_as_little_as_will_do(shipped: Callable[..., Mosquitto]) -> None:
    """The broker takes a message where it belongs to the user's work, and refuses all others."""
    broker = shipped()
    alert, command = "stream_detector/alert/pumps/pump-1", "stream_detector/cmd/"
    tries = [TELEMETRY, alert, "stream_detector/status", f"{command}ack", f"{command}reload"]
    allowed = {user: [topic for topic in tries if answer(broker, user, topic, b"") < 0x80] for user in USERS}
    assert allowed == {
        "detector": [alert, "stream_detector/status"],
        "operator": [f"{command}ack", f"{command}reload"],
        "node-red": [f"{command}ack"],
        "pump-1": [TELEMETRY],
        "pump-2": [],
    }


def test_everybody_reads_as_little_as_will_do(shipped: Callable[..., Mosquitto]) -> None:
    """Of telemetry, alerts and commands each user hears what its work is."""
    broker = shipped()
    alert, command = "stream_detector/alert/pumps/pump-1", "stream_detector/cmd/reload"
    with ExitStack() as stack:
        listeners = {user: stack.enter_context(Peer(broker.port, **login(user))) for user in USERS}
        for listener in listeners.values():
            listener.subscribe("#")
        for user, topic in (("pump-1", TELEMETRY), ("detector", alert), ("operator", command)):
            answer(broker, user, topic, b"1")
        for listener in listeners.values():
            listener.subscribe("fence")  # what was to come, came before this answer
        heard = {user: [message.topic for message in peer.messages] for user, peer in listeners.items()}
    assert heard == {
        "detector": [TELEMETRY, command],
        "operator": [TELEMETRY, alert, command],
        "node-red": [alert],
        "pump-1": [],
        "pump-2": [],
    }


def test_what_is_too_large_is_refused_in_words(shipped: Callable[..., Mosquitto]) -> None:
    """Above 64 kB comes a reason, not silence; and nobody comes in without a password."""
    broker = shipped()
    assert answer(broker, "pump-1", TELEMETRY, bytes(65_536)) < 0x80
    assert answer(broker, "pump-1", TELEMETRY, bytes(65_537)) == 0x95
    with Driver(broker.url) as nobody:
        nobody.until_problem("Not authorized")
    with Driver(broker.url, username="detector", password="wrong") as stranger:  # noqa: S106
        stranger.until_problem("check broker.username and its password")


def test_with_tls_the_certificate_is_the_login(
    shipped: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    """Switched on, the second listener lets in who shows a certificate, under its common name."""
    broker = shipped(tls=True)
    url = f"mqtts://127.0.0.1:{broker.port}"
    cert, key = certificates.issue("detector", "extendedKeyUsage=clientAuth")
    with Driver(url, ca_file=certificates.ca) as nobody:
        nobody.until_problem("set broker.cert_file")
    settings = BrokerSettings.model_validate(
        {"url": url, "ca_file": certificates.ca, "cert_file": cert, "key_file": key}
    )
    streams = {"pumps": (TopicPattern.parse("plant/{site}/{device}/telemetry"), 1)}
    findings = list(BrokerCheck(settings, "stream_detector", streams).examine())
    assert {found.what for found in findings if found.level == "FAIL"} == set()


def answer(broker: Mosquitto, user: str, topic: str, payload: bytes) -> int:
    """Publish at QoS 1; return the broker's reason code."""
    codes: list[tuple[int, int]] = []
    with Driver(broker.url, client_id=user, subscriptions=(), protocol="5", **login(user)) as driver:
        driver.until(lambda: driver.link.connected)
        driver.link.publish(topic.encode(), payload, 1, retain=False)
        driver.until(lambda: codes.extend(driver.link.confirmed()) or codes)  # type: ignore[func-returns-value]
    return codes[0][1]
