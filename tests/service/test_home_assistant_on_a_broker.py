"""Home Assistant beside the service, on a real broker: what it gets to hear, and what it shows."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.brokers import Peer, wait_for
from tests.homeassistant import Home
from tests.service.running import RunningService
from tests.service.sensor import TOPIC, WARMED_UP, healthy_list, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.brokers import Mosquitto

pytestmark = pytest.mark.mosquitto

ODD = 'a"b{{x}}/ü'
ON = {"enabled": True}
STATUS = "homeassistant/status"
SUBSCRIBED = f"{STATUS} (QoS 1)"
"""As Mosquitto logs it."""
STREAMS = {"pumps": {"topic": "plant/{site}/telemetry"}}  # the payload names the device


def send(sensor: Peer, device: str, *numbers: int, **said: Any) -> None:
    """Send readings of a device."""
    sensor.publish(
        "plant/north/telemetry", payload([reading(each, device_id=device, **said) for each in numbers])
    )


def home(port: int, until: Callable[[Home], object]) -> Home:
    """Start a Home Assistant, and return it once it shows what is wanted."""
    with Peer(port) as peer:
        peer.subscribe("homeassistant/#")
        peer.subscribe("stream_detector/#")
        return Home(peer.wait_for(lambda messages: until(Home(messages))))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., RunningService]]:
    """Start a service again and again on the same state, each time with other settings."""
    with ExitStack() as stack:

        def start(port: int, **others: Any) -> RunningService:
            service = RunningService(
                tmp_path / "service",
                broker={"url": f"mqtt://127.0.0.1:{port}"},
                **{"streams": STREAMS, "home_assistant": ON, **others},
            )
            stack.enter_context(service)
            service.wait_ready()
            service.wait_online()
            return service

        yield start


def test_a_device_shows_up_breaks_and_is_shown(
    mosquitto: Mosquitto, run: Callable[..., RunningService]
) -> None:
    """A device with any name appears with its first reading, has a problem when it breaks, and a score."""
    service = run(mosquitto.port, home_assistant={**ON, "score_devices": [f"pumps/{ODD}"]})
    with Peer(mosquitto.port) as sensor, Peer(mosquitto.port) as listener:
        listener.subscribe("homeassistant/#")
        listener.subscribe("stream_detector/#")

        def shows(**states: str) -> None:
            def it_does(messages: list[Any]) -> bool:
                now = Home(messages)
                return ODD in now.names() and states.items() <= now.states(ODD).items()

            listener.wait_for(it_does)

        send(sensor, ODD, 0)
        shows(problem="off", state="warming_up", score="unknown")
        send(sensor, ODD, *range(1, WARMED_UP))
        shows(problem="off", state="ok")
        send(sensor, ODD, WARMED_UP)
        send(sensor, ODD, WARMED_UP + 1)
        sensor.publish("plant/north/telemetry", payload(reading(WARMED_UP + 2, vibration=9.7, device_id=ODD)))
        shows(problem="on", state="alerting")
        shown = Home(listener.messages)
        assert float(shown.states(ODD)["score"]) >= 0
        assert shown.device(ODD)["device"]["suggested_area"] == "north"
        scores = [m for m in listener.messages if m.topic.startswith("stream_detector/score/")]
        assert len(scores) == 1, "the others came within 30 s"
        late = home(mosquitto.port, lambda now: ODD in now.names() and now.states(ODD)["problem"] == "on")
        assert late.states(ODD)["score"] == "unknown", "scores are not retained"
        service.stop()
        shows(problem="unavailable", state="unavailable", score="unavailable")


def test_home_assistant_starts_later(mosquitto: Mosquitto, run: Callable[..., RunningService]) -> None:
    """Its birth message has all devices announced again, and nothing of this counts as telemetry."""
    service = run(mosquitto.port)
    with Peer(mosquitto.port) as sensor, Peer(mosquitto.port) as listener:
        for number in range(120):
            send(sensor, f"pump-{number}", 0)
        home(mosquitto.port, lambda now: len(now.names()) == 120)
        listener.subscribe("homeassistant/device/+/config")
        listener.wait_for(lambda messages: len(messages) == 120)
        assert all(message.retain for message in listener.messages)
        sensor.publish(STATUS, b"online")
        messages = listener.wait_for(lambda messages: len(messages) == 240)
        assert len({message.topic for message in messages[120:]}) == 120
        assert {m.topic: m.payload for m in messages[:120]} == {m.topic: m.payload for m in messages[120:]}
    assert service.count("messages_ignored_total", reason="no_stream") == 0
    assert SUBSCRIBED in mosquitto.log()


def test_a_restart_announces_again(
    start_mosquitto: Callable[..., Mosquitto], run: Callable[..., RunningService]
) -> None:
    """A broker that has forgotten everything is told of all devices at the next start."""
    broker = start_mosquitto()
    service = run(broker.port)
    with Peer(broker.port) as sensor:
        send(sensor, "pump-1", 0)
        send(sensor, "pump-2", 0)
        home(broker.port, lambda now: len(now.names()) == 2)
    service.stop()
    broker.restart()
    run(broker.port)
    home(broker.port, lambda now: now.names() == {"pump-1", "pump-2"})


def test_a_forgotten_device_is_taken_out(mosquitto: Mosquitto, run: Callable[..., RunningService]) -> None:
    """The command `forget` empties its announcement; should it speak again, it is back."""
    run(mosquitto.port)
    with Peer(mosquitto.port) as sensor:
        send(sensor, ODD, 0)
        send(sensor, "pump-2", 0)
        home(mosquitto.port, lambda now: now.names() == {ODD, "pump-2"})
        request = {"transaction": "1", "stream": "pumps", "device": ODD}
        sensor.publish("stream_detector/cmd/forget", payload(request))
        home(mosquitto.port, lambda now: now.names() == {"pump-2"})
        send(sensor, ODD, 1)
        home(mosquitto.port, lambda now: now.names() == {ODD, "pump-2"})


def test_switched_off_moved_and_on_again(mosquitto: Mosquitto, run: Callable[..., RunningService]) -> None:
    """What was announced goes with the setting that had announced it, over any number of restarts."""
    port = mosquitto.port
    fans = {"fans": {"topic": "hall/{device}"}}
    service = run(port, streams={**STREAMS, **fans})
    with Peer(port) as sensor:
        send(sensor, "pump-1", 0)
        sensor.publish("hall/fan-1", payload(reading(0)))
        home(port, lambda now: now.names() == {"pump-1", "fan-1"})
        for others, names in (
            ({"streams": {**STREAMS, **fans}, "home_assistant": {**ON, "streams": ["pumps"]}}, {"pump-1"}),
            ({"streams": {**STREAMS, **fans}}, {"pump-1", "fan-1"}),
            ({"streams": STREAMS}, {"pump-1"}),
            ({"home_assistant": {**ON, "prefix": "another"}}, set()),
            ({}, {"pump-1"}),
            ({"home_assistant": {}}, set()),
        ):
            service.stop()
            service = run(port, **others)
            home(port, lambda now, names=names: now.names() == names)
    with Peer(port) as listener:  # and nothing was left under the other prefix
        listener.subscribe("another/#")
        listener.subscribe("stream_detector/status")
        assert [message.topic for message in listener.wait_for(len)] == ["stream_detector/status"]


def test_a_score_sensor_goes(mosquitto: Mosquitto, run: Callable[..., RunningService]) -> None:
    """Taken out of the settings, it is first said to be gone and then left out."""
    service = run(mosquitto.port, home_assistant={**ON, "score_devices": ["pumps/pump-1"]})
    with Peer(mosquitto.port) as sensor, Peer(mosquitto.port) as listener:
        send(sensor, "pump-1", 0)
        listener.subscribe("homeassistant/#")
        listener.wait_for(len)
        service.stop()
        run(mosquitto.port)
        messages = listener.wait_for(lambda messages: len(messages) == 3)
    said = [json.loads(message.payload)["components"].get("score") for message in messages]
    assert said[0]
    assert said[1:] == [{"platform": "sensor"}, None]


def test_a_stream_that_covers_the_announcements(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """Telemetry may stand below the same prefix; what we announce there is not taken for it."""
    streams = {"home": {"topic": "homeassistant/{kind}/{device}/#", "format": "json"}}
    echoes = {"protocol": "3.1.1"}  # what we publish comes back to us, where we subscribe to it
    service = start_service(mosquitto.port, broker=echoes, streams=streams, home_assistant=ON)
    with Peer(mosquitto.port) as sensor:
        sensor.publish("homeassistant/sensor/kitchen/state", payload(reading(0)))
        home(mosquitto.port, lambda now: now.names() == {"kitchen"})
        sensor.publish(STATUS, b"online")
        sensor.publish("homeassistant/sensor/kitchen/state", payload(reading(1)))
        service.wait_for_count("messages_accepted_total", 2, stream="home")
        service.wait_for_count("messages_ignored_total", 3, reason="own_topic")
    assert service.count("messages_rejected_total") == 0
    assert service.count("devices", stream="home") == 1


def test_a_broker_that_forbids_it(
    start_mosquitto: Callable[..., Mosquitto], start_service: Callable[..., RunningService]
) -> None:
    """Where our login may not write there, it says so, and alerts go on; a large fleet fills no memory."""
    broker = start_mosquitto(acl="topic readwrite plant/#\ntopic readwrite stream_detector/#\n")
    service = start_service(broker.port, home_assistant=ON)
    with Peer(broker.port) as sensor, Peer(broker.port) as listener:
        listener.subscribe("stream_detector/alert/#")
        for number in range(300):
            sensor.publish(f"plant/north/pump-{number}/telemetry", payload(reading(0)))
        wait_for(service.reasons, what="it is not ready")
        (reason,) = service.reasons()
        assert "the broker refuses what is published on homeassistant/device/sd_" in reason
        assert reason.endswith("allow our login to write homeassistant/device/#")
        sensor.publish("plant/north/pump-0/telemetry", healthy_list(1, WARMED_UP))
        sensor.publish("plant/north/pump-0/telemetry", payload(reading(WARMED_UP, vibration=9.7)))
        listener.wait_for(len)
    assert service.count("outbox_events") < 300


def test_off_means_nothing(mosquitto: Mosquitto, start_service: Callable[..., RunningService]) -> None:
    """Unless it is switched on, nothing is published or subscribed to there."""
    service = start_service(mosquitto.port, streams={"pumps": {"topic": TOPIC}})
    with Peer(mosquitto.port) as sensor:
        sensor.publish("plant/north/pump-1/telemetry", payload(reading(0)))
        home(mosquitto.port, lambda now: "stream_detector/state/pumps/pump-1" in now.last)
        sensor.publish(STATUS, b"online")
        sensor.publish("plant/north/pump-1/telemetry", payload(reading(1)))
        service.wait_for_count("messages_accepted_total", 2, stream="pumps")
    assert not home(mosquitto.port, lambda now: now.last).devices
    assert SUBSCRIBED not in mosquitto.log()
