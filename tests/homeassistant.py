"""Home Assistant as its documentation describes it: which fields it takes, and what it makes of messages.

Every table is a list of facts from one page of www.home-assistant.io; the page stands above it. Home
Assistant passes over fields that it does not know; here they are refused, as they can only be a mistake.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import jsonschema
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from paho.mqtt.client import MQTTMessage

_TEXT = {"type": "string", "minLength": 1}
_TOPIC = {"type": "string", "pattern": r"^[^+#\x00~]+$"}  # a `~` would stand for a base topic
_TEMPLATE = {"type": "string", "pattern": r"\{[{%]"}
_FLAG = {"type": "boolean"}
_SECONDS = {"type": "integer", "minimum": 0}
_NAME = {"type": ["string", "null"]}

# /integrations/mqtt/, "Using availability topics"; also on the pages of the components.
AVAILABILITY = {
    "availability_topic": _TOPIC,
    "availability_template": _TEMPLATE,
    "payload_available": _TEXT,
    "payload_not_available": _TEXT,
}
# /integrations/binary_sensor.mqtt/ and /integrations/sensor.mqtt/, the keys of `device`.
DEVICE = {
    "configuration_url": {"type": "string", "pattern": "^(https?|homeassistant)://"},
    "connections": {"type": "array"},
    "hw_version": _TEXT,
    "identifiers": {"type": "array", "items": _TEXT, "minItems": 1},
    "manufacturer": _TEXT,
    "model": _TEXT,
    "model_id": _TEXT,
    "name": _TEXT,
    "serial_number": _TEXT,
    "suggested_area": _TEXT,
    "sw_version": _TEXT,
    "via_device": _TEXT,
}
# /integrations/mqtt/, "Discovery payload": the origin; for devices it is required, and of it the name.
ORIGIN = {"name": _TEXT, "sw_version": _TEXT, "support_url": _TEXT}
# Both component pages; /docs/core/entity/ of the developers' pages: a sensor's category is `diagnostic`.
ENTITY = {
    **AVAILABILITY,
    "default_entity_id": {
        "type": "string",
        "pattern": r"^[a-z_]+\.[a-z0-9]+(_[a-z0-9]+)*$",
        "maxLength": 255,
    },
    "enabled_by_default": _FLAG,
    "encoding": {"type": "string"},
    "entity_category": {"const": "diagnostic"},
    "entity_picture": _TEXT,
    "expire_after": _SECONDS,
    "force_update": _FLAG,
    "icon": {"type": "string", "pattern": "^mdi:"},
    "json_attributes_template": _TEMPLATE,
    "json_attributes_topic": _TOPIC,
    "name": _NAME,
    "qos": {"enum": [0, 1, 2]},
    "state_topic": _TOPIC,
    "unique_id": _TEXT,
    "value_template": _TEMPLATE,
}
# /integrations/binary_sensor.mqtt/; classes: /integrations/binary_sensor/, "Device class".
BINARY_SENSOR = {
    **ENTITY,
    "platform": {"const": "binary_sensor"},
    "device_class": {
        "enum": [
            *(
                "battery",
                "battery_charging",
                "carbon_monoxide",
                "cold",
                "connectivity",
                "door",
                "garage_door",
            ),
            *("gas", "heat", "light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug"),
            *("power", "announcements", "problem", "running", "safety", "smoke", "sound", "tamper", "update"),
            *("vibration", "window"),
        ]
    },
    "off_delay": _SECONDS,
    "payload_off": _TEXT,
    "payload_on": _TEXT,
}
# /integrations/sensor.mqtt/; state classes: /docs/core/entity/sensor of the developers' pages.
SENSOR = {
    **ENTITY,
    "platform": {"const": "sensor"},
    "device_class": {"type": ["string", "null"]},
    "last_reset_value_template": _TEMPLATE,
    "options": {"type": "array", "items": _TEXT, "minItems": 1},
    "state_class": {"enum": ["measurement", "measurement_angle", "total", "total_increasing"]},
    "suggested_display_precision": {"type": "integer", "minimum": 0},
    "unit_of_measurement": _NAME,
}
_REQUIRED = ["platform", "state_topic", "unique_id"]  # the last because a device announces them


def _object(fields: Mapping[str, Any], required: list[str], **more: Any) -> dict[str, Any]:
    kind = {"type": "object", "properties": dict(fields), "required": required}
    return {**kind, "additionalProperties": False, **more}


COMPONENT = {
    "oneOf": [
        _object(BINARY_SENSOR, _REQUIRED),
        _object(
            SENSOR,
            _REQUIRED,
            # `options` need the class `enum`, and go with neither a state class nor a unit.
            dependentSchemas={
                "options": {
                    "properties": {
                        "device_class": {"const": "enum"},
                        "state_class": False,
                        "unit_of_measurement": False,
                    },
                    "required": ["device_class"],
                }
            },
        ),
        # /integrations/mqtt/, "Device discovery payload": only its platform takes a component out.
        _object({"platform": {"enum": ["sensor", "binary_sensor"]}}, ["platform"]),
    ]
}
# /integrations/mqtt/, "Device discovery payload": what the components share.
MESSAGE = _object(
    {
        **AVAILABILITY,
        "command_topic": _TOPIC,
        "components": {"type": "object", "additionalProperties": COMPONENT, "minProperties": 1},
        "device": _object(
            DEVICE, [], anyOf=[{"required": [each]} for each in ("identifiers", "connections")]
        ),
        "encoding": {"type": "string"},
        "origin": _object(ORIGIN, ["name"]),
        "qos": {"enum": [0, 1, 2]},
        "state_topic": _TOPIC,
    },
    ["device", "origin", "components"],
)
# /integrations/mqtt/, "Discovery topic": the id of a device has only these characters.
CONFIG_TOPIC = re.compile(r"homeassistant/device/[a-zA-Z0-9_-]+/config")

environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
"""Renders templates; Home Assistant would pass over a name that is not there, this fails."""
_check = jsonschema.Draft202012Validator(MESSAGE).validate


def check(topic: str, payload: bytes) -> dict[str, Any]:
    """Return what a discovery message says; fail where the documentation does not allow it."""
    assert CONFIG_TOPIC.fullmatch(topic), topic
    content: dict[str, Any] = json.loads(payload)
    _check(content)
    for key, component in content["components"].items():
        if "default_entity_id" in component:
            assert component["default_entity_id"].startswith(component["platform"] + "."), key
    return content


def render(template: str, payload: bytes) -> str:
    """Return what a template makes of a message: `value` is its text, `value_json` its JSON."""
    text = payload.decode()
    names: dict[str, Any] = {"value": text}
    with suppress(ValueError):
        names["value_json"] = json.loads(text)
    return environment.from_string(template).render(**names)


class Home:
    """What Home Assistant shows after some messages, in the order of their arrival."""

    def __init__(self, messages: Iterable[MQTTMessage]) -> None:
        self.devices: dict[str, dict[str, Any]] = {}
        self.last: dict[str, bytes] = {}
        for message in messages:
            self.last[message.topic] = message.payload
            if not CONFIG_TOPIC.fullmatch(message.topic):
                continue
            if not message.payload:
                self.devices.pop(message.topic, None)
            else:
                self.devices[message.topic] = check(message.topic, message.payload)
        ids = [part["unique_id"] for device in self.devices.values() for part in _entities(device)]
        assert len(set(ids)) == len(ids), "two entities with one unique_id"

    def names(self) -> set[str]:
        """Return the names of the devices."""
        return {device["device"]["name"] for device in self.devices.values()}

    def device(self, name: str) -> dict[str, Any]:
        """Return what the device of a name says of itself."""
        (found,) = [device for device in self.devices.values() if device["device"]["name"] == name]
        return found

    def states(self, name: str) -> dict[str, str]:
        """Return the states of a device's entities, by the keys of its components."""
        device = self.device(name)
        return {
            key: self._state(device, component)
            for key, component in device["components"].items()
            if "state_topic" in component
        }

    def _state(self, device: dict[str, Any], component: dict[str, Any]) -> str:
        status = self.last.get(device["availability_topic"])
        if status is None or render(device["availability_template"], status) != device["payload_available"]:
            return "unavailable"
        payload = self.last.get(component["state_topic"])
        if payload is None:
            return "unknown"
        state = render(component["value_template"], payload)
        if component["platform"] == "binary_sensor":
            return {"ON": "on", "OFF": "off"}[state]
        if "options" in component:
            assert state in component["options"]
        elif "state_class" in component:
            float(state)
        return state


def _entities(device: dict[str, Any]) -> list[dict[str, Any]]:
    return [component for component in device["components"].values() if "unique_id" in component]
