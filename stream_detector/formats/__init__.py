"""Payload bytes -> readings: one file a format, and the table of them.

Its one idea: whatever arrives ends as checked readings or as a refusal with a reason, and a format knows
nothing but payloads. Read in this order:

    intake              messages -> batches: the loop over what arrived; `taken` is what it gives
    routing             which stream a topic belongs to, and what it says; `topics` are the patterns
    columns             where a format puts readings: device, channels and time are checked there
    json, mapped_json   the canonical object, and other shapes by paths; `times` reads their times
    scalar              one number
    topic_states        what a format remembers of topics, kept over a crash
    redeliveries        knowing a message that is delivered again
    names, refusals     what may be a name; why something is refused
    settings            a stream's topic, format and channels
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stream_detector.formats.json import CanonicalJson
from stream_detector.formats.mapped_json import MappedJson
from stream_detector.formats.scalar import Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.formats.columns import Columns
    from stream_detector.formats.refusals import RefusedError
    from stream_detector.formats.routing import Route
    from stream_detector.formats.settings import IntakeSettings


class Format(Protocol):
    """Turns one payload into any number of readings, of any devices.

    What it gives is a function of the payload, the topic and, where it keeps state, of the states of topics
    (`Columns.states`): nothing else may stay from one message to the next, as it would be gone after a
    crash. What was sent while the service was down is missing in the states, so the format has to notice
    that a state is too old (by sequence numbers, say).

    Attributes:
        keeps_state: Whether it uses the states of topics. A message at QoS 1 that is delivered again is
            then known as a whole and passed over: decoded by a later state, it could mean something else.
    """

    @property
    def keeps_state(self) -> bool:
        """Return whether it uses the states of topics."""

    def take(
        self, payload: bytes, route: Route, arrival: int, into: Columns
    ) -> list[tuple[int, RefusedError]]:
        """Decode one message.

        For each reading the format calls `into.add`. The device is `route.device`, where the topic names it;
        one that the payload names goes through `into.device` first, so that the stream's template and what
        the topic says hold; each is admitted, checked and limited on its own. The readings of a message are
        numbered 0, 1, 2 … with those that are refused (`index`), because that number is part of a reading's
        identity; one that brings no time has ``arrival + index`` as its event time.

        Args:
            payload: Its bytes.
            route: What its topic says.
            arrival: Service clock, µs; the same for all readings of the message.
            into: Gets the readings, and holds the states of topics.

        Returns:
            The refused readings, each with its number; the others count.

        Raises:
            RefusedError: The whole message is refused; what it has added or remembered is taken back.
        """
        ...


def _json(settings: IntakeSettings) -> Format:
    return MappedJson(settings) if settings.map is not None or settings.coerce else CanonicalJson(settings)


FORMATS: Mapping[str, Callable[[IntakeSettings], Format]] = {"json": _json, "scalar": Scalar}
