"""Payload bytes -> readings: one file a format, and the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stream_detector.formats.json import CanonicalJson, MappedJson
from stream_detector.formats.scalar import Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.formats.columns import Columns, RefusedError, Route
    from stream_detector.formats.settings import IntakeSettings


class Format(Protocol):
    """Turns one payload into readings."""

    def take(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        """Decode one message into `into`; see `stream_detector.formats.json.CanonicalJson.take`."""
        ...


def _json(settings: IntakeSettings) -> Format:
    return MappedJson(settings) if settings.map is not None or settings.coerce else CanonicalJson(settings)


FORMATS: Mapping[str, Callable[[IntakeSettings], Format]] = {"json": _json, "scalar": Scalar}
