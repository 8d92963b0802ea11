"""What the core has to know of a stream before its first reading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stream_detector.core.alerts.policy import AlertPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Limits:
    """What is known of a channel beforehand.

    Attributes:
        unit: For sentences.
        low: Smallest allowed value, or None.
        high: Largest allowed value, or None.
    """

    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What the core has to know of a stream.

    Attributes:
        name: Its name.
        channels: Declared channels by name; empty: each device's channels are learned.
        window: Readings in a window.
        lateness: How much older than its device's newest a reading may be, µs.
        policy: When alerts open, speak again and close.
        own_raise_after: Take N and M from the detector instead of from `policy`.
        watch_stuck: Whether values that do not move are judged.
        silence_at_least: Quiet time that is always allowed, µs; None: silence is not judged.
    """

    name: str
    channels: Mapping[str, Limits] = field(default_factory=dict)
    window: int = 64
    lateness: int = 0
    policy: AlertPolicy = field(default_factory=AlertPolicy)
    own_raise_after: bool = True
    watch_stuck: bool = True
    silence_at_least: int | None = 3_000_000
