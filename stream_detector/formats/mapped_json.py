"""Format `json` with `map` or `coerce`: objects of any shape by dotted paths, and lists of them."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.formats.json import UNREADABLE, explain
from stream_detector.formats.refusals import RefusedError, short
from stream_detector.formats.times import Seq, Time, microseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.formats.columns import Columns
    from stream_detector.formats.routing import Route
    from stream_detector.formats.settings import IntakeSettings, MapSettings


class MappedJson:
    """Decodes JSON of another shape by dotted paths, or coerces what the strict decoder refuses.

    Args:
        settings: The stream's.
    """

    keeps_state = False

    def __init__(self, settings: IntakeSettings) -> None:
        self._map = settings.map
        self._declared = tuple(settings.channels)
        self._coerce = settings.coerce
        mapping = settings.map
        self._device = _getter(mapping.device if mapping else "device_id")
        self._time = _getter(mapping.time if mapping else "ts")
        self._seq = _getter(mapping.seq if mapping else "seq")
        self._values = _values_getter(mapping)

    def take(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        """Decode one message; see `stream_detector.formats.Format.take`."""
        try:
            content = msgspec.json.decode(payload)
        except UNREADABLE as error:
            raise explain(error, payload) from None
        if not isinstance(content, list):
            self._add(content, route, arrival, into, arrival, 0)
            return []
        refused = []
        for index, element in enumerate(content):
            try:
                self._add(element, route, arrival, into, arrival + index, index)
            except RefusedError as error:
                refused.append((index, error))
        return refused

    def _add(self, content: Any, route: Route, arrival: int, into: Columns, now: int, index: int) -> None:
        found = self._values(content)
        if not isinstance(found, dict):
            raise RefusedError("no_values", f"there is no object at {self._path()}; look at map.values")
        whole_object = self._map is None or isinstance(self._map.values, str)
        values: dict[str, float] = {}
        for name, x in found.items():
            if x is None or (self._declared and name not in self._declared):
                continue
            if whole_object and self._map is not None and not self._declared and not _is_number(x):
                continue  # an object of mixed content: its numbers are the channels
            values[name] = self._number(name, x)
        if not values:
            raise RefusedError("no_values", f"there is no number at {self._path()}; look at map.values")
        given = self._device(content)
        if given is not None and not isinstance(given, str):
            raise RefusedError("device_name", f"the device must be a string, not {_kind(given)}")
        device = into.device(route, given)
        ts = self._when(content)
        names = tuple(values)
        into.add(
            device,
            route,
            names,
            tuple(values.values()),
            now if ts is None else ts,
            arrival,
            self._number_of(content),
            index,
        )

    def _path(self) -> str:
        values = self._map.values if self._map else "values"
        return f"{values!r}" if isinstance(values, str) else ", ".join(repr(path) for path in values.values())

    def _number(self, name: str, x: object) -> float:
        if isinstance(x, bool | str) and self._coerce:
            try:
                x = float(x)
            except ValueError:
                raise RefusedError("wrong_type", f"{short(name)} is text that is no number") from None
        if not _is_number(x):
            raise RefusedError("wrong_type", f"{short(name)} must be a number, not {_kind(x)}")
        try:
            number = float(x)  # type: ignore[arg-type]  # checked just above
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise RefusedError("not_finite", f"{short(name)} is not a finite number")
        return number

    def _when(self, content: Any) -> int | None:
        raw = self._time(content)
        if raw is None:
            return None
        if self._coerce and isinstance(raw, str):
            with suppress(ValueError):
                raw = float(raw)
        try:
            return microseconds(msgspec.convert(raw, Time))
        except (msgspec.ValidationError, OverflowError, ValueError):
            raise RefusedError(
                "timestamp", "the time must be RFC 3339 with a zone, or seconds or milliseconds since 1970"
            ) from None

    def _number_of(self, content: Any) -> int | None:
        raw = self._seq(content)
        if raw is None:
            return None
        try:
            return msgspec.convert(raw, Seq, strict=not self._coerce)
        except msgspec.ValidationError:
            raise RefusedError("seq", f"seq must be a whole number, not {_kind(raw)}") from None


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _kind(x: object) -> str:
    names = {bool: "true/false", str: "text", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(x), "a number")


def _getter(path: str | None) -> Callable[[Any], Any]:
    """Return a function that follows a dotted path; None where it leads nowhere."""
    if path is None:
        return lambda _content: None
    steps = [step for step in path.split(".") if step]

    def get(content: Any) -> Any:
        for step in steps:
            if isinstance(content, dict):
                content = content.get(step)
            elif isinstance(content, list) and step.isdigit() and int(step) < len(content):
                content = content[int(step)]
            else:
                return None
        return content

    return get


def _values_getter(mapping: MapSettings | None) -> Callable[[Any], Any]:
    values = mapping.values if mapping else "values"
    if isinstance(values, str):
        return _getter(values)
    getters = {channel: _getter(path) for channel, path in values.items()}
    return lambda content: {channel: get(content) for channel, get in getters.items()}
