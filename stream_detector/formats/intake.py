"""From messages to batches: which stream a topic belongs to, decoding, and what is refused.

The loop over messages does three look-ups and one call; everything that a topic says is found out
once and remembered.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stream_detector.core.events import Rejected
from stream_detector.formats import FORMATS
from stream_detector.formats.columns import FUTURE, Columns, RefusedError, Route
from stream_detector.formats.names import name_error
from stream_detector.formats.redeliveries import Redeliveries
from stream_detector.formats.topic_states import TopicStates
from stream_detector.formats.topics import TopicPattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream_detector.core.records import Readings, TopicState
    from stream_detector.formats import Format
    from stream_detector.formats.columns import Admission
    from stream_detector.formats.settings import IntakeSettings

MAX_PAYLOAD = 65_536
"""Bytes of a payload that are looked at."""
KEPT = 1024
MAX_ROUTES = 100_000
MAX_REMEMBERED = 256
"""Bytes of a topic; longer ones are found out anew each time, else hostile ones would fill the memory."""
RETAIN, DUP = 1, 8
COMMAND = "command"
"""What a topic is that asks something of the service; such messages are no telemetry."""


@dataclass(slots=True)
class Tally:
    """How the messages of a stream ended.

    Attributes:
        received: All of them.
        accepted: Those with at least a shape that could be read.
        rejected: By reason.
        ignored: By reason.
        refused_readings: Elements of accepted lists that were refused, by reason.
        duplicates: Readings of messages that are known, by their packet id, to have been taken before.
    """

    received: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    refused_readings: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0


@dataclass(slots=True)
class Taken:
    """What a batch of messages gave.

    Attributes:
        states: What formats remember of topics from now on, in order; to be kept before the readings.
        readings: A batch a stream.
        rejected: What was refused.
        tallies: By stream; '' for messages that belong to none.
        own: Topic and payload of what the service, or another one under the same base, publishes.
        commands: Places of the messages that ask something of the service.
    """

    own: list[tuple[str, bytes]] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    states: list[TopicState] = field(default_factory=list)
    readings: list[Readings] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Oversized:
    """A payload above the limit, of which only the beginning was kept."""

    size: int
    sha256: str


class _Stream:
    """A stream as the intake sees it."""

    def __init__(
        self,
        name: str,
        settings: IntakeSettings,
        admission: Admission,
    ) -> None:
        self.name = name
        self.settings = settings
        self.pattern = TopicPattern.parse(settings.topic)
        self.format: Format = FORMATS[settings.format](settings)
        self.keeps_state = self.format.keeps_state
        self.states = TopicStates(name)
        self.columns = Columns(settings, name, admission, self.states)
        self.use_retained = settings.retained == "use"
        self._tags: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def take_back(self, since: int) -> None:
        """Undo what a message has given that is refused: its readings from a number on, and its states."""
        self.columns.drop(since)
        self.states.undo()

    def forget_tags(self) -> None:
        """Let go of the captures that were met; those that devices came with stay with them."""
        self._tags.clear()

    def route(self, topic: str, captures: dict[str, str]) -> Route:
        """Find out what a topic says."""
        spoken_for = {"device", "channel"} if self.settings.format == "scalar" else {"device"}
        tags = {name: value for name, value in captures.items() if name not in spoken_for}
        tags = self._tags.setdefault(tuple(tags.items()), tags)
        template = self.settings.device
        named = captures.get("device")
        device = None
        if named is not None or "{device}" not in template:
            device = template.format(**captures)
        return Route(topic, device, named, captures, tags)


class Intake:
    """Decodes what arrives, for all streams.

    Args:
        streams: Settings by name.
        base: What the service publishes itself stands below this topic; it is never read.
        admission: Knows the devices.
        built_at: Build date, µs: no clock is believed to be before it.
        keep_deliveries: Messages without a time that are remembered, to know them when they come again.
        also_own: Tells further topics that are never read as telemetry.

    Attributes:
        deliveries: Of messages without a time.
        next_instant: Later than the time of every reading so far that brought none, µs.
    """

    def __init__(
        self,
        streams: Mapping[str, IntakeSettings],
        *,
        base: str,
        admission: Admission,
        built_at: int = 0,
        keep_deliveries: int = 4096,
        also_own: Callable[[str], bool] = lambda _topic: False,
    ) -> None:
        self._settings = streams
        self._admission = admission
        self._base = base
        self._also_own = also_own
        self._built_at = built_at
        self.deliveries = Redeliveries(keep_deliveries)
        self.next_instant = 0
        self.begin()

    def begin(self) -> None:
        """Forget all devices and topics; no instant is given out twice."""
        self._streams = {
            name: _Stream(name, settings, self._admission) for name, settings in self._settings.items()
        }
        self._routes: dict[bytes, tuple[_Stream, Route] | Rejected | str] = {}

    def restore(self, states: Iterable[TopicState]) -> None:
        """Give the formats back what they remembered, before they get a message; see `Taken.states`."""
        kept: dict[str, list[TopicState]] = {}
        for state in states:
            kept.setdefault(state.stream, []).append(state)
        for name, stream in self._streams.items():
            if stream.keeps_state:
                stream.states.restore(kept.get(name, ()))

    @property
    def filters(self) -> list[str]:
        """Return the topic filter of each stream, in their order."""
        return [stream.pattern.filter for stream in self._streams.values()]

    def devices_with_other_captures(self) -> list[tuple[str, str]]:
        """Return (stream, device) of devices seen under different captures since the last call."""
        found = [
            (stream.name, device)
            for stream in self._streams.values()
            for device in stream.columns.other_captures
        ]
        for stream in self._streams.values():
            stream.columns.other_captures.clear()
        return found

    def reads(self, topic: str) -> bool:
        """Return whether what is published on a topic would come back to us, as telemetry or otherwise."""
        return self._also_own(topic) or bool(self.stream_of(topic.encode()))

    def stream_of(self, topic: bytes) -> str:
        """Return the name of the stream that a topic belongs to; empty for none."""
        found = self._look_up(topic)
        if isinstance(found, tuple):
            return found[0].name
        return found.stream if isinstance(found, Rejected) else ""

    def forget(self, stream: str, device: str) -> None:
        """Let go of what is known of a device; its next reading asks admission anew."""
        self._streams[stream].columns.forget(device)

    def take(  # noqa: C901, PLR0912, PLR0915 - the loop over messages; in parts it would cost a call each
        self,
        topics: Sequence[bytes],
        payloads: Sequence[bytes],
        flags: Sequence[int],
        arrival: int,
        oversized: Mapping[int, Oversized] | None = None,
        packet_ids: Sequence[int] | None = None,
        wall: int = 0,
    ) -> Taken:
        """Decode messages in arrival order.

        Args:
            topics: As they came.
            payloads: Likewise; only the beginning where `oversized` has the index.
            flags: Low nibble of the PUBLISH header; bit 0: retained, bit 3: delivered again.
            arrival: Service clock, µs; from there on each message, and each element of a list, gets an
                instant of its own, later than all before it: the event time where it brings none.
            oversized: Payloads that were not kept as a whole.
            packet_ids: Of the messages at QoS 1, 0 at QoS 0; None: all at QoS 0.
            wall: The machine's clock, µs, which may have been set right since the service clock began.
        """
        taken = Taken(tallies={stream.name: Tally() for stream in self._streams.values()})
        oversized = oversized or {}
        self._believe_until(max(arrival, self._built_at, wall) + FUTURE)
        instant = max(arrival, self.next_instant)
        packet_ids = packet_ids or [0] * len(topics)
        for place, (topic, payload, packet_id) in enumerate(zip(topics, payloads, packet_ids, strict=True)):
            found = self._routes.get(topic)
            if met := found is None:
                found = self._look_up(topic)
            if found == COMMAND:
                taken.commands.append(place)
                continue
            if not isinstance(found, tuple):
                if met and found != "own_topic":
                    self._remember(topic, found)
                self._turn_away(found, topic, payload, arrival, taken)
                continue
            stream, route = found
            tally = taken.tallies[stream.name]
            tally.received += 1
            if flags[place] & RETAIN and not stream.use_retained:
                tally.ignored["retained"] += 1
                continue
            again = False
            if packet_id and flags[place] & DUP:
                again = self.deliveries.known(packet_id, topic, payload)
            elif packet_id:
                self.deliveries.reused(packet_id)
            if stream.keeps_state and packet_id:
                if again:  # with what it changed since, the state may give it another meaning
                    tally.accepted += 1
                    continue
                self.deliveries.took(packet_id, topic, payload)
            before = len(stream.columns)
            try:
                if len(payload) > MAX_PAYLOAD or place in oversized:
                    raise _too_large(payload, oversized.get(place))  # noqa: TRY301 - one way out for all
                refused = stream.format.take(payload, route, instant, stream.columns)
            except RefusedError as error:
                stream.take_back(before)
                self._refuse(stream, route, error, payload, arrival, oversized.get(place), taken)
                continue
            except Exception as error:  # noqa: BLE001 - no message can stop the next one
                stream.take_back(before)
                unknown = RefusedError("internal_error", f"this should not happen: {type(error).__name__}")
                self._refuse(stream, route, unknown, payload, arrival, None, taken)
                continue
            if met:  # what is refused leaves nothing behind
                self._remember(topic, found)
            tally.accepted += 1
            if again:
                tally.duplicates += stream.columns.drop(before)
            elif stream.keeps_state:
                stream.states.accept(arrival)
            elif packet_id and stream.columns.untimed(before):
                self.deliveries.took(packet_id, topic, payload)
            instant += max(1, len(stream.columns) - before + len(refused))
            if refused:
                self._refuse_elements(stream, route, refused, payload, arrival, taken)
        self.next_instant = instant
        taken.states = [state for stream in self._streams.values() for state in stream.states.take()]
        batches = [stream.columns.take() for stream in self._streams.values()]
        taken.readings = [readings for readings in batches if readings is not None]
        return taken

    def _believe_until(self, latest: int) -> None:
        for stream in self._streams.values():
            stream.columns.latest = latest

    def _refuse(
        self,
        stream: _Stream,
        route: Route,
        error: RefusedError,
        payload: bytes,
        arrival: int,
        whole: Oversized | None,
        taken: Taken,
    ) -> None:
        taken.tallies[stream.name].rejected[error.reason] += 1
        taken.rejected.append(
            rejection(stream.name, error.reason, str(error), route.topic, payload, arrival, whole)
        )

    def _refuse_elements(
        self,
        stream: _Stream,
        route: Route,
        refused: list[tuple[int, RefusedError]],
        payload: bytes,
        arrival: int,
        taken: Taken,
    ) -> None:
        # Once for all: the payload's hash alone takes longer than judging an element.
        whole = rejection(stream.name, "", "", route.topic, payload, arrival, whole_message=False)
        for index, error in refused:
            taken.tallies[stream.name].refused_readings[error.reason] += 1
            message = f"element {index} of the list: {error}"
            taken.rejected.append(replace(whole, reason=error.reason, message=message))

    def _remember(self, topic: bytes, found: tuple[_Stream, Route] | Rejected | str) -> None:
        if len(self._routes) >= MAX_ROUTES:
            self._routes.clear()
            for stream in self._streams.values():
                stream.forget_tags()
        if len(topic) <= MAX_REMEMBERED:
            self._routes[topic] = found

    def _look_up(self, topic: bytes) -> tuple[_Stream, Route] | Rejected | str:
        """Return stream and route of a topic, or why it has none."""
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            return rejection("", "topic", "the topic is not UTF-8", repr(topic), b"", 0)
        if text.startswith(f"{self._base}/cmd/"):
            return COMMAND
        if text == self._base or text.startswith((self._base + "/", "$SYS/")) or self._also_own(text):
            return "own_topic"
        for stream in self._streams.values():
            captures = stream.pattern.match(text)
            if captures is None:
                continue
            for name, value in captures.items():
                error = name_error(value)
                if error:
                    reason = "device_name" if name == "device" else "topic"
                    message = f"{{{name}}} in the topic cannot be a name: {error}"
                    return rejection(stream.name, reason, message, text, b"", 0)
            return stream, stream.route(text, captures)
        return "no_stream"

    def _turn_away(
        self, why: Rejected | str, topic: bytes, payload: bytes, arrival: int, taken: Taken
    ) -> None:
        name = why.stream if isinstance(why, Rejected) else ""
        tally = taken.tallies.setdefault(name, Tally())
        tally.received += 1
        if isinstance(why, str):
            tally.ignored[why] += 1
            if why == "own_topic":
                taken.own.append((topic.decode(), payload))
            return
        tally.rejected[why.reason] += 1
        taken.rejected.append(rejection(name, why.reason, why.message, why.topic, payload, arrival))


def _too_large(payload: bytes, cut: Oversized | None) -> RefusedError:
    size = cut.size if cut else len(payload)
    return RefusedError(
        "too_large", f"the payload has {size} bytes, more than {MAX_PAYLOAD}; send smaller lists"
    )


def rejection(
    stream: str,
    reason: str,
    message: str,
    topic: str,
    payload: bytes,
    arrival: int,
    oversized: Oversized | None = None,
    *,
    whole_message: bool = True,
) -> Rejected:
    """Return the event for a refused payload."""
    return Rejected(
        stream=stream,
        reason=reason,
        message=message,
        topic=topic,
        size=oversized.size if oversized else len(payload),
        sha256=oversized.sha256 if oversized else hashlib.sha256(payload).hexdigest(),
        head=payload[:KEPT],
        received_at=arrival,
        whole=whole_message,
    )
