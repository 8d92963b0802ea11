"""What may be the name of a device, a channel or a capture."""

from __future__ import annotations

import unicodedata

MAX_NAME = 128
_FORBIDDEN = {"Cc": "a control character", "Cf": "a format character", "Cs": "a surrogate"}


def name_error(name: str) -> str | None:
    r"""Return why a text cannot be a name, or None where it can.

    Example:
        >>> name_error("pump-17"), name_error("Kühlhaus 3"), name_error("a\nb")
        (None, None, 'it contains a control character (U+000A)')
    """
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it has {len(name)} characters, more than {MAX_NAME}"
    if name.isascii() and name.isprintable():
        return None
    for character in name:
        what = _FORBIDDEN.get(unicodedata.category(character))
        if what:
            return f"it contains {what} (U+{ord(character):04X})"
    return None
