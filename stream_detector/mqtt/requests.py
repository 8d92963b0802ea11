"""Where a request wants its answer: what MQTT 5 carries beside the payload (MQTT 5, 4.10).

Properties are walked through here, once and in place, because a sender may attach thousands of them to a
message, and whoever decodes those one by one into objects stands still meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 1024
"""Bytes of a response topic, and of correlation data; what is longer is taken for nothing."""
DEEPEST = 100
"""Levels of a response topic: some brokers end the connection of whoever publishes deeper than 200."""

RESPONSE_TOPIC, CORRELATION, SUBSCRIPTION = 0x08, 0x09, 0x0B
FIXED: Mapping[int, int] = {0x01: 1, 0x02: 4, 0x23: 2}
"""Properties of a PUBLISH (MQTT 5, 2.2.2.2) that have so many bytes."""
STRINGS: Mapping[int, int] = {0x03: 1, RESPONSE_TOPIC: 1, CORRELATION: 1, 0x26: 2}
"""Those that are so many strings, each with two bytes of length before it."""


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
    try:
        found = _walk(properties)
        topic, correlation = found.get(RESPONSE_TOPIC, b""), found.get(CORRELATION, b"")
        if not 0 < len(topic) <= LONGEST or len(correlation) > LONGEST or topic.count(b"/") >= DEEPEST:
            return None
        return ResponseTo(topic.decode(), correlation)
    except (ValueError, IndexError):
        return None


def _walk(properties: bytes) -> dict[int, bytes]:
    """Return what properties say of an answer, by identifier.

    Raises:
        ValueError: They are no properties of a PUBLISH.
        IndexError: They end too early.
    """
    found: dict[int, bytes] = {}
    pos = 0
    while pos < len(properties):
        kind = properties[pos]
        begin = pos = pos + 1
        if kind in FIXED:
            pos += FIXED[kind]
        elif kind == SUBSCRIPTION:
            while properties[pos] > 127:  # noqa: PLR2004 - the high bit says that more follow
                pos += 1
            pos += 1
        else:
            for _ in range(STRINGS.get(kind, 0)):
                begin = pos + 2
                pos = begin + (properties[pos] << 8) + properties[pos + 1]
            if kind not in STRINGS or kind in found:
                raise ValueError(f"property {kind}")
        if kind in (RESPONSE_TOPIC, CORRELATION):
            found[kind] = properties[begin:pos]
    if pos > len(properties):
        raise ValueError("they end too early")
    return found
