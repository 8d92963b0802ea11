"""The name of this instance: the same over restarts, kept in state_dir."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from stream_detector.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "instance"
DIGITS = 8


def instance_name(state_dir: Path) -> str:
    """Return 8 hex digits that stay the same over restarts; they are drawn at the first.

    Raises:
        StateError: The folder cannot be used.
    """
    path = state_dir / FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            text = path.read_text(encoding="ascii").strip()
            if len(text) == DIGITS and set(text) <= set("0123456789abcdef"):
                return text
        text = secrets.token_hex(DIGITS // 2)
        path.write_text(text + "\n", encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(
            f"state_dir {state_dir} cannot be used ({getattr(error, 'strerror', None) or error}):"
            " name a folder that this user may write to"
        ) from None
    return text
