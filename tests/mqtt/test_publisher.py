"""What we publish at QoS 1 is kept until the broker has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream_detector.mqtt.frames import publish_frame
from stream_detector.mqtt.publisher import Publisher
from tests.brokers import Mosquitto, Peer, Proxy, free_port, wait_for

from .driving import Driver, ScriptedBroker, answer_subscribe, login_answer, read_packet, wait_for_the_end

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.mosquitto


@pytest.fixture(params=["5", "3.1.1"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Give both protocols."""
    return str(request.param)


@pytest.fixture
def proxy(mosquitto: Mosquitto) -> Iterator[Proxy]:
    """Stand between us and Mosquitto."""
    proxy = Proxy(mosquitto.port)
    yield proxy
    proxy.close()


def pump_until(driver: Driver, publisher: Publisher, predicate: Callable[[], object]) -> list[int]:
    """Pump and poll until `predicate` holds; return what was confirmed."""
    done: list[int] = []

    def turn() -> object:
        done.extend(publisher.pump())
        return predicate()

    driver.until(turn)
    return done


def test_everything_put_is_confirmed_in_order(mosquitto: Mosquitto, protocol: str) -> None:
    """A thousand messages pass through a window of 100; each is confirmed once and none is out of order."""
    with Driver(mosquitto.url, protocol=protocol).until_ready() as driver, Peer(mosquitto.port) as peer:
        peer.subscribe("out/#")
        publisher = Publisher(driver.link)
        for number in range(1000):
            publisher.put("out/x", b"%d" % number, number=number)
        assert publisher.oldest_at is not None
        done = pump_until(driver, publisher, lambda: len(publisher) == 0)
        assert done == list(range(1000))
        assert publisher.results == {"confirmed": 1000, "no_subscribers": 0, "refused": 0}
        assert publisher.oldest_at is None
        messages = peer.wait_for(lambda messages: len(messages) == 1000)
        assert [message.payload for message in messages] == [b"%d" % number for number in range(1000)]


def test_nobody_listening_is_told_apart(mosquitto: Mosquitto) -> None:
    """With MQTT 5 a message that nobody subscribes to is delivered, and counted on its own."""
    with Driver(mosquitto.url, protocol="5").until_ready() as driver:
        publisher = Publisher(driver.link)
        publisher.put("out/x", b"hello")
        pump_until(driver, publisher, lambda: len(publisher) == 0)
        assert publisher.results["no_subscribers"] == 1


def test_what_somebody_has_to_hear_waits_for_a_listener(mosquitto: Mosquitto) -> None:
    """It is tried again until somebody subscribes; what comes after it on its topic does not overtake it."""
    with Driver(mosquitto.url, protocol="5").until_ready() as driver, Peer(mosquitto.port) as peer:
        publisher = Publisher(driver.link)
        for number in (1, 2):
            publisher.put("alert/x", b"%d" % number, heard=True, number=number)
        pump_until(driver, publisher, lambda: publisher.unheard == 2)
        assert publisher.results["no_subscribers"] >= 1
        peer.subscribe("alert/#")
        done = pump_until(driver, publisher, lambda: len(publisher) == 0)
        assert done == [1, 2]
        assert [message.payload for message in peer.wait_for(lambda messages: len(messages) == 2)] == [
            b"1",
            b"2",
        ]


def test_a_cut_loses_nothing(mosquitto: Mosquitto, proxy: Proxy, protocol: str) -> None:
    """Across cuts every message arrives at least once, its first copies in order."""
    driver = Driver(f"mqtt://127.0.0.1:{proxy.port}", protocol=protocol)
    with driver.until_ready(), Peer(mosquitto.port) as peer:
        peer.subscribe("out/#")
        publisher = Publisher(driver.link)
        for cut in range(3):
            for number in range(500):
                publisher.put("out/x", b"%d" % (500 * cut + number))
            publisher.pump()
            proxy.cut()
        pump_until(driver, publisher, lambda: len(publisher) == 0)
        assert driver.link.epoch > 1
        messages = peer.wait_for(lambda messages: len({message.payload for message in messages}) == 1500)
        first = list(dict.fromkeys(int(message.payload) for message in messages))
        assert first == list(range(1500))


