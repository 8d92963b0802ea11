"""The link and brokers that refuse, forget, hang up, or do not speak as they should."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from stream_detector.mqtt.broker import EmbeddedBroker
from tests.brokers import Mosquitto, Peer

from .driving import (
    Driver,
    ScriptedBroker,
    answer_subscribe,
    grant,
    login_answer,
    read_packet,
    wait_for_the_end,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

pytestmark = pytest.mark.mosquitto


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(lambda sock: sock.sendall(login_answer(0x84)), id="unsupported version"),
        pytest.param(lambda sock: sock.sendall(login_answer(1, mqtt5=False)), id="a 3.1.1 broker's words"),
        pytest.param(lambda sock: sock.sendall(login_answer(0x82)), id="protocol error"),
        pytest.param(lambda _sock: None, id="hangs up"),
        pytest.param(wait_for_the_end, id="does not answer"),
        pytest.param(lambda sock: sock.sendall(login_answer(0, mqtt5=False)), id="lets in as if in 3.1.1"),
        pytest.param(lambda sock: sock.sendall(b"what?"), id="talks garbage"),
    ],
)
def test_auto_falls_back_to_3_1_1(refusal: Callable[[socket.socket], None]) -> None:
    """A broker that does not speak MQTT 5 is spoken to in 3.1.1, at once, and the loss is said."""

    def let_in(sock: socket.socket) -> None:
        sock.sendall(login_answer(0, mqtt5=False))
        sock.sendall(b"\x90\x03" + read_packet(sock)[2:4] + b"\1")
        wait_for_the_end(sock)

    with ScriptedBroker(refusal, let_in) as broker, Driver(broker.url, connect_timeout_s=0.5) as driver:
        driver.until_ready()
        assert [login[8] for login in broker.logins] == [5, 4]
        assert driver.link.protocol == "3.1.1"
        assert "MQTT 3.1.1 only" in str(driver.link.protocol_note)


def test_a_version_that_was_asked_for_stays() -> None:
    """`protocol: 5` never falls back."""
    refuse = ScriptedBroker(lambda sock: sock.sendall(login_answer(0x84)))
    with refuse as broker, Driver(broker.url, protocol="5") as driver:
        driver.until(lambda: len(broker.logins) == 2)
        assert [login[8] for login in broker.logins] == [5, 5]
        assert "Unsupported protocol version" in str(driver.link.problem)


def test_a_refused_subscription_is_tried_again() -> None:
    """A filter that is refused is a problem with a name, until the broker grants it."""

    def refuse_then_grant(sock: socket.socket) -> None:
        grant(sock, 0x87)
        answer_subscribe(sock, 1)
        wait_for_the_end(sock)

    with ScriptedBroker(refuse_then_grant) as broker, Driver(broker.url) as driver:
        driver.until_problem("refuses the subscription to 'a/#' (Not authorized)")
        assert driver.link.connected
        assert not driver.link.ready
        driver.until_ready()
        assert driver.link.problem is None
        assert "a/#" in str(driver.link.last_error)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_filter_that_is_not_wanted_any_more_leaves_nothing_behind(
    mosquitto: Mosquitto, protocol: str
) -> None:
    """What an earlier configuration subscribed to is given back to a session that the broker has kept."""
    with Driver(mosquitto.url, protocol=protocol, subscriptions=(("a/#", 1), ("both/#", 1))) as driver:
        driver.until_ready()
        assert not driver.link.session_present
    now = {"protocol": protocol, "subscriptions": (("both/#", 1), ("b/#", 1))}
    before = ("a/#", "both/#")
    with Driver(mosquitto.url, formerly=before, **now).until_ready() as driver:
        assert driver.link.session_present
        driver.until(lambda: not driver.link.formerly)
    with Peer(mosquitto.port) as peer:
        for topic in ("a/away", "both/away", "b/away"):
            peer.publish(topic)
        with Driver(mosquitto.url, **now).until_ready() as driver:
            for topic in ("a/here", "b/here"):
                peer.publish(topic)
            driver.until(lambda: len(driver.messages) == 3)
            assert [topic for topic, _ in driver.messages] == ["both/away", "b/away", "b/here"]


def test_what_the_broker_does_not_take_back_is_remembered() -> None:
    """`formerly` holds what a later login has to give back: what was refused; nothing without a session."""

    def keep_one(sock: socket.socket) -> None:
        sock.sendall(b"\x20\x03\x01\0\0")
        answer_subscribe(sock, 1)
        packet = read_packet(sock)
        assert packet[0] == 0xA2
        sock.sendall(b"\xb0\x05" + packet[2:4] + b"\0\x87\x11")
        wait_for_the_end(sock)

    def know_nobody(sock: socket.socket) -> None:
        grant(sock)
        wait_for_the_end(sock)

    formerly = ("old/1", "old/2", "a/#")
    with ScriptedBroker(keep_one) as broker, Driver(broker.url, formerly=formerly) as driver:
        assert driver.link.formerly == ["old/1", "old/2"]
        driver.until(lambda: driver.link.formerly == ["old/1"])
    with ScriptedBroker(know_nobody) as broker, Driver(broker.url, formerly=formerly) as driver:
        driver.until(lambda: not driver.link.formerly)


def test_what_we_can_do_without_is_delivered_where_it_is_granted(mosquitto: Mosquitto) -> None:
    """An optional filter is asked for after the others and works like them."""
    version = "$SYS/broker/version"
    filters = (("a/#", 1), (version, 0))
    with Driver(mosquitto.url, subscriptions=filters, optional=(version,)).until_ready() as driver:
        driver.until(lambda: driver.messages)
        assert driver.messages[0][0] == version


def test_what_we_can_do_without_may_be_refused() -> None:
    """An optional filter that the broker refuses is no problem, and is not asked for again."""

    def refuse_the_second(sock: socket.socket) -> None:
        grant(sock)
        answer_subscribe(sock, 0x87)
        asked.append(read_packet(sock))
        wait_for_the_end(sock)

    asked: list[bytes] = []
    filters = (("a/#", 1), ("$SYS/x", 0))
    with ScriptedBroker(refuse_the_second) as broker:
        driver = Driver(broker.url, subscriptions=filters, optional=("$SYS/x",), keepalive_s=1)
        with driver.until_ready():
            driver.until(lambda: asked)
            assert asked == [b"\xc0\0"]
            assert driver.link.ready
            assert driver.link.last_error is None


def test_a_connection_that_is_lost_by_chance_costs_no_filter() -> None:
    """That an optional one was asked for when it ended says nothing yet: it is asked for again."""

    def vanish(sock: socket.socket) -> None:
        grant(sock)
        asked.append(read_packet(sock))

    def stay(sock: socket.socket) -> None:
        grant(sock)
        asked.append(read_packet(sock))
        sock.sendall(b"\x90\x04" + asked[-1][2:4] + b"\0\1")
        wait_for_the_end(sock)

    asked: list[bytes] = []
    filters = (("a/#", 1), ("cmd/+", 1))
    with ScriptedBroker(vanish, stay) as broker:
        driver = Driver(broker.url, subscriptions=filters, optional=("cmd/+",))
        with driver:
            driver.until(lambda: len(asked) == 2 and driver.link.ready)
            assert asked[0][4:] == asked[1][4:]
            assert b"cmd/+" in asked[1]
            assert driver.link.denied == set()


def test_a_broker_that_hangs_up_on_what_we_can_do_without_is_not_asked_again() -> None:
    """Some brokers end the connection instead of refusing a filter: that must not happen for ever."""
    filters = (("a/#", 1), ("$SYS/broker/version", 0))
    with EmbeddedBroker() as broker:
        driver = Driver(broker.url("5"), subscriptions=filters, optional=("$SYS/broker/version",))
        with driver.until_ready(), Peer(broker.port_v5) as peer:
            driver.until(lambda: driver.link.epoch == 2 and driver.link.ready)
            peer.publish("a/x", b"after")
            driver.until(lambda: driver.payloads == [b"after"])
            assert driver.link.epoch == 2


def test_a_second_program_with_our_name_is_named() -> None:
    """Session taken over (MQTT 5), or three logins that do not last: two sentences with the client id."""

    def take_over(sock: socket.socket) -> None:
        grant(sock)
        sock.sendall(b"\xe0\x01\x8e")

    with ScriptedBroker(take_over, wait_for_the_end) as broker, Driver(broker.url) as driver:
        driver.until_problem("another program has logged in")
        assert "client id 'detector'" in str(driver.link.problem)
    with ScriptedBroker(grant) as broker, Driver(broker.url) as driver:
        driver.until_problem("it seems that another program uses the client id 'detector'")
        assert len(broker.logins) == 3


def test_a_broker_that_talks_garbage_is_left() -> None:
    """Bytes that are no MQTT close the connection; it is opened again."""

    def babble(sock: socket.socket) -> None:
        grant(sock)
        sock.sendall(b"\x36\x06\0\1a\0\1\0")
        wait_for_the_end(sock)

    def behave(sock: socket.socket) -> None:
        grant(sock)
        wait_for_the_end(sock)

    for receive in ("bulk", "stock"):
        with ScriptedBroker(babble, behave) as broker, Driver(broker.url, receive=receive) as driver:
            driver.until_problem("QoS 3")
            driver.until_ready()


def test_a_broker_that_does_not_answer_the_login_is_left() -> None:
    """A listener that says nothing is left after the connect timeout, in words."""
    with ScriptedBroker(wait_for_the_end) as broker, Driver(broker.url, connect_timeout_s=0.2) as driver:
        driver.until_problem("does not answer our login")


def test_the_brokers_keepalive_counts() -> None:
    """A keepalive that an MQTT 5 broker sets in its answer is the one we ping by."""
    pinged = threading.Event()

    def set_keepalive(sock: socket.socket) -> None:
        sock.sendall(login_answer(0, properties=b"\x13\0\1"))
        answer_subscribe(sock, 1)
        if read_packet(sock) == b"\xc0\0":
            pinged.set()

    with ScriptedBroker(set_keepalive) as broker, Driver(broker.url, keepalive_s=600) as driver:
        start = monotonic()
        driver.until(pinged.is_set)
        assert monotonic() - start < 300


def test_nothing_listens() -> None:
    """No broker is no exception either: the sentence names the address, and we go on trying."""
    with Driver("mqtt://127.0.0.1:1", subscriptions=()) as driver:
        driver.until_problem("127.0.0.1:1 cannot be reached (Connection refused)")
        assert not driver.link.connected
    with Driver("mqtt://no-such-host.invalid", connect_timeout_s=1) as driver:
        driver.until_problem("no-such-host.invalid:1883 cannot be reached")
