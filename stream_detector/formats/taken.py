"""What a batch of messages gave, as values: readings, states, refusals, and how each message ended."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stream_detector.core.events import Rejected

if TYPE_CHECKING:
    from stream_detector.core.records import Readings, TopicState

KEPT = 1024
"""Bytes of a refused payload that are shown."""


@dataclass(slots=True)
class Tally:
    """How the messages of a stream ended.

    Attributes:
        received: All of them.
        accepted: Those with at least a shape that could be read.
        rejected: By reason.
        ignored: By reason.
        refused_readings: Elements of accepted lists that were refused, by reason.
        duplicates: Readings of messages that are known, by their packet id, to have been taken before.
    """

    received: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    refused_readings: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0


@dataclass(slots=True)
class Taken:
    """What a batch of messages gave.

    Attributes:
        states: What formats remember of topics from now on, in order; to be kept before the readings.
        readings: A batch a stream.
        rejected: What was refused.
        tallies: By stream; '' for messages that belong to none.
        own: Topic and payload of what the service, or another one under the same base, publishes.
        commands: Places of the messages that ask something of the service.
    """

    own: list[tuple[str, bytes]] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    states: list[TopicState] = field(default_factory=list)
    readings: list[Readings] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Oversized:
    """A payload above the limit, of which only the beginning was kept."""

    size: int
    sha256: str


def rejection(
    stream: str,
    reason: str,
    message: str,
    topic: str,
    payload: bytes,
    arrival: int,
    oversized: Oversized | None = None,
    *,
    whole_message: bool = True,
) -> Rejected:
    """Return the event for a refused payload."""
    return Rejected(
        stream=stream,
        reason=reason,
        message=message,
        topic=topic,
        size=oversized.size if oversized else len(payload),
        sha256=oversized.sha256 if oversized else hashlib.sha256(payload).hexdigest(),
        head=payload[:KEPT],
        received_at=arrival,
        whole=whole_message,
    )
