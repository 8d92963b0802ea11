"""What a check finds, and how the broker's reason codes read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FAILURE = 0x80
"""Reason codes from here on are failures (MQTT 5, section 2.4)."""
NO_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`.

    Attributes:
        level: ``ok``; ``note``, to know; ``fact``, for who asks for all; ``warn``, it works, but;
            ``FAIL``, it does not.
        what: What was looked at, in a word.
        sentence: What was found, and what to do where it is not well.
    """

    level: Literal["ok", "note", "fact", "warn", "FAIL"]
    what: str
    sentence: str


def refused(code: int | None) -> bool:
    """Return whether the broker has refused a publish."""
    return code is not None and code >= FAILURE


def words(code: int | None) -> str:
    """Return what the broker says of a publish."""
    if code is None:
        return "no answer"
    return "Not authorized" if code == NOT_AUTHORIZED else f"reason 0x{code:02X}"
