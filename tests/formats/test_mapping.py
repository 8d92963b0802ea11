"""JSON of other shapes, by dotted paths: what real gateways send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.formats.decoding import NOW, only, refusal, rows, take, tally

ZIGBEE2MQTT = {
    "topic": "zigbee2mqtt/kitchen",
    "payload": {
        "temperature": 27.34,
        "humidity": 44.72,
        "linkquality": 97,
        "battery": None,
        "occupancy": False,
        "update": {"state": "idle", "installed_version": 17},
    },
    "settings": {"topic": "zigbee2mqtt/{device}", "map": {"values": "."}},
    "device": "kitchen",
    "values": {"temperature": 27.34, "humidity": 44.72, "linkquality": 97.0},
    "ts": NOW,
}
TASMOTA = {
    "topic": "tele/boiler/SENSOR",
    "payload": {
        "Time": "2026-01-01T10:13:52",
        "ENERGY": {"Power": 170, "Current": [1.0, 2.5]},
        "DS18B20": {"Temperature": 20.6},
    },
    "settings": {
        "topic": "tele/{device}/SENSOR",
        "map": {"values": {"flow": "DS18B20.Temperature", "power": "ENERGY.Power", "b": "ENERGY.Current.1"}},
    },
    "device": "boiler",
    "values": {"flow": 20.6, "power": 170.0, "b": 2.5},
    "ts": NOW,
}
SHELLY: dict[str, Any] = {
    "topic": "shellypro4pm-f008d1d8b8b8/events/rpc",
    "payload": {
        "src": "shellypro4pm-f008d1d8b8b8",
        "method": "NotifyStatus",
        "params": {"ts": 1767225600.04, "switch:0": {"id": 0, "apower": 8.9}},
    },
    "settings": {
        "topic": "{device}/events/rpc",
        "map": {
            "device": "src",
            "time": "params.ts",
            "values": {"power": "params.switch:0.apower", "volt": "params.switch:0.voltage"},
        },
    },
    "device": "shellypro4pm-f008d1d8b8b8",
    "values": {"power": 8.9},
    "ts": 1_767_225_600_040_000,
}
CHIRPSTACK = {
    "topic": "application/7/device/0101010101010101/event/up",
    "payload": {
        "time": "2026-01-01T00:00:00.775023242+00:00",
        "fCnt": 10,
        "deviceInfo": {"devEui": "0101010101010101", "tenantName": "ours"},
        "object": {"temperature": 21.5, "door": "closed"},
    },
    "settings": {
        "topic": "application/{app}/device/{device}/event/up",
        "map": {"device": "deviceInfo.devEui", "time": "time", "seq": "fCnt", "values": "object"},
    },
    "device": "0101010101010101",
    "values": {"temperature": 21.5},
    "ts": 1_767_225_600_775_023,
}
THE_THINGS_STACK = {
    "topic": "v3/farm@tenant/devices/dev1/up",
    "payload": {
        "end_device_ids": {"device_id": "dev1"},
        "received_at": "2026-01-01T00:00:00.000001999Z",
        "uplink_message": {"decoded_payload": {"temperature": 1.0}},
    },
    "settings": {
        "topic": "v3/{app}/devices/{device}/up",
        "map": {
            "device": "end_device_ids.device_id",
            "time": "received_at",
            "values": "uplink_message.decoded_payload",
        },
    },
    "device": "dev1",
    "values": {"temperature": 1.0},
    "ts": 1_767_225_600_000_002,
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(ZIGBEE2MQTT, id="Zigbee2MQTT"),
        pytest.param(TASMOTA, id="Tasmota"),
        pytest.param(SHELLY, id="Shelly"),
        pytest.param(CHIRPSTACK, id="ChirpStack"),
        pytest.param(THE_THINGS_STACK, id="The Things Stack"),
    ],
)
def test_real_payloads(case: dict[str, Any]) -> None:
    """Device, time and numbers are found; text, switches and nulls beside them are passed over."""
    readings = only(take((case["topic"], json.dumps(case["payload"]).encode()), **case["settings"]))
    assert rows(readings) == [(case["device"], case["values"])]
    assert readings.ts.tolist() == [case["ts"]]


def test_a_partial_update_without_our_channels() -> None:
    """It is refused in a sentence that names the paths."""
    content = {"src": "s1", "params": {"ts": 1767225600.04, "wifi": {"rssi": -60}}}
    reason, sentence = refusal(take(("s1/events/rpc", json.dumps(content).encode()), **SHELLY["settings"]))
    assert (reason, "params.switch:0.apower" in sentence) == ("no_values", True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"garbage", "malformed"),
        (b"\xff", "encoding"),
        (b"", "empty"),
        (b'{"o": {"x": 1}, "m": "\xff"}', "encoding"),
        (b"[" * 60_000, "malformed"),
        (b"17", "no_values"),
        (b"{}", "no_values"),
        (b'{"o": 17}', "no_values"),
        (b'{"o": {"x": "text"}}', "no_values"),
        (b'{"o": {"x": 1e999}}', "not_finite"),
        (b'{"o": {"x": %s}}' % (b"9" * 400), "not_finite"),
        (b'{"o": {"x": 1}, "t": "yesterday"}', "timestamp"),
        (b'{"o": {"x": 1}, "t": {}}', "timestamp"),
        (b'{"o": {"x": 1}, "t": 1e308}', "time_bounds"),
        (b'{"o": {"x": 1}, "t": %s}' % (b"9" * 400), "time_bounds"),
        (b'{"o": {"x": 1}, "d": 17}', "device_name"),
        (b'{"o": {"x": 1}, "d": "other"}', "device_mismatch"),
        (b'{"o": {"x": 1}, "n": 1.5}', "seq"),
        (b'{"o": {"x": 1}, "n": %s}' % (b"9" * 400), "seq"),
        (b'{"o": {"\\u0000": 1}}', "channel_name"),
    ],
)
def test_refused(content: bytes, reason: str) -> None:
    """The reasons are those of the canonical payload."""
    mapping = {"device": "d", "time": "t", "seq": "n", "values": "o"}
    assert refusal(take(content, map=mapping))[0] == reason


def test_a_named_path_must_be_a_number() -> None:
    """Where a channel was named, text there is a mistake; with `coerce` it may be a number in a string."""
    content = b'{"a": {"b": "3.5"}}'
    mapping = {"values": {"x": "a.b"}}
    assert refusal(take(content, map=mapping))[0] == "wrong_type"
    assert rows(only(take(content, map=mapping, coerce=True))) == [("pump-1", {"x": 3.5})]


def test_a_list_of_foreign_objects() -> None:
    """It is checked element by element."""
    taken = take(b'[{"o": {"x": 1}}, 7, {"o": {"x": 2}}]', map={"values": "o"})
    assert [values for _, values in rows(taken.readings[0])] == [{"x": 1.0}, {"x": 2.0}]
    assert dict(tally(taken).refused_readings) == {"no_values": 1}


def test_declared_channels_of_a_foreign_object() -> None:
    """Of an object's numbers only the declared ones are taken."""
    taken = take(b'{"o": {"x": 1, "y": 2, "z": "text"}}', map={"values": "o"}, channels={"y": {}})
    assert rows(only(taken)) == [("pump-1", {"y": 2.0})]