def test_what_is_sent_again_says_so() -> None:
    """After a reconnect an unconfirmed message keeps its packet id and is marked as a duplicate."""
    seen: list[bytes] = []

    def swallow(sock: socket.socket) -> None:
        sock.sendall(login_answer(0))
        answer_subscribe(sock, 1)
        seen.extend(read_packet(sock) for _ in range(2))

    def confirm(sock: socket.socket) -> None:
        sock.sendall(login_answer(0))
        answer_subscribe(sock, 1)
        for _ in range(2):
            seen.append(read_packet(sock))
            sock.sendall(b"\x40\x02" + seen[-1][7:9])
        wait_for_the_end(sock)

    with ScriptedBroker(swallow, confirm) as broker, Driver(broker.url).until_ready() as driver:
        publisher = Publisher(driver.link)
        publisher.put("out", b"1")
        publisher.put("out", b"2")
        pump_until(driver, publisher, lambda: len(publisher) == 0)
    first, second, first_again, second_again = seen
    assert first_again == bytes([first[0] | 8]) + first[1:]
    assert second_again == bytes([second[0] | 8]) + second[1:]
    assert first[7:9] != second[7:9]


def test_what_is_said_once_is_not_sent_again() -> None:
    """It may be the very message that the broker has ended the connection for."""
    seen: list[bytes] = []

    def hang_up(sock: socket.socket) -> None:
        sock.sendall(login_answer(0))
        answer_subscribe(sock, 1)
        seen.append(read_packet(sock))

    def confirm(sock: socket.socket) -> None:
        sock.sendall(login_answer(0))
        answer_subscribe(sock, 1)
        seen.append(read_packet(sock))
        sock.sendall(b"\x40\x02" + seen[-1][6:8])
        wait_for_the_end(sock)

    with ScriptedBroker(hang_up, confirm) as broker, Driver(broker.url).until_ready() as driver:
        publisher = Publisher(driver.link)
        publisher.put("me", b"once", once=True)
        publisher.pump()
        driver.until(lambda: driver.link.epoch == 2)
        publisher.put("me", b"next", once=True)
        pump_until(driver, publisher, lambda: len(publisher) == 0)
    assert [packet[-4:] for packet in seen] == [b"once", b"next"]


def test_a_refused_message_is_kept(start_mosquitto: Callable[..., Mosquitto]) -> None:
    """What the broker's access rules deny is counted and tried again; other topics go on meanwhile."""
    broker = start_mosquitto(acl="topic read #\ntopic write open/#\n")
    with Driver(broker.url, protocol="5").until_ready() as driver:
        publisher = Publisher(driver.link)
        publisher.put("closed/x", b"1")
        for number in range(5):
            publisher.put("open/x", b"%d" % number, number=number)
        done = pump_until(
            driver, publisher, lambda: publisher.results["refused"] == 1 and len(publisher) == 1
        )
        assert done == list(range(5))
        assert publisher.denied == "closed/x"
        pump_until(driver, publisher, lambda: publisher.results["refused"] == 2)
        assert len(publisher) == 1


def test_a_refused_message_is_not_overtaken() -> None:
    """Once the broker allows it, what was refused arrives before what was put later on its topic."""
    codes = iter([0x97, 0, 0, 0])
    payloads: list[bytes] = []

    def be_full_at_first(sock: socket.socket) -> None:
        sock.sendall(login_answer(0))
        answer_subscribe(sock, 1)
        for code in codes:
            packet = read_packet(sock)
            payloads.append(packet[-1:])
            sock.sendall(b"\x40\x03" + packet[8:10] + bytes([code]))
        wait_for_the_end(sock)

    with ScriptedBroker(be_full_at_first) as broker, Driver(broker.url).until_ready() as driver:
        publisher = Publisher(driver.link)
        for payload in (b"1", b"2", b"3"):
            publisher.put("kept", payload, retain=True)
        pump_until(driver, publisher, lambda: len(publisher) == 0)
    assert payloads == [b"1", b"1", b"2", b"3"]


