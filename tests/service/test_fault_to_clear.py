"""The main story: a pump breaks, somebody hears of it, the pump is mended."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.mqtt.broker import EmbeddedBroker
from tests.brokers import Peer, wait_for
from tests.service.sensor import WARMED_UP, healthy_list, instant, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.brokers import Mosquitto
    from tests.service.running import RunningService

PUMP = "plant/north/Pumpe 1/telemetry"
ALERT = "stream_detector/alert/pumps/Pumpe%201"
STATE = "stream_detector/state/pumps/Pumpe%201"


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("receive", ["bulk", "stock"])
def test_a_pump_breaks_and_is_mended(
    receive: str, protocol: str, mosquitto: Mosquitto, start_service: Callable[..., RunningService]
) -> None:
    """One alert opens and closes, with all that the contract says, however the service is connected."""
    service = start_service(mosquitto.port, broker={"receive": receive, "protocol": protocol})
    with Peer(mosquitto.port) as sensor, Peer(mosquitto.port, mqtt5=False) as reader:
        breaks_and_is_mended(service, sensor, reader)
        service.wait_online()
        assert retained(mosquitto.port, "stream_detector/status") == b"online"
        assert service.count("messages_received_total", stream="pumps") == 12
        assert service.count("readings_accepted_total", stream="pumps") == WARMED_UP + 11
        assert service.count("alert_events_total", stream="pumps") == 2
        assert service.count("alerts_active", stream="pumps") == 0
        assert service.count("devices", stream="pumps", state="ok") == 1
        assert service.count("devices", stream="pumps") == 1
        assert service.count("end_to_end_seconds_count", stream="pumps") == 2


def test_the_same_with_the_broker_inside(start_service: Callable[..., RunningService]) -> None:
    """The embedded broker carries the story as well; its port is free after the end."""
    with EmbeddedBroker() as probe:
        port = probe.port  # free again once this one has ended
    service = start_service(0, broker={"url": f"embedded://127.0.0.1:{port}"})
    with Peer(port, mqtt5=False) as sensor, Peer(port, mqtt5=False) as reader:
        breaks_and_is_mended(service, sensor, reader)
    assert service.stop() == 0
    with EmbeddedBroker(port=port):
        pass


def breaks_and_is_mended(service: RunningService, sensor: Peer, reader: Peer) -> None:
    """Tell the story, and check every message of it."""
    reader.subscribe("stream_detector/alert/#")
    reader.subscribe("stream_detector/state/#")
    sensor.publish(PUMP, healthy_list(0, WARMED_UP))
    sensor.publish(PUMP, payload(reading(WARMED_UP, vibration=9.7)))
    messages = reader.wait_for(lambda found: any(message.topic == ALERT for message in found))
    alert = json.loads(next(message.payload for message in messages if message.topic == ALERT))
    check_raise(alert)
    state = json.loads(retained(reader.client.port, STATE))
    assert state == {
        "schema": "stream_detector.state/1",
        "stream": "pumps",
        "device": "Pumpe 1",
        "tags": {"site": "north"},
        "state": "alerting",
        "severity": alert["severity"],
        "score": alert["score"],
        "active_count": 1,
        "active": [
            {key: alert[key] for key in ("id", "kind", "severity", "started_at")} | {"acknowledged": False}
        ],
        "muted": False,
        "updated_at": instant(WARMED_UP),
    }
    for number in range(WARMED_UP + 1, WARMED_UP + 11):
        sensor.publish(PUMP, payload(reading(number)))
    messages = reader.wait_for(
        lambda found: [json.loads(message.payload).get("state") for message in found].count("ok") > 1
    )
    alerts = [json.loads(message.payload) for message in messages if message.topic == ALERT]
    states = [json.loads(message.payload)["state"] for message in messages if message.topic == STATE]
    assert states == ["warming_up", "ok", "alerting", "ok"]
    assert [(one["event"], one["seq"]) for one in alerts] == [("raise", 1), ("clear", 2)]
    clear = alerts[1]
    unchanged = ("id", "kind", "stream", "device", "tags", "started_at", "peak_score", "model", "severity")
    assert {key: clear[key] for key in unchanged} == {key: alert[key] for key in unchanged}
    assert clear["ended_at"] == clear["updated_at"] == instant(WARMED_UP + 10)
    assert clear["score"] < 1.0
    assert (clear["channels"], clear["ended_because"]) == (["vibration"], "returned")
    assert (clear["prediction"], clear["label"]) == (0, "Normal")
    assert json.loads(retained(reader.client.port, STATE))["active"] == []
    assert not service.ended


def check_raise(alert: dict[str, Any]) -> None:
    """Check each field of the alert that opened."""
    measured = {
        *("id", "score", "peak_score", "raw_score", "confidence", "received_at", "processing_ms"),
        *("expected", "contributions", "reason"),
    }
    assert measured < alert.keys()
    assert {key: value for key, value in alert.items() if key not in measured} == {
        "schema": "stream_detector.alert/1",
        "seq": 1,
        "event": "raise",
        "kind": "point",
        "stream": "pumps",
        "device": "Pumpe 1",
        "tags": {"site": "north"},
        "severity": "critical",
        "threshold": 1.0,
        "prediction": 1,
        "label": "Anomaly",
        "started_at": instant(WARMED_UP),
        "updated_at": instant(WARMED_UP),
        "ended_at": None,
        "values": {"temperature": 41.5, "vibration": 9.7},
        "model": {"name": "default", "version": "2", "role": "live"},
        "incident": None,
        "acknowledged": False,
        "channels": ["vibration"],
        "ended_because": None,
    }
    assert re.fullmatch("[0-9a-f]{24}", alert["id"])
    assert alert["score"] == alert["peak_score"] == pytest.approx(alert["raw_score"] / alert["threshold"])
    assert alert["score"] >= 2.0
    assert 0.9 < alert["confidence"] <= 1.0
    assert 0.0 <= alert["processing_ms"] < 60_000
    assert abs((datetime.now(UTC) - datetime.fromisoformat(alert["received_at"])).total_seconds()) < 60
    vibration = alert["expected"]["vibration"]
    assert vibration.keys() == {"value", "lower", "upper"}
    assert 0.0 < vibration["lower"] < vibration["value"] < vibration["upper"] < 9.7
    assert alert["contributions"][0]["channel"] == "vibration"
    assert sum(part["share"] for part in alert["contributions"]) == pytest.approx(1.0)
    assert alert["reason"].startswith("vibration 9.7 ")


def retained(port: int, topic: str) -> bytes:
    """Return what the broker keeps of a topic, once it does: it may be published just now."""
    found: list[bytes] = []

    def kept() -> bool:
        with Peer(port, mqtt5=False) as late:
            late.subscribe(topic)
            message = late.wait_for(len)[0]
        found.append(bytes(message.payload))
        return message.retain

    wait_for(kept, what=f"{topic} is retained")
    return found[-1]
