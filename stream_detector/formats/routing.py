"""Which stream a topic belongs to, and what it says of a message: found out once and remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from stream_detector.formats import FORMATS
from stream_detector.formats.columns import Columns
from stream_detector.formats.names import name_error
from stream_detector.formats.taken import rejection
from stream_detector.formats.topic_states import TopicStates
from stream_detector.formats.topics import TopicPattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.core.events import Rejected
    from stream_detector.formats import Format
    from stream_detector.formats.columns import Admission
    from stream_detector.formats.settings import IntakeSettings

MAX_ROUTES = 100_000
MAX_REMEMBERED = 256
"""Bytes of a topic; longer ones are found out anew each time, else hostile ones would fill the memory."""
COMMAND = "command"
"""What a topic is that asks something of the service; such messages are no telemetry."""
OWN, NO_STREAM = "own_topic", "no_stream"
"""Why a message is passed over: words from `stream_detector.core.events.IGNORED`."""


@dataclass(slots=True)
class Route:
    """What a topic says, found out once.

    Attributes:
        topic: The topic.
        device: The device, where the topic alone names it.
        named: The capture ``{device}``, which a name in the payload must equal.
        captures: All captures.
        tags: Captures that neither name the device nor the channel; equal ones are one object.
    """

    topic: str
    device: str | None
    named: str | None
    captures: dict[str, str]
    tags: dict[str, str]


class IntakeStream:
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
        """Forget the captures seen so far; those that devices came with stay with them."""
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


Found: TypeAlias = "tuple[IntakeStream, Route] | Rejected | str"
"""Stream and route of a topic; or why its messages are refused; or `COMMAND`, `OWN`, `NO_STREAM`."""


class Router:
    """Finds out what topics say.

    Args:
        streams: By name; a topic belongs to the first one whose pattern it matches.
        base: What the service publishes itself stands below this topic.
        also_own: Whether another topic, too, is never read as telemetry.

    Attributes:
        known: What is remembered, by topic; the same object as long as the router lives.
    """

    def __init__(
        self, streams: Mapping[str, IntakeStream], base: str, also_own: Callable[[str], bool]
    ) -> None:
        self._streams = streams
        self._base = base
        self._also_own = also_own
        self.known: dict[bytes, Found] = {}

    def remember(self, topic: bytes, found: Found) -> None:
        """Remember what a topic says."""
        if len(self.known) >= MAX_ROUTES:
            self.known.clear()
            for stream in self._streams.values():
                stream.forget_tags()
        if len(topic) <= MAX_REMEMBERED:
            self.known[topic] = found

    def look_up(self, topic: bytes) -> Found:
        """Find out what a topic says, without remembering it; see `Found`."""
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            return rejection("", "topic", "the topic is not UTF-8", repr(topic), b"", 0)
        if text.startswith(f"{self._base}/cmd/"):
            return COMMAND
        if text == self._base or text.startswith((self._base + "/", "$SYS/")) or self._also_own(text):
            return OWN
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
        return NO_STREAM
