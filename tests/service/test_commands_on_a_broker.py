"""Commands as other programs give them: over a real broker, answered where they are awaited."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.brokers import Mosquitto, Peer, wait_for
from tests.mqtt.driving import ScriptedBroker, answer_subscribe, login_answer, read_packet, wait_for_the_end
from tests.service.sensor import payload

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from paho.mqtt.client import MQTTMessage

    from tests.service.running import RunningService

PUMP = "plant/north/pump-1/telemetry"
STREAMS = {
    "pumps": {"topic": "plant/{site}/{device}/telemetry", "channels": {"vibration": {"max": 10}}},
}


@pytest.fixture
def operator(mosquitto: Mosquitto) -> Iterator[Peer]:
    """Yield somebody who listens to alerts and replies."""
    with Peer(mosquitto.port) as peer:
        for topic in ("alert/#", "reply/#", "state/#", "deadletter/#"):
            peer.subscribe(f"stream_detector/{topic}")
        yield peer


def of(messages: list[MQTTMessage], kind: str) -> list[Any]:
    """Return the contents of what came on a kind of topic; None where it was emptied."""
    return [
        json.loads(message.payload) if message.payload else None
        for message in messages
        if message.topic.startswith(f"stream_detector/{kind}/")
    ]


def broken(operator: Peer) -> str:
    """Let the pump be out of range; return the alert's id."""
    operator.publish(PUMP, payload({"values": {"vibration": 50}}))
    return str(of(operator.wait_for(lambda found: of(found, "alert")), "alert")[-1]["id"])


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_alert_is_acknowledged(
    mosquitto: Mosquitto, operator: Peer, start_service: Callable[..., RunningService], protocol: str
) -> None:
    """The request is answered, the event is published, and a killed service still knows both."""
    service = start_service(mosquitto.port, broker={"protocol": protocol}, streams=STREAMS)
    request = payload({"transaction": "t1", "id": broken(operator), "by": "anna"})
    operator.publish("stream_detector/cmd/ack", request)
    found = operator.wait_for(lambda found: of(found, "reply") and len(of(found, "alert")) == 2)
    (reply,) = of(found, "reply")
    assert (reply["ok"], reply["result"]["seq"]) == (True, 2)
    assert [(event["event"], event["seq"]) for event in of(found, "alert")] == [("raise", 1), ("ack", 2)]

    service.stop(signal.SIGKILL)
    operator.publish("stream_detector/cmd/ack", request)  # its session waits for it
    service.start()
    found = operator.wait_for(lambda found: len(of(found, "reply")) == 2)
    assert of(found, "reply") == [reply, reply]
    assert {(event["event"], event["seq"]) for event in of(found, "alert")} == {("raise", 1), ("ack", 2)}


@pytest.mark.mosquitto
def test_an_answer_goes_to_the_response_topic(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """With the correlation data of MQTT 5, and without a transaction."""
    start_service(mosquitto.port, streams=STREAMS)
    with Peer(mosquitto.port) as asking:
        asking.subscribe("my/answers")
        wanted: Any = Properties(PacketTypes.PUBLISH)
        wanted.ResponseTopic, wanted.CorrelationData = "my/answers", bytes(200)
        wanted.UserProperty = ("from", "a test")
        asking.publish("stream_detector/cmd/reload", b"{}", properties=wanted)
        (answer,) = asking.wait_for(len)
        assert json.loads(answer.payload)["result"] == {"looking_for": []}
        assert answer.properties is not None
        assert answer.properties.CorrelationData == bytes(200)


@pytest.mark.mosquitto
def test_a_refused_answer_is_not_repeated(
    tmp_path: Path, start_service: Callable[..., RunningService]
) -> None:
    """A response topic that the broker denies to us must not hold anything up."""
    acl = "topic readwrite plant/#\ntopic readwrite stream_detector/#\ntopic readwrite $SYS/#\n"
    broker = Mosquitto(tmp_path / "broker", acl=acl).start()
    try:
        service = start_service(broker.port, streams=STREAMS)
        with Peer(broker.port) as operator:
            operator.subscribe("stream_detector/reply/#")
            wanted: Any = Properties(PacketTypes.PUBLISH)
            wanted.ResponseTopic = "secret/place"
            operator.publish("stream_detector/cmd/reload", b"{}", properties=wanted)
            operator.publish("stream_detector/cmd/reload", payload({"transaction": 1}))
            operator.wait_for(len)
        service.wait_for_count("alert_publishes_total", 1, result="refused")
        service.wait_for_count("outbox_events", 0)
        assert service.reasons() == []
    finally:
        broker.stop()


@pytest.mark.mosquitto
def test_a_device_is_forgotten(
    mosquitto: Mosquitto, operator: Peer, start_service: Callable[..., RunningService]
) -> None:
    """Its alert ends, and the broker keeps nothing of it."""
    service = start_service(mosquitto.port, streams=STREAMS)
    broken(operator)
    request = {"transaction": 1, "stream": "pumps", "device": "pump-1"}
    operator.publish("stream_detector/cmd/forget", payload(request))
    found = operator.wait_for(lambda found: of(found, "reply") and of(found, "state")[-1:] == [None])
    assert [event["event"] for event in of(found, "alert")] == ["raise", "clear"]
    with Peer(mosquitto.port) as late:
        late.subscribe("stream_detector/#")
        topics = {message.topic for message in late.wait_for(lambda found: len(found) >= 2)}
        assert topics == {"stream_detector/status", "stream_detector/info"}
    assert service.count("devices") == 0


@pytest.mark.mosquitto
def test_a_retained_command_is_not_carried_out(
    mosquitto: Mosquitto, operator: Peer, start_service: Callable[..., RunningService]
) -> None:
    """Neither at the start nor later; one that nobody can answer is a dead letter."""
    operator.publish("stream_detector/cmd/reload", payload({"transaction": "old"}), retain=True)
    service = start_service(mosquitto.port, broker={"protocol": "3.1.1"}, streams=STREAMS)
    operator.publish("stream_detector/cmd/reload", b"{}")
    found = operator.wait_for(lambda found: of(found, "deadletter"))
    assert of(found, "deadletter")[0]["reason"] == "command"
    assert of(found, "reply") == []
    service.wait_for_count("commands_total", 1, command="reload", result="ignored")


def test_who_may_not_hear_commands_says_so_and_goes_on(start_service: Callable[..., RunningService]) -> None:
    """Permissions that were written before there were commands stop nobody's alerts."""

    def refuse_commands(sock: socket.socket) -> None:
        sock.sendall(login_answer(0))
        sock.sendall(b"\x90\x06" + read_packet(sock)[2:4] + b"\0\1\1\1")  # info, status, the stream
        answer_subscribe(sock, 0x87)
        answer_subscribe(sock, 0x87)
        wait_for_the_end(sock)

    with ScriptedBroker(refuse_commands) as broker:
        service = start_service(int(broker.url.rpartition(":")[2]), broker={"protocol": "5"}, streams=STREAMS)
        wait_for(lambda: "commands are not heard: the broker refuses stream_detector/cmd/+" in service.log())
        assert service.reasons() == []
