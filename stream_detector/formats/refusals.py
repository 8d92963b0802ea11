"""Why a message or a reading is refused: a word for the metrics, and a sentence for a person."""

from __future__ import annotations


class RefusedError(Exception):
    """A message or an element of a list is refused.

    Args:
        reason: A word from `stream_detector.core.events.REJECTIONS`.
        message: One sentence for the person who has to mend the sender.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def short(name: str) -> str:
    """Return a name as a sentence can show it: quoted, escaped, and not too long."""
    text = repr(name if len(name) <= 64 else name[:64] + "…")  # noqa: PLR2004 - enough to recognise it
    return text.encode("utf-8", "backslashreplace").decode()
