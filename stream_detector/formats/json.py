"""Format `json`: the canonical object, lists of it, or another shape by dotted paths.

The decoder is generated from the declared channels, so that one call checks and converts a whole
payload in C; a payload that fails is looked at again, slowly, to say what is wrong with it.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from stream_detector.formats.columns import RefusedError, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.formats.columns import Columns, Route
    from stream_detector.formats.settings import IntakeSettings, MapSettings

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - the C type compares fastest
_MICROSECOND = timedelta(microseconds=1)
_MILLISECONDS_FROM = 1e11
"""Numbers from here on are milliseconds: as seconds they would be in the year 5138."""

_FARTHEST = 1e15
"""Numbers from here on are no times; as milliseconds they would be in the year 33,658."""

_Seq = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)] | int | float

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: for text that is no UTF-8 the error of Python's own decoder."""

_FIELDS = {
    "$.ts": ("timestamp", "ts must be RFC 3339 with a zone, or seconds or milliseconds since 1970"),
    "$.seq": ("seq", "seq must be a whole number below 2^62"),
    "$.device_id": ("device_name", "device_id must be a string"),
}

_SAID = {
    "array": "a list",
    "bool": "true/false",
    "float": "a number",
    "int": "a number",
    "object": "an object",
    "str": "text",
}
"""What msgspec calls JSON's types -> what a person does."""

_WORDS = re.compile(rb"(?:^|[\[{:,\s-])(NaN|Infinity|nan|inf)\b")


def microseconds(time: datetime | float) -> int:
    """Return µs since 1970 of an RFC 3339 time, or of a number of seconds or milliseconds.

    Example:
        >>> microseconds(1_700_000_000), microseconds(1_700_000_000_123), microseconds(1.7e9)
        (1700000000000000, 1700000000123000, 1700000000000000)
    """
    if isinstance(time, datetime):
        return (time - _EPOCH) // _MICROSECOND
    time = max(-_FARTHEST, min(time, _FARTHEST))  # the bounds of time refuse it later
    if abs(time) >= _MILLISECONDS_FROM:
        return round(time * 1000)
    return round(time * 1_000_000)


class CanonicalJson:
    """Decodes the payload that needs no mapping.

    Args:
        settings: The stream's; its channels shape the decoder.
    """

    keeps_state = False

    def __init__(self, settings: IntakeSettings) -> None:
        declared = tuple(settings.channels)
        self._declared = declared
        values: Any = dict[str, float | None]
        if declared:
            values = msgspec.defstruct(
                "Values",
                [(f"c{k}", float | None, math.nan) for k in range(len(declared))],
                rename={f"c{k}": name for k, name in enumerate(declared)},
                gc=False,
            )
        message = msgspec.defstruct(
            "Message",
            [
                ("values", values),
                ("device_id", str | None, None),
                ("ts", _Time | None, None),
                ("seq", _Seq | None, None),
            ],
            gc=False,
        )
        self._decode: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder(message).decode
        self._decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def take(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        """Decode one message; see `stream_detector.formats.Format.take`."""
        try:
            self._add(self._decode(payload), route, arrival, into, arrival, 0)
        except _UNREADABLE as error:
            if payload.lstrip()[:1] != b"[":
                raise explain(error, payload) from None
            return self._take_list(payload, route, arrival, into)
        return []

    def _take_list(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        try:
            elements = self._decode_list(payload)
        except _UNREADABLE as error:
            raise explain(error, payload) from None
        if not elements:
            raise RefusedError("no_values", "the list is empty; send at least one reading")
        refused = []
        for index, element in enumerate(elements):
            try:
                # Elements without a time of their own follow one another.
                self._add(self._decode(element), route, arrival, into, arrival + index, index)
            except RefusedError as error:
                refused.append((index, error))
            except _UNREADABLE as error:
                refused.append((index, explain(error, bytes(element))))
        return refused

    def _add(self, message: Any, route: Route, arrival: int, into: Columns, now: int, index: int) -> None:
        if self._declared:
            values = msgspec.structs.astuple(message.values)
            if None in values:
                values = tuple(math.nan if x is None else x for x in values)
            if math.isnan(values[0]) and all(map(math.isnan, values)):
                raise RefusedError(
                    "no_values", f"values has none of the channels {', '.join(self._declared)}"
                )
            names = self._declared
        else:
            found = message.values
            if None in found.values():
                found = {name: x for name, x in found.items() if x is not None}
            if not found:
                raise RefusedError("no_values", "values is empty; send at least one channel")
            names, values = tuple(found), tuple(found.values())
        device = route.device
        if message.device_id is not None or device is None:
            device = into.device(route, message.device_id)
        ts = message.ts
        into.add(
            device,
            route,
            names,
            values,
            now if ts is None else microseconds(ts),
            arrival,
            message.seq,
            index,
        )


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
        except _UNREADABLE as error:
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
            return microseconds(msgspec.convert(raw, _Time))
        except (msgspec.ValidationError, OverflowError, ValueError):
            raise RefusedError(
                "timestamp", "the time must be RFC 3339 with a zone, or seconds or milliseconds since 1970"
            ) from None

    def _number_of(self, content: Any) -> int | None:
        raw = self._seq(content)
        if raw is None:
            return None
        try:
            return msgspec.convert(raw, _Seq, strict=not self._coerce)
        except msgspec.ValidationError:
            raise RefusedError("seq", f"seq must be a whole number, not {_kind(raw)}") from None


def explain(error: Exception, payload: bytes) -> RefusedError:
    """Return why a payload is refused, in a word and a sentence."""
    if not payload.strip():
        return RefusedError("empty", "the payload is empty; send a JSON object")
    if isinstance(error, RecursionError):
        return RefusedError("malformed", "the JSON is nested too deeply")
    if isinstance(error, msgspec.ValidationError):
        return _not_ours(str(error))
    return _broken(str(error), payload)


def _not_ours(text: str) -> RefusedError:
    """Return why JSON is not of the canonical shape, from what msgspec says of it."""
    if "out of range" in text:
        return RefusedError("not_finite", "a number is too large to be finite")
    if "required field `values`" in text:
        return RefusedError("no_values", 'the object has no "values"; send {"values": {"channel": number}}')
    where = text.rpartition(" - at ")[2].strip("`") if " - at " in text else "$"
    for field, (reason, sentence) in _FIELDS.items():
        if where.startswith(field):
            return RefusedError(reason, sentence)
    got = re.search(r"got `(\w+)`", text)
    kind = f", not {_SAID.get(got[1], got[1])}" if got else ""
    wanted = "a number" if where.startswith(("$.values.", "$.values[")) else "an object"
    return RefusedError("wrong_type", f"{where[:128]} must be {wanted}{kind}")


def _broken(text: str, payload: bytes) -> RefusedError:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        return RefusedError("encoding", f"the payload is not UTF-8 from byte {error.start} on")
    if _WORDS.search(payload):
        return RefusedError(
            "not_finite", "NaN and Infinity are no JSON numbers; leave the channel out instead"
        )
    return RefusedError("malformed", f"the payload is no JSON: {text.removeprefix('JSON is malformed: ')}")


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
