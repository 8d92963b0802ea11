"""Where a request wants its answer: what MQTT 5 carries beside the payload (MQTT 5, 4.10)."""

from __future__ import annotations

from typing import Any, NamedTuple

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .frames import length_of

LONGEST = 1024
"""Bytes of a response topic, and of correlation data; what is longer is taken for nothing."""


class ResponseTo(NamedTuple):
    """Where an answer goes, and what has to go along with it."""

    topic: str
    correlation: bytes


def response_to(properties: bytes) -> ResponseTo | None:
    r"""Return where the sender of a message wants its answer; None: it does not say, or nonsense.

    Args:
        properties: The bytes of a PUBLISH packet's properties, without their length.

    Example:
        >>> response_to(bytes.fromhex("08 0003 612f62 09 0002 0102"))
        ResponseTo(topic='a/b', correlation=b'\x01\x02')
        >>> response_to(b"\xff"), response_to(b"")
        (None, None)
    """
    found: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    try:
        found.unpack(length_of(len(properties)) + properties)
    except Exception:  # noqa: BLE001 - whatever paho's decoding raises, the sender's properties are garbage
        return None
    topic = getattr(found, "ResponseTopic", "")
    correlation = bytes(getattr(found, "CorrelationData", b""))
    if not 0 < len(topic.encode()) <= LONGEST or len(correlation) > LONGEST:
        return None
    return ResponseTo(topic, correlation)
