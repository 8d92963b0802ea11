"""The life of a connection, on a real Mosquitto, with both ways to read and both protocols."""

from __future__ import annotations

import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.brokers import Mosquitto, Peer, Proxy, free_port, wait_for

from .driving import (
    Driver,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.mosquitto

TWO_WAYS = [{"receive": "bulk", "protocol": "5"}, {"receive": "stock", "protocol": "3.1.1"}]
WAYS = [(receive, protocol) for receive in ("bulk", "stock") for protocol in ("5", "3.1.1")]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give each way to read and each protocol."""
    receive, protocol = request.param
    return {"receive": receive, "protocol": protocol}


@pytest.fixture
def proxy(mosquitto: Mosquitto) -> Iterator[Proxy]:
    """Stand between us and Mosquitto."""
    proxy = Proxy(mosquitto.port)
    yield proxy
    proxy.close()


def test_messages_arrive_and_are_acknowledged_in_order(mosquitto: Mosquitto, way: dict[str, Any]) -> None:
    """All messages come in the order of publishing, and their PUBACKs leave in that order."""
    with Driver(mosquitto.url, **way).until_ready() as driver, Peer(mosquitto.port) as peer:
        for number in range(200):
            peer.client.publish(f"a/{number % 7}", str(number), qos=1)
        driver.until(lambda: len(driver.messages) == 200)
        assert driver.messages == [(f"a/{number % 7}", b"%d" % number) for number in range(200)]
        ids = [number for batch in driver.batches for number in batch.packet_ids]
        wait_for(lambda: mosquitto.log().count("Received PUBACK from detector") == 200)
        lines = [line for line in mosquitto.log().splitlines() if "Received PUBACK from detector" in line]
        assert [int(line.split("Mid: ")[1].split(",")[0].rstrip(")")) for line in lines] == ids
        assert all(batch.epoch == 1 and batch.arrival > 0 for batch in driver.batches)


def test_qos_0_and_retained_are_marked(mosquitto: Mosquitto, way: dict[str, Any]) -> None:
    """The flags tell a retained message from a live one and QoS 0 from 1."""
    with Peer(mosquitto.port) as peer:
        peer.publish("a/kept", b"old", retain=True)
        with Driver(mosquitto.url, **way).until_ready() as driver:
            driver.until(lambda: driver.messages)
            peer.publish("a/live", b"new", qos=0)
            driver.until(lambda: len(driver.messages) == 2)
            flags = [flag for batch in driver.batches for flag in batch.flags]
            assert (driver.payloads, flags) == ([b"old", b"new"], [2 | 1, 0])


@pytest.mark.parametrize("way", TWO_WAYS, ids=["bulk-5", "stock-3.1.1"])
def test_what_is_not_acknowledged_comes_again(
    mosquitto: Mosquitto, proxy: Proxy, way: dict[str, Any]
) -> None:
    """After a cut, unacknowledged messages come again, and an acknowledgement from before is not sent."""
    url = f"mqtt://127.0.0.1:{proxy.port}"
    with Driver(url, acknowledge=False, **way).until_ready() as driver, Peer(mosquitto.port) as peer:
        for number in range(5):
            peer.publish("a/x", str(number))
        driver.until(lambda: len(driver.messages) == 5)
        before = driver.batches[:]
        proxy.cut()
        driver.until(lambda: driver.link.epoch == 2 and len(driver.messages) == 10)
        assert driver.payloads[5:] == driver.payloads[:5]
        assert all(flags & 8 for batch in driver.batches if batch.epoch == 2 for flags in batch.flags)
        for batch in before:
            driver.link.acknowledge(batch)
        assert driver.link.epoch == 2
        for batch in driver.batches:
            if batch.epoch == 2:
                driver.link.acknowledge(batch)
        wait_for(lambda: mosquitto.log().count("Received PUBACK from detector") == 5)


@pytest.mark.parametrize("way", TWO_WAYS, ids=["bulk-5", "stock-3.1.1"])
def test_a_stale_acknowledgement_loses_nothing(
    start_mosquitto: Callable[..., Mosquitto], way: dict[str, Any]
) -> None:
    """A broker that forgot us counts packet ids from 1 again: old PUBACKs must not meet new messages."""
    broker = start_mosquitto()
    with Driver(broker.url, acknowledge=False, **way).until_ready() as driver:
        with Peer(broker.port) as peer:
            for number in range(5):
                peer.publish("a/x", f"old {number}")
        driver.until(lambda: len(driver.messages) == 5)
        old = driver.batches[:]
        broker.restart()
        driver.until(lambda: driver.link.ready and driver.link.epoch == 2)
        with Peer(broker.port) as peer:
            for number in range(5):
                peer.publish("a/x", f"new {number}")
            driver.until(lambda: len(driver.messages) == 10)
            assert {n for batch in old for n in batch.packet_ids} == {
                n for batch in driver.batches if batch.epoch == 2 for n in batch.packet_ids
            }
            for batch in old:
                driver.link.acknowledge(batch)
            # A message that is acknowledged makes sure that an earlier acknowledgement would have been seen.
            peer.publish("a/x", "last")
            driver.until(lambda: driver.payloads[-1] == b"last")
            driver.link.acknowledge(driver.batches[-1])
            wait_for(lambda: "Received PUBACK from detector" in broker.log().split("starting")[-1])
            assert broker.log().split("starting")[-1].count("Received PUBACK from detector") == 1


def test_properties_cannot_stop_us(mosquitto: Mosquitto) -> None:
    """A user property with U+FEFF, and half a megabyte of properties, arrive like any other message."""
    for receive in ("bulk", "stock"):
        with Driver(mosquitto.url, receive=receive).until_ready() as driver, Peer(mosquitto.port) as peer:
            poison, flood = Properties(PacketTypes.PUBLISH), Properties(PacketTypes.PUBLISH)
            poison.UserProperty = [("key", "﻿")]
            flood.UserProperty = [("k" * 1000, "v" * 1000)] * 250
            peer.publish("a/poison", b"1", properties=poison)
            peer.publish("a/flood", b"2", properties=flood)
            peer.publish("a/next", b"3")
            driver.until(lambda: len(driver.messages) == 3)
            assert driver.payloads == [b"1", b"2", b"3"]
            assert driver.link.epoch == 1


def test_a_large_payload_is_truncated_and_the_next_message_arrives(
    mosquitto: Mosquitto, way: dict[str, Any]
) -> None:
    """Of 10 MB come the first kilobyte and the true size; they are acknowledged and block nothing."""
    payload = bytes(range(256)) * (10 << 12)
    with Driver(mosquitto.url, **way).until_ready() as driver, Peer(mosquitto.port) as peer:
        peer.publish("a/large", payload)
        peer.publish("a/next", b"next")
        driver.until(lambda: len(driver.messages) == 2)
        assert driver.payloads == [payload[:1024], b"next"]
        (truncated,) = [entry for batch in driver.batches for entry in batch.truncated.values()]
        assert truncated.size == len(payload)
        wait_for(lambda: mosquitto.log().count("Received PUBACK from detector") == 2)


@pytest.mark.parametrize("way", TWO_WAYS, ids=["bulk-5", "stock-3.1.1"])
def test_a_broker_restart_is_survived(start_mosquitto: Callable[..., Mosquitto], way: dict[str, Any]) -> None:
    """While the broker is away there is a problem in words; back without our session, we subscribe again."""
    broker = start_mosquitto()
    with Driver(broker.url, **way).until_ready() as driver:
        broker.kill()
        driver.until_problem("cannot be reached")
        assert not driver.link.ready
        broker.start()
        driver.until_ready()
        assert driver.link.problem is None
        with Peer(broker.port) as peer:
            peer.publish("a/x", b"after")
        driver.until(lambda: driver.payloads == [b"after"])


def test_the_session_outlives_us(start_mosquitto: Callable[..., Mosquitto], way: dict[str, Any]) -> None:
    """What is published while we are away, and the broker restarts, is waiting for us."""
    broker = start_mosquitto(persistence=True)
    with Driver(broker.url, **way).until_ready():
        pass
    with Peer(broker.port) as peer:
        for number in range(50):
            peer.publish("a/x", str(number))
    broker.restart()
    with Driver(broker.url, **way) as driver:
        driver.until(lambda: len(driver.messages) == 50)


@pytest.mark.parametrize("way", TWO_WAYS, ids=["bulk-5", "stock-3.1.1"])
def test_a_frozen_broker_is_noticed(mosquitto: Mosquitto, way: dict[str, Any]) -> None:
    """A broker that hangs without closing anything is noticed by its silence, and found when it wakes."""
    with Driver(mosquitto.url, keepalive_s=1, **way).until_ready() as driver:
        mosquitto.freeze()
        driver.until(lambda: not driver.link.connected)
        assert "silent" in str(driver.link.problem)
        mosquitto.thaw()
        driver.until_ready()


@pytest.mark.parametrize("way", TWO_WAYS, ids=["bulk-5", "stock-3.1.1"])
def test_a_quiet_connection_stays(mosquitto: Mosquitto, way: dict[str, Any]) -> None:
    """Pings keep a connection on which nothing else happens; the broker would cut it after 1.5 s."""
    with Driver(mosquitto.url, keepalive_s=1, **way).until_ready() as driver:
        driver.until(lambda: mosquitto.log().count("Received PINGREQ from detector") >= 3)
        assert driver.link.ready
        assert driver.link.epoch == 1


def test_a_wrong_password_is_a_problem_not_an_exception(start_mosquitto: Callable[..., Mosquitto]) -> None:
    """The link says what to check, keeps trying, and never shows the password."""
    broker = start_mosquitto(passwords={"joe": "right"})
    for protocol in ("5", "3.1.1", "auto"):
        with Driver(broker.url, username="joe", password="wr0ng", protocol=protocol) as driver:  # noqa: S106
            driver.until_problem("broker.username")
            wait_for(lambda: driver.poll() or broker.log().count("not authorised") >= 2)
            assert "wr0ng" not in str(driver.link.problem)
            assert not driver.link.connected


def test_the_right_password_may_come_later(start_mosquitto: Callable[..., Mosquitto], tmp_path: Any) -> None:
    """The password file is read at each connect, so mending it is enough."""
    broker = start_mosquitto(passwords={"joe": "right"})
    file = tmp_path / "password"
    with Driver(broker.url, username="joe", password_file=file) as driver:
        driver.until_problem("broker.password_file cannot be used")
        file.write_text("right\n")
        driver.until_ready()


def test_our_own_publishes_do_not_come_back(mosquitto: Mosquitto) -> None:
    """With MQTT 5 a filter that matches what we publish does not deliver it to us."""
    with Driver(mosquitto.url, protocol="5").until_ready() as driver, Peer(mosquitto.port) as peer:
        driver.link.publish(b"a/own", b"own", 1, retain=False)
        driver.until(driver.link.confirmed)
        peer.publish("a/other", b"other")
        driver.until(lambda: driver.messages)
        assert driver.payloads == [b"other"]


def test_retained_messages_come_once(mosquitto: Mosquitto, proxy: Proxy) -> None:
    """With MQTT 5 a reconnect does not replay what is retained."""
    url = f"mqtt://127.0.0.1:{proxy.port}"
    with Peer(mosquitto.port) as peer, Driver(url, protocol="5").until_ready() as driver:
        peer.publish("a/kept", b"kept", retain=True)
        driver.until(lambda: driver.messages)
        wait_for(lambda: "Received PUBACK from detector" in mosquitto.log())  # else it comes again, rightly
        proxy.cut()
        driver.until(lambda: driver.link.epoch == 2 and driver.link.ready)
        peer.publish("a/live", b"live")
        driver.until(lambda: b"live" in driver.payloads)
        assert driver.payloads == [b"kept", b"live"]


def test_retained_messages_come_again_where_that_is_wanted(mosquitto: Mosquitto, proxy: Proxy) -> None:
    """With MQTT 5 a filter that is `replayed` brings what is retained at each login, and only that filter."""
    url = f"mqtt://127.0.0.1:{proxy.port}"
    filters = (("a/1", 1), ("a/2", 1))
    with Peer(mosquitto.port) as peer:
        for topic, _ in filters:
            peer.publish(topic, b"kept", retain=True)
        with Driver(url, protocol="5", subscriptions=filters, replayed=("a/2",)) as driver:
            driver.until(lambda: len(driver.messages) == 2)
            wait_for(lambda: mosquitto.log().count("Received PUBACK from detector") == 2)
            proxy.cut()
            driver.until(lambda: len(driver.messages) == 3)
            peer.publish("a/1", b"live")
            driver.until(lambda: b"live" in driver.payloads)
            assert driver.messages[2:] == [("a/2", b"kept"), ("a/1", b"live")]


def test_a_slow_dial_is_excused() -> None:
    """While a poll is dialling the link says that it may take long, and afterwards no more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        with Driver(url, connect_timeout_s=1) as driver:
            assert driver.link.excused_until < monotonic()
            thread = threading.Thread(target=driver.poll)
            thread.start()
            wait_for(lambda: driver.link.excused_until > monotonic() + 60)
            thread.join()
            assert driver.link.excused_until <= monotonic()
            assert "cannot be reached" in str(driver.link.problem)


def test_a_password_that_is_too_long_is_a_problem(tmp_path: Any) -> None:
    """A password file that MQTT cannot carry is named, and nothing is raised."""
    file = tmp_path / "password"
    file.write_bytes(b"x" * 65_536)
    with Driver(f"mqtt://127.0.0.1:{free_port()}", username="joe", password_file=file) as driver:
        driver.until_problem("broker.password_file cannot be used (it has more than 65535 bytes)")


def test_close_says_goodbye(mosquitto: Mosquitto, way: dict[str, Any]) -> None:
    """What was published before an orderly end arrives, and no last will is sent."""
    with Peer(mosquitto.port) as peer:
        peer.subscribe("#")
        with Driver(mosquitto.url, **way).until_ready() as driver:
            driver.link.publish(b"status", b"stopped", 1, retain=False)
        peer.publish("fence")
        messages = peer.wait_for(lambda messages: any(message.topic == "fence" for message in messages))
        assert [message.payload for message in messages] == [b"stopped", b""]


def test_the_last_will_is_sent_when_we_vanish(mosquitto: Mosquitto, proxy: Proxy) -> None:
    """A cut connection makes the broker publish the will, retained."""
    with Peer(mosquitto.port) as peer, Driver(f"mqtt://127.0.0.1:{proxy.port}").until_ready():
        proxy.close()
        wait_for(lambda: "Client detector closed its connection" in mosquitto.log())
        peer.subscribe("status")
        (will,) = peer.wait_for(len)
        assert (will.payload, will.retain) == (b"offline", True)


def test_a_flood_is_drained_and_quiet_is_noticed(mosquitto: Mosquitto, way: dict[str, Any]) -> None:
    """`drained` turns true once everything that waited has been read."""
    with Driver(mosquitto.url, **way).until_ready():
        pass
    with Peer(mosquitto.port) as peer:
        for _ in range(2000):
            peer.client.publish("a/x", bytes(200), qos=1)
        peer.publish("a/x", b"last")
    with Driver(mosquitto.url, **way) as driver:
        driver.until(lambda: driver.link.drained and driver.payloads[-1:] == [b"last"])
        assert len(driver.messages) == 2001


def test_drained_means_that_nothing_waits(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """While more is in the socket than one read takes, `drained` is false."""
    monkeypatch.setattr("stream_detector.mqtt.client.RECV_BYTES", 64)
    with Driver(mosquitto.url).until_ready() as driver, Peer(mosquitto.port) as peer:
        for number in range(50):
            peer.publish("a/x", b"%d" % number)
        wait_for(lambda: mosquitto.log().count("Sending PUBLISH to detector") == 50)
        drained = []
        while driver.payloads[-1:] != [b"49"]:
            driver.poll()
            drained.append(driver.link.drained)
        assert len(drained) > 5
        assert not any(drained[:-1])


@pytest.mark.timeout(10)
def test_wake_ends_a_poll(mosquitto: Mosquitto) -> None:
    """Another thread can end the wait of a poll, connected or not."""
    with Driver("mqtt://127.0.0.1:1") as lonely, Driver(mosquitto.url).until_ready() as driver:
        lonely.until_problem("cannot be reached")
        for link in (lonely.link, driver.link):
            for _ in range(15):  # fifteen seconds, if it did not
                waker = threading.Thread(target=link.wake)
                waker.start()
                link.poll(1.0)
                waker.join()


def test_websockets_work(start_mosquitto: Callable[..., Mosquitto]) -> None:
    """A websocket carries the same messages, always by paho's own reading."""
    port = free_port()
    broker = start_mosquitto(config=f"listener {port} 127.0.0.1\nprotocol websockets")
    with Driver(f"ws://127.0.0.1:{port}").until_ready() as driver, Peer(broker.port) as peer:
        peer.subscribe("out")
        driver.link.publish(b"out", b"hello", 1, retain=False)
        driver.until(driver.link.confirmed)
        peer.wait_for(len)
        for number in range(20):
            peer.publish("a/x", str(number))
        peer.publish("a/large", bytes(66_000))
        driver.until(lambda: len(driver.messages) == 21)
        assert driver.payloads == [b"%d" % number for number in range(20)] + [bytes(1024)]
