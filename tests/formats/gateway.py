"""A format for tests: one message brings readings of many devices, by aliases that a birth has declared.

birth 7=temp 8=rpm            what 7 and 8 stand for in later messages below the same {site}
death                         nothing stands for anything any more
data a 7=21.5 8=3 | b 7=20    readings of a and b
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.formats.refusals import RefusedError

if TYPE_CHECKING:
    from stream_detector.formats.columns import Columns
    from stream_detector.formats.routing import Route
    from stream_detector.formats.settings import IntakeSettings


class Gateway:
    """Decodes messages of gateways.

    Args:
        settings: The stream's.
    """

    keeps_state = True

    def __init__(self, settings: IntakeSettings) -> None:
        del settings

    def take(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        """Decode one message."""
        word, _, rest = payload.decode().partition(" ")
        site = route.captures["site"]
        if word == "death":
            into.states.put(site, b"")
            return []
        if word == "birth":
            into.states.put(site, rest.encode())
            if "broken" in rest:
                raise RefusedError("malformed", "the birth is broken")
            return []
        names = dict(pair.split("=") for pair in into.states.get(site).decode().split())
        refused = []
        for index, part in enumerate(rest.split(" | ")):
            device, *pairs = part.split(" ")
            if device == "poison":
                raise RefusedError("malformed", "the message is poisoned")
            if device == "fault":
                raise ZeroDivisionError
            try:
                values = {names[alias]: float(x) for alias, x in (pair.split("=") for pair in pairs)}
            except KeyError as error:
                refused.append((index, RefusedError("channel_name", f"alias {error} was never declared")))
                continue
            try:
                into.add(
                    into.device(route, device),
                    route,
                    tuple(values),
                    tuple(values.values()),
                    arrival + index,
                    arrival,
                    None,
                    index,
                )
            except RefusedError as error:
                refused.append((index, error))
        return refused
