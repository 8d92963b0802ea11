"""Whatever arrives: it is counted by its reason, told in a sentence, and the next reading is scored."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from stream_detector.core.events import REJECTIONS
from tests.brokers import Peer
from tests.service.sensor import TOPIC, WARMED_UP, healthy, healthy_list, instant, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.brokers import Mosquitto
    from tests.service.running import RunningService

pytestmark = pytest.mark.mosquitto

PUMP = "plant/north/pump-1/telemetry"
FAN = "fans/telemetry"
STREAMS = {"pumps": {"topic": TOPIC, "max_channels": 4}, "fans": {"topic": FAN}}
VALUES = {"vibration": 3.0}
KNOWN = 25
"""So many arrivals are more than enough to know a device's pace."""
BAD = {
    "channel_limit": (PUMP, payload({"values": {f"channel {k}": k for k in range(5)}})),
    "channel_name": (PUMP, payload({"values": {"a\nb": 1.0}})),
    "device_limit": ("plant/north/pump-2/telemetry", payload({"values": VALUES})),
    "device_mismatch": (PUMP, payload({"device_id": "pump-2", "values": VALUES})),
    "device_missing": (FAN, payload({"values": VALUES})),
    "device_name": (FAN, payload({"device_id": "fan\n<script>", "values": VALUES})),
    "empty": (PUMP, b""),
    "encoding": (PUMP, b'{"values": {"\xff": 1}}'),
    "malformed": (PUMP, b'{"values": {"vibration": 3.0}'),
    "no_values": (PUMP, b"{}"),
    "not_finite": (PUMP, b'{"values": {"vibration": 1e999}}'),
    "seq": (PUMP, payload({"seq": 1.5, "values": VALUES})),
    "time_bounds": (PUMP, payload({"ts": "2100-01-01T00:00:00Z", "values": VALUES})),
    "timestamp": (PUMP, payload({"ts": "yesterday", "values": VALUES})),
    "too_large": (PUMP, b'{"values": {"vibration": 3.0}}' + b" " * 10_000_000),
    "topic": ("plant/\ufeff/pump-1/telemetry", payload({"values": VALUES})),
    "wrong_type": (PUMP, payload({"values": {"vibration": True}})),
}
"""Reason -> topic and payload of a message that is refused for it."""


@pytest.mark.parametrize("receive", ["bulk", "stock"])
def test_a_bad_message_is_counted_and_told_and_the_next_is_scored(
    receive: str, mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """One message of each reason: neither counts nor dead letters are lost, and no reading either."""
    assert {*BAD, "internal_error"} == set(REJECTIONS), "an internal error is no message's fault"
    service = start_service(mosquitto.port, broker={"receive": receive}, streams=STREAMS, max_devices=1)
    with Peer(mosquitto.port) as sensor, Peer(mosquitto.port) as reader:
        reader.subscribe("stream_detector/deadletter/#")
        sensor.publish(PUMP, healthy_list(0, WARMED_UP))
        service.wait_for_count("messages_accepted_total", 1)
        for number in range(KNOWN):  # one by one, until its pace is known: else it might move to disk
            sensor.publish(PUMP, payload(reading(WARMED_UP + number)))
            service.wait_for_count("messages_accepted_total", 2 + number)
        scored = service.count("readings_scored_total")
        for number, (topic, content) in enumerate(BAD.values(), WARMED_UP + KNOWN):
            sensor.publish(topic, content)
            sensor.publish(PUMP, payload(reading(number)))
        service.wait_for_count("messages_received_total", 1 + KNOWN + 2 * len(BAD))
        assert service.count("messages_accepted_total") == 1 + KNOWN + len(BAD)
        assert service.count("readings_scored_total") == scored + len(BAD)
        for reason in BAD:
            assert service.count("messages_rejected_total", reason=reason) == 1, reason
        assert service.count("deadletters_suppressed_total") == 0
        letters = reader.wait_for(lambda found: len(found) == len(BAD))
    for message, (reason, (topic, content)) in zip(letters, BAD.items(), strict=True):
        letter = json.loads(message.payload)
        assert message.topic == f"stream_detector/deadletter/{reason}"
        assert {key: letter[key] for key in ("schema", "reason", "topic", "size", "sha256")} == {
            "schema": "stream_detector.deadletter/1",
            "reason": reason,
            "topic": topic,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        assert base64.b64decode(letter["payload_head_base64"]) == content[:1024]
        assert len(letter["message"]) > 15
        assert letter["message"].isprintable()


def test_a_clock_that_is_ahead_stops_nobody(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """After a reading from the year 2100 the device's next reading is neither late nor lost."""
    service = start_service(mosquitto.port)
    with Peer(mosquitto.port) as sensor:
        sensor.publish(PUMP, payload({"ts": "2100-01-01T00:00:00Z", "values": VALUES}))
        sensor.publish(PUMP, payload({"ts": instant(1), "values": {"vibration": healthy(1)}}))
    service.wait_for_count("readings_accepted_total", 1)
    assert service.count("messages_rejected_total", reason="time_bounds") >= 1
    assert service.count("readings_late_total") == 0


def test_a_flood_of_garbage_is_told_in_part_and_counted_whole(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """Dead letters have a budget; what it holds back is counted, so the two sum to all."""
    service = start_service(mosquitto.port)
    with Peer(mosquitto.port) as sensor, Peer(mosquitto.port) as reader:
        reader.subscribe("stream_detector/deadletter/#")
        for _ in range(999):
            sensor.client.publish(PUMP, b"garbage", qos=1)
        sensor.publish(PUMP, b"garbage")
        service.wait_for_count("messages_rejected_total", 1000, reason="malformed")
        held_back = service.count("deadletters_suppressed_total")
        assert 0 < held_back <= 800
        reader.wait_for(lambda found: len(found) == 1000 - held_back)


def test_what_nobody_wants_is_ignored_and_counted(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """Retained readings are old; what stands below our own base is never a reading."""
    with Peer(mosquitto.port) as sensor:
        sensor.publish(PUMP, payload(reading(0)), retain=True)
        streams = {"all": {"topic": "#", "device": "{device}"}}
        service = start_service(mosquitto.port, streams=streams)
        service.wait_for_count("messages_ignored_total", 1, reason="retained")
        for topic in ("stream_detector/alert/all/pump-1", "stream_detector/score/all/x"):
            sensor.publish(topic, payload({"device_id": "loop", "values": VALUES}))
        service.wait_for_count("messages_ignored_total", 2, reason="own_topic")
        sensor.publish(PUMP, payload({"device_id": "pump-1", **reading(1)}))
        service.wait_for_count("readings_accepted_total", 1, stream="all")
        assert service.count("devices", stream="all") == 1
