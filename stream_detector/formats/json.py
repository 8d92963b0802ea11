"""Format `json`: the canonical object and lists of it; other shapes are read by `mapped_json`.

The decoder is generated from the declared channels, so that one call checks and converts a whole
payload in C; a payload that fails is looked at again, slowly, to say what is wrong with it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.formats.refusals import RefusedError
from stream_detector.formats.times import Seq, Time, microseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.formats.columns import Columns
    from stream_detector.formats.routing import Route
    from stream_detector.formats.settings import IntakeSettings

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
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
                ("ts", Time | None, None),
                ("seq", Seq | None, None),
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
        except UNREADABLE as error:
            if payload.lstrip()[:1] != b"[":
                raise explain(error, payload) from None
            return self._take_list(payload, route, arrival, into)
        return []

    def _take_list(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        try:
            elements = self._decode_list(payload)
        except UNREADABLE as error:
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
            except UNREADABLE as error:
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
