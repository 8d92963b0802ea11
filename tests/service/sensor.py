"""What a healthy pump says, and what it says when it breaks."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = "plant/{site}/{device}/telemetry"
WARMED_UP = 200
"""So many readings are more than enough for the built-in detector."""


def instant(number: int) -> str:
    """Return the event time of a reading: one a second."""
    return (BEGIN + timedelta(seconds=number)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def healthy(number: int) -> float:
    """Return a vibration between 2 and 4 mm/s."""
    return round(3.0 + math.sin(number), 3)


def reading(number: int, vibration: float | None = None, **more: Any) -> dict[str, Any]:
    """Return a reading as the payload has it: a healthy one, unless a vibration is given."""
    values = {"vibration": healthy(number) if vibration is None else vibration, "temperature": 41.5}
    return {"ts": instant(number), "values": values, **more}


def payload(content: object) -> bytes:
    """Return something as JSON."""
    return json.dumps(content).encode()


def healthy_list(start: int, stop: int) -> bytes:
    """Return a list of healthy readings as one payload."""
    return payload([reading(number) for number in range(start, stop)])
