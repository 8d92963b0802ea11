"""The simulated plant on a real broker."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream_detector.demo.fleet import Fault, Fleet
from stream_detector.demo.plant import Connection, Plant
from stream_detector.errors import BrokerError
from tests.brokers import PATIENCE_S, Peer, Proxy, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paho.mqtt.client import MQTTMessage

    from stream_detector.mqtt.broker import EmbeddedBroker
    from tests.brokers import Mosquitto
    from tests.certificates import Certificates


@contextmanager
def running(plant: Plant, **options: Any) -> Iterator[threading.Event]:
    """Run a plant in a thread; what it raises is a warning, and a warning is an error."""
    stop = threading.Event()
    thread = threading.Thread(target=plant.run, args=(stop,), kwargs=options)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the plant does not stop"


def numbers(messages: list[MQTTMessage]) -> dict[str, list[int]]:
    """Return the sequence numbers that came on each topic."""
    out = defaultdict(list)
    for message in messages:
        out[message.topic].append(msgspec.json.decode(message.payload)["seq"])
    return out


def test_everything_arrives_in_order(broker: Mosquitto | EmbeddedBroker) -> None:
    """What a run says it published reaches a subscriber: each device's readings, numbered from 0."""
    plant = Plant(Fleet(seed=1, devices=6), Connection(port=broker.port, protocol="3.1.1"), rate_hz=50.0)
    with Peer(broker.port, mqtt5=False) as peer:
        peer.subscribe("plant/#")
        published = plant.run(threading.Event(), duration_s=0.5)
        assert published == 6 * 25
        came = numbers(peer.wait_for(lambda messages: len(messages) >= published))
    assert set(came) == {device.topic for device in Fleet(seed=1, devices=6).devices}
    assert all(seqs == list(range(25)) for seqs in came.values())


@pytest.mark.mosquitto
@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_5_and_the_quality_of_service(mosquitto: Mosquitto, qos: int) -> None:
    """With MQTT 5 too, readings come with the quality of service that was asked for."""
    plant = Plant(Fleet(seed=1, devices=3), Connection(port=mosquitto.port), qos=qos)  # type: ignore[arg-type]
    with Peer(mosquitto.port) as peer:
        peer.subscribe("plant/#")
        published = plant.run(threading.Event(), duration_s=0.2)
        assert {m.qos for m in peer.wait_for(lambda messages: len(messages) >= published)} == {qos}


def test_it_tells_of_its_faults(broker: Mosquitto | EmbeddedBroker) -> None:
    """Each fault is told when it starts and when it ends, and a silent device is not heard meanwhile."""
    fleet = Fleet(seed=1, devices=2, faults=[Fault("pump-01", "silence", None, 0.2, 0.4, 0.0)])
    told: list[tuple[str, bool]] = []
    plant = Plant(fleet, Connection(port=broker.port, protocol="3.1.1"))
    with Peer(broker.port, mqtt5=False) as peer:
        peer.subscribe("plant/#")
        published = plant.run(
            threading.Event(),
            duration_s=0.6,
            on_fault=lambda fault, starts: told.append((fault.device, starts)),
        )
        came = numbers(peer.wait_for(lambda messages: len(messages) >= published))
    assert told == [("pump-01", True), ("pump-01", False)]
    assert came["plant/north/pumps/pump-01"] == [0, 1, 2, 3, 8, 9, 10, 11]


def test_a_cut_connection_loses_no_reading(broker: Mosquitto | EmbeddedBroker) -> None:
    """At QoS 1 the plant comes back by itself after a cut, and every reading arrives at least once."""
    proxy = Proxy(broker.port)
    plant = Plant(Fleet(seed=1, devices=3, faults=False), Connection(port=proxy.port, protocol="3.1.1"))
    try:
        with Peer(broker.port, mqtt5=False) as peer:
            peer.subscribe("plant/#")
            with running(plant):
                peer.wait_for(lambda messages: len(messages) >= 10)
                proxy.cut()
                heard = len(peer.messages)
                peer.wait_for(lambda messages: len(messages) >= heard + 60)
            came = numbers(peer.messages)
    finally:
        proxy.close()
    for seqs in came.values():
        assert sorted(set(seqs)) == list(range(max(seqs) + 1))


def test_it_stops_while_the_broker_is_away(broker: Mosquitto | EmbeddedBroker) -> None:
    """A plant that has lost its broker for good still ends when it is told to."""
    proxy = Proxy(broker.port)
    with Peer(broker.port, mqtt5=False) as peer:
        peer.subscribe("plant/#")
        with running(Plant(Fleet(seed=1, devices=1), Connection(port=proxy.port, protocol="3.1.1"))):
            peer.wait_for(lambda messages: len(messages) >= 3)
            proxy.close()


def test_nobody_there() -> None:
    """A broker that does not answer at the start is one sentence with its address."""
    port = free_port()
    with pytest.raises(BrokerError, match=rf"cannot reach the broker at 127\.0\.0\.1:{port} \(.*\); start"):
        Plant(Fleet(seed=1), Connection(port=port)).run(threading.Event())


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_credentials(start_mosquitto: Callable[..., Mosquitto], protocol: Any) -> None:
    """The right password lets it in; a wrong one is told at once, not tried for ever."""
    port = start_mosquitto(passwords={"plant": "right"}).port
    fleet = Fleet(seed=1, devices=2)

    def run(password: str) -> int:
        connection = Connection(port=port, protocol=protocol, username="plant", password=password)
        return Plant(fleet, connection).run(threading.Event(), duration_s=0.1)

    assert run("right") == 4
    with pytest.raises(BrokerError, match=r"refused the simulated plant: .*; check its user name"):
        run("wrong")


@pytest.mark.mosquitto
# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
def test_tls(start_mosquitto: Callable[..., Mosquitto], certificates: Certificates) -> None:
    """With its CA a broker is trusted; with another it is one sentence, and nothing is published."""
    port = start_mosquitto(listener=certificates.listener()).port
    fleet = Fleet(seed=1, devices=2)
    trusting = Plant(fleet, Connection(port=port, ca_file=certificates.ca))
    assert trusting.run(threading.Event(), duration_s=0.1) == 4
    with pytest.raises(BrokerError, match="CERTIFICATE_VERIFY_FAILED"):
        Plant(fleet, Connection(port=port, ca_file=certificates.other_ca)).run(threading.Event())
    gc.collect()  # so that the warning comes here, not in a later test
