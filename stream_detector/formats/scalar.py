"""Format `scalar`: one number a message; the topic names the device and, with ``{channel}``, the channel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stream_detector.formats.refusals import RefusedError

if TYPE_CHECKING:
    from stream_detector.formats.columns import Columns
    from stream_detector.formats.routing import Route
    from stream_detector.formats.settings import IntakeSettings

DEFAULT_CHANNEL = "value"
_NUMBER = re.compile(rb"\s*-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?\s*")
"""A JSON number (RFC 8259, section 6)."""
_SHOWN = 32


class Scalar:
    """Decodes one number a message.

    Args:
        settings: The stream's.
    """

    keeps_state = False

    def __init__(self, settings: IntakeSettings) -> None:
        self._declared = tuple(settings.channels)

    def take(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        """Decode one message; see `stream_detector.formats.Format.take`."""
        if not _NUMBER.fullmatch(payload):
            raise _explain(payload)
        value = float(payload)
        if value in {float("inf"), float("-inf")}:
            raise RefusedError("not_finite", "the number is too large to be finite")
        channel = route.captures.get("channel", DEFAULT_CHANNEL)
        if self._declared and channel not in self._declared:
            raise RefusedError(
                "no_values", f"channel {channel[:_SHOWN]!r} is not one of {', '.join(self._declared)}"
            )
        device = route.device if route.device is not None else into.device(route, None)
        into.add(device, route, (channel,), (value,), arrival, arrival, None, 0)
        return []


def _explain(payload: bytes) -> RefusedError:
    if not payload.strip():
        return RefusedError("empty", "the payload is empty; send a number")
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as error:
        return RefusedError("encoding", f"the payload is not UTF-8 from byte {error.start} on")
    if text.lower().lstrip("+-") in {"nan", "inf", "infinity"}:
        return RefusedError("not_finite", "the number is not finite")
    return RefusedError("malformed", f"the payload is no number: {text[:_SHOWN]!r}")
