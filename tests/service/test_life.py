"""The life of the service: how it ends, what it survives, and beside whom it will not live."""

from __future__ import annotations

import json
import signal
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.brokers import PATIENCE_S, Mosquitto, Peer, free_port, wait_for
from tests.service.sensor import TOPIC, WARMED_UP, healthy_list, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.service.running import RunningService

pytestmark = pytest.mark.mosquitto

PUMP = "plant/north/pump-1/telemetry"
STATUS = "stream_detector/status"
INFO = "stream_detector/info"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end(
    how: signal.Signals, mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """On SIGTERM and Ctrl-C it says `stopped`, for ever, and is gone within two seconds with exit code 0."""
    service = start_service(mosquitto.port)
    assert "\nprocess_resident_memory_bytes " in service.get("/metrics")[1]
    with Peer(mosquitto.port) as reader:
        reader.subscribe(STATUS)
        reader.wait_for(lambda found: [message.payload for message in found] == [b"online"])
        begin = monotonic()
        assert service.stop(how) == 0
        assert monotonic() - begin < 5.0, "two seconds, and patience with a busy machine"
        reader.wait_for(lambda found: [message.payload for message in found] == [b"online", b"stopped"])
    with Peer(mosquitto.port) as late:
        late.subscribe(STATUS)
        assert late.wait_for(len)[0].payload == b"stopped"


def test_a_sudden_end(mosquitto: Mosquitto, start_service: Callable[..., RunningService]) -> None:
    """Killed, its last will says `offline`; started anew it is `online` under the same name."""
    service = start_service(mosquitto.port)
    with Peer(mosquitto.port) as reader:
        reader.subscribe("stream_detector/+")
        reader.wait_for(lambda found: len(found) == 2)
        service.stop(signal.SIGKILL)
        reader.wait_for(lambda found: len(found) == 3)
        service.start().wait_ready()
        messages = reader.wait_for(lambda found: len(found) == 5)
    assert [message.payload for message in messages if message.topic == STATUS] == [
        b"online",
        b"offline",
        b"online",
    ]
    infos = [json.loads(message.payload) for message in messages if message.topic == INFO]
    assert infos[0] == infos[1]


def test_what_came_meanwhile_is_not_lost(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """The broker keeps QoS 1 messages for a service that was killed; what it had does not come again."""
    service = start_service(mosquitto.port)
    service.stop(signal.SIGKILL)
    with Peer(mosquitto.port) as sensor:
        for number in range(50):
            sensor.publish(PUMP, payload(reading(number)))
    service.start().wait_ready()
    service.wait_for_count("readings_accepted_total", 50)
    service.stop()
    service.start().wait_ready()
    with Peer(mosquitto.port) as sensor:
        sensor.publish(PUMP, payload(reading(50)))
    service.wait_for_count("readings_accepted_total", 1)
    assert service.count("messages_received_total", stream="pumps") == 1


def test_the_broker_is_restarted(mosquitto: Mosquitto, start_service: Callable[..., RunningService]) -> None:
    """Meanwhile it lives and says why it is not ready; afterwards it goes on with all that it knew."""
    service = start_service(mosquitto.port)
    with Peer(mosquitto.port) as sensor:
        sensor.publish(PUMP, healthy_list(0, WARMED_UP))
    service.wait_for_count("readings_accepted_total", WARMED_UP)
    mosquitto.stop()
    wait_for(lambda: service.get("/readyz")[0] == 503, what="not ready")
    (reason,) = service.reasons()
    assert str(mosquitto.port) in reason
    assert service.get("/livez") == (200, "ok")
    assert service.count("mqtt_connected") == 0
    mosquitto.start()
    service.wait_ready()
    with Peer(mosquitto.port) as sensor, Peer(mosquitto.port) as reader:
        reader.subscribe("stream_detector/#")
        sensor.publish(PUMP, payload(reading(WARMED_UP, vibration=9.7)))
        messages = reader.wait_for(
            lambda found: any(message.topic.startswith("stream_detector/alert/") for message in found)
        )
    assert b"online" in [message.payload for message in messages if message.topic == STATUS]
    assert service.count("mqtt_reconnects_total") >= 1
    assert service.count("mqtt_connected") == 1


def test_no_broker_at_all(
    start_mosquitto: Callable[..., Mosquitto], start_service: Callable[..., RunningService]
) -> None:
    """It runs, says what it waits for, and begins when the broker comes."""
    mosquitto = start_mosquitto()
    mosquitto.stop()
    service = start_service(mosquitto.port, ready=False)
    wait_for(lambda: "not connected: " in service.log(), what="the log says so")
    status, body = service.get("/readyz")
    assert status == 503
    assert f"127.0.0.1:{mosquitto.port}" in body
    assert service.get("/livez")[0] == 200
    mosquitto.start()
    service.wait_ready()


def test_it_ends_in_order_without_a_broker(start_service: Callable[..., RunningService]) -> None:
    """A service that waits for its broker can be ended like any other."""
    assert start_service(free_port(), ready=False).stop() == 0


def test_two_under_one_base(mosquitto: Mosquitto, start_service: Callable[..., RunningService]) -> None:
    """The second is refused in a sentence that names topics.base; the first goes on; beside it is room."""
    first = start_service(mosquitto.port)
    first.wait_online()
    second = start_service(mosquitto.port, broker={"protocol": "3.1.1"}, ready=False)
    assert second.process is not None
    assert second.process.wait(PATIENCE_S) == 2
    last = second.log().splitlines()[-1]
    assert last.startswith("stream-detector: another stream_detector (stream-detector-")
    assert "topics.base" in last
    with Peer(mosquitto.port) as reader:
        reader.subscribe(STATUS)
        assert reader.wait_for(len)[0].payload == b"online"
    assert first.get("/readyz")[0] == 200
    start_service(mosquitto.port, topics={"base": "another"}).wait_online()


@pytest.mark.parametrize("order", [(INFO, STATUS), (STATUS, INFO)])
def test_another_that_was_here_before(
    order: tuple[str, str], mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """Another service is noticed where our session is stored too, in whatever order its two topics come."""
    service = start_service(mosquitto.port)
    service.wait_online()
    service.stop()
    said = {INFO: b'{"instance": "the other"}', STATUS: b"online"}
    with Peer(mosquitto.port) as other:
        for topic in order:
            other.publish(topic, said[topic], qos=0, retain=True)  # at QoS 0 the stored session misses it
        other.publish("done")
    service.start()
    assert service.process is not None
    assert service.process.wait(PATIENCE_S) == 2
    assert "another stream_detector (the other) is online" in service.log()


def test_after_one_that_has_ended(mosquitto: Mosquitto, start_service: Callable[..., RunningService]) -> None:
    """A base whose service is `stopped` or `offline` is free."""
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        service = start_service(mosquitto.port)
        service.wait_online()
        service.stop(how)


def test_states_are_told_anew_to_a_broker_that_has_lost_them(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """Whoever comes after a broker that forgot everything still learns how each device is."""
    service = start_service(
        mosquitto.port,
        streams={"pumps": {"topic": TOPIC, "channels": {"vibration": {"max": 10}}}},
        home_assistant={"enabled": True},
    )
    with Peer(mosquitto.port) as sensor:
        for number in range(60):
            sensor.publish(f"plant/north/pump-{number}/telemetry", payload({"values": {"vibration": 5}}))
        sensor.publish("plant/north/pump-7/telemetry", payload({"values": {"vibration": 50}}))
    service.wait_for_count("alerts_active", 1)
    wait_until_all_are_introduced(mosquitto)
    service.wait_for_count("outbox_events", 0)
    mosquitto.kill()
    mosquitto.start()
    service.wait_ready()
    service.wait_online()
    with Peer(mosquitto.port) as late:
        late.subscribe("stream_detector/state/#")
        found = late.wait_for(lambda found: len({message.topic for message in found}) == 60)
    states = {message.topic.rpartition("/")[2]: json.loads(message.payload) for message in found}
    assert (states["pump-7"]["state"], states["pump-7"]["active"][0]["kind"]) == ("alerting", "range")
    assert states["pump-8"]["state"] == "warming_up"
    wait_until_all_are_introduced(mosquitto)


def wait_until_all_are_introduced(mosquitto: Mosquitto) -> None:
    """Return once Home Assistant would know 60 devices."""
    with Peer(mosquitto.port) as home:
        home.subscribe("homeassistant/device/+/config")
        home.wait_for(lambda found: len({message.topic for message in found}) == 60)