def test_the_brokers_limits_are_kept() -> None:
    """Never more on its way than the broker takes, and nothing larger: that counts as refused."""
    unconfirmed: list[bytes] = []

    def take_two(sock: socket.socket) -> None:
        sock.sendall(login_answer(0, properties=b"\x21\0\2" + b"\x27\0\0\0\x40"))
        answer_subscribe(sock, 1)
        for _ in range(3):
            unconfirmed.extend(read_packet(sock) for _ in range(2))
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(20)
            for packet in unconfirmed[-2:]:
                sock.sendall(b"\x40\x02" + packet[7:9])
        wait_for_the_end(sock)

    with ScriptedBroker(take_two) as broker, Driver(broker.url).until_ready() as driver:
        publisher = Publisher(driver.link)
        publisher.put("big", bytes(100))
        for number in range(6):
            publisher.put("out", b"%d" % number)
        pump_until(driver, publisher, lambda: len(publisher) == 1)
        assert [packet[-1:] for packet in unconfirmed] == [b"%d" % number for number in range(6)]
        assert publisher.results["refused"] >= 1


def test_full_is_advice(mosquitto: Mosquitto) -> None:
    """At its limit, and at four times that, the publisher says so, and still takes the rest of a batch."""
    with Driver(mosquitto.url) as driver:
        publisher = Publisher(driver.link, limit=3)
        for number in range(4):
            assert publisher.full == (number >= 3)
            publisher.put("out", b"")
        assert len(publisher) == 4
        for number in range(4, 12):
            assert not publisher.overfull, number
            publisher.put("out", b"")
        assert publisher.overfull
        pump_until(driver, publisher, lambda: not publisher.full)


def test_qos_0_is_for_now_or_never(mosquitto: Mosquitto) -> None:
    """While there is no connection QoS 0 is dropped; with one it is sent."""
    with Driver(mosquitto.url) as driver, Peer(mosquitto.port) as peer:
        peer.subscribe("out")
        publisher = Publisher(driver.link)
        publisher.put("out", b"lost", qos=0)
        driver.until_ready()
        publisher.put("out", b"sent", qos=0)
        publisher.pump()
        (message,) = peer.wait_for(len)
        assert message.payload == b"sent"


def test_qos_0_does_not_pile_up(mosquitto: Mosquitto) -> None:
    """A broker that does not read us costs no memory: QoS 0 is dropped until it does."""
    with Driver(mosquitto.url).until_ready() as driver:
        publisher = Publisher(driver.link)
        mosquitto.freeze()
        for _ in range(500):
            publisher.put("out", bytes(100_000), qos=0)
            publisher.pump()
        mosquitto.thaw()
        pump_until(driver, publisher, lambda: not driver.link.congested)
        publisher.put("out/end", b"", qos=0)
        driver.poll()
        wait_for(lambda: "'out/end'" in mosquitto.log(), what="the last one is there")
        assert mosquitto.log().count("Received PUBLISH from detector") < 200


def test_a_clogged_websocket_loses_nothing(start_mosquitto: Callable[..., Mosquitto]) -> None:
    """What a full websocket takes in pieces arrives whole: all is confirmed on the same connection."""
    port = free_port()
    broker = start_mosquitto(config=f"listener {port} 127.0.0.1\nprotocol websockets")
    with Driver(f"ws://127.0.0.1:{port}", keepalive_s=60).until_ready() as driver:
        publisher = Publisher(driver.link)
        broker.freeze()
        for _ in range(40):
            publisher.put("out", bytes(200_000))
        publisher.pump()
        driver.poll()
        assert driver.link.congested
        broker.thaw()
        pump_until(driver, publisher, lambda: len(publisher) == 0)
        assert driver.link.epoch == 1


def test_a_frame_is_what_the_standard_says() -> None:
    """The bytes of a PUBLISH, by hand."""
    frame = publish_frame(b"a/b", b"hi", qos=1, retain=True, dup=True, packet_id=258, mqtt5=True)
    assert frame == bytes.fromhex("3b 0a 0003 612f62 0102 00 6869")
