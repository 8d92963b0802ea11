"""A broker that does not let us do everything: what we notice, what we say, and what is not lost.

Mosquitto grants a subscription that it then does not serve, and acknowledges a 3.1.1 publish that it drops:
what is hidden here is found by `check` (tests/cli/test_check.py), and said so.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.brokers import Mosquitto, Peer, wait_for
from tests.service.running import RunningService
from tests.service.sensor import TOPIC, WARMED_UP, healthy_list, payload, reading

from .driving import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.mosquitto

USERS = {"detector": "detector-secret", "joe": "joe-secret"}
JOE = "user joe\ntopic readwrite #\n"
OWN = "topic readwrite stream_detector/info\ntopic readwrite stream_detector/status\n"
ALL = f"{JOE}user detector\ntopic readwrite #\n"
PUMP = "plant/north/pump-1/telemetry"
ALERTS = "stream_detector/alert/pumps/pump-1"


@pytest.fixture(params=["5", "3.1.1"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Give each protocol."""
    return str(request.param)


@pytest.fixture
def start(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path, protocol: str
) -> Iterator[Callable[[str], tuple[Mosquitto, RunningService]]]:
    """Start a broker with access rules, and a service as the user `detector`."""
    services: list[RunningService] = []

    def start(acl: str) -> tuple[Mosquitto, RunningService]:
        broker = start_mosquitto(passwords=USERS, acl=acl)
        login = {"username": "detector", "password": USERS["detector"], "protocol": protocol}
        service = RunningService(
            tmp_path / "service", broker={"url": broker.url, **login}, streams={"pumps": {"topic": TOPIC}}
        )
        services.append(service)
        service.start().wait_ready()
        return broker, service

    yield start
    for service in services:
        service.__exit__()


def joe(broker: Mosquitto) -> Peer:
    """Return somebody who may do everything."""
    return Peer(broker.port, username="joe", password=USERS["joe"])


def allow(broker: Mosquitto, acl: str) -> None:
    """Change the access rules of a broker while it runs."""
    Path(broker._folder, "acl").write_text(acl)
    before = broker.log().count("Reloading config")
    os.kill(broker.pid, signal.SIGHUP)
    wait_for(lambda: broker.log().count("Reloading config") > before, what="the broker reads its rules again")


def breaks(peer: Peer) -> None:
    """Let a pump run well for a while, and then break."""
    peer.publish(PUMP, healthy_list(0, WARMED_UP))
    for number in range(3):
        peer.publish(PUMP, payload(reading(WARMED_UP + number, 97.0)))


def test_what_may_not_be_written_is_kept_and_tried_again(
    start: Callable[[str], tuple[Mosquitto, RunningService]], protocol: str
) -> None:
    """With MQTT 5 a refused alert is counted, kept, and delivered once it is allowed; 3.1.1 cannot tell."""
    broker, service = start(
        f"{JOE}user detector\ntopic read plant/#\ntopic write stream_detector/state/#\n{OWN}"
    )
    with joe(broker) as peer:
        peer.subscribe("stream_detector/alert/#")
        breaks(peer)
        service.wait_for_count("alert_events_total", 1, event="raise")
        if protocol == "3.1.1":
            wait_for(lambda: service.count("outbox_events") == 0)
            assert service.count("alert_publishes_total", result="refused") == 0
        else:
            service.wait_for_count("alert_publishes_total", 1, result="refused")
            assert service.count("outbox_events") >= 1
            allow(broker, ALL)
            came = peer.wait_for(len)
            assert came[0].topic == ALERTS
            wait_for(lambda: service.count("outbox_events") == 0)
        assert service.count("readings_accepted_total") == WARMED_UP + 3


def test_a_status_that_may_not_be_written_holds_nothing_back(
    start: Callable[[str], tuple[Mosquitto, RunningService]],
) -> None:
    """Alerts go out although the broker refuses the service's own status and info."""
    rules = "topic read plant/#\ntopic read stream_detector/#\ntopic write stream_detector/alert/#\n"
    broker, service = start(f"{JOE}user detector\n{rules}topic write stream_detector/state/#\n")
    with joe(broker) as peer:
        peer.subscribe("stream_detector/#")
        breaks(peer)
        came = peer.wait_for(lambda messages: any(message.topic == ALERTS for message in messages))
        assert not any(message.topic.endswith(("/status", "/info")) for message in came)
        assert service.get("/readyz")[0] == 200


def test_what_may_not_be_read_does_not_come_until_it_is_allowed(
    start: Callable[[str], tuple[Mosquitto, RunningService]],
) -> None:
    """Mosquitto grants the subscription and delivers nothing; once allowed, readings come at once."""
    broker, service = start(f"{JOE}user detector\ntopic write stream_detector/#\n{OWN}")
    with joe(broker) as peer:
        peer.publish(PUMP, payload(reading(0)))
        peer.publish("stream_detector/status", b"online")  # allowed: what came before it would have come, too
        service.wait_for_count("messages_received_total", 1, stream="")
        assert service.count("messages_received_total", stream="pumps") == 0
        allow(broker, ALL)
        peer.publish(PUMP, payload(reading(1)))
        service.wait_for_count("readings_accepted_total", 1)


@pytest.mark.parametrize(
    ("login", "remedy"),
    [
        pytest.param({"username": "detector", "password": "wrong"}, "its password", id="wrong password"),
        pytest.param(
            {"username": "nobody", "password": "detector-secret"}, "its password", id="unknown user"
        ),
        pytest.param({"username": "detector"}, "its password", id="no password"),
        pytest.param({}, "broker.username", id="no user"),
        pytest.param(
            {"username": "detector", "password": "detector-secret", "client_id": "other-1"},
            "whether it allows the client id 'other-1'",
            id="client id",
        ),
    ],
)
def test_a_login_that_is_refused_is_a_sentence(
    start_mosquitto: Callable[..., Mosquitto], protocol: str, login: dict[str, Any], remedy: str
) -> None:
    """The problem says what to look at, the attempts go on, and nothing of the password is shown."""
    broker = start_mosquitto(passwords=USERS, config="clientid_prefixes detector")
    settings = {"protocol": protocol, **login}
    client_id = settings.pop("client_id", "detector-1")
    with Driver(broker.url, client_id=client_id, **settings) as driver:
        driver.until(lambda: driver.link.last_error)
        sentence = str(driver.link.problem)
        assert "refuses our login (Not authorized)" in sentence or "Bad user name or password" in sentence
        assert remedy in sentence
        assert "secret" not in sentence
        assert not driver.link.connected


def test_a_session_that_is_taken_over_is_told(
    start_mosquitto: Callable[..., Mosquitto], protocol: str
) -> None:
    """A second login under our client id ends ours; when it has left, we are back."""
    broker = start_mosquitto()
    with Driver(broker.url, client_id="one", protocol=protocol).until_ready() as first:
        with Driver(broker.url, client_id="one", protocol=protocol).until_ready():
            first.until(lambda: not first.link.connected)
        assert first.link.problem
        first.until_ready()
