"""What a format remembers of topics, to read the messages that come after.

    birth   alias 7 is "temperature"     states.put("plant/n", table)
    data    alias 7 = 21.5               states.get("plant/n")  ->  temperature = 21.5

A state is input, as readings are: each change becomes a record that is on disk before its message is
acknowledged, and the newest of each topic comes back at a start. What a message changed is taken back
where the message is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.core.records import TopicState
from stream_detector.formats.refusals import RefusedError, short

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_TOPICS = 10_000
"""Topics of a stream that may have a state."""
MAX_BYTES = 16 << 20
"""Bytes of all states of a stream, with the names of their topics."""
NOTHING = b""


class TopicStates:
    """The states of one stream.

    Args:
        stream: Its name.

    Example:
        >>> states = TopicStates("pumps")
        >>> states.put("plant/n", b"7=temperature"), states.get("plant/n"), states.get("plant/s")
        (None, b'7=temperature', b'')
        >>> states.accept(at=100)
        >>> states.take()
        [TopicState(at=100, stream='pumps', topic='plant/n', content=b'7=temperature')]
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._contents: dict[str, bytes] = {}
        self._size = 0
        self._before: dict[str, bytes] = {}  # what the present message has changed
        self._records: list[TopicState] = []

    def get(self, topic: str) -> bytes:
        """Return the state of a topic, empty where it has none.

        It is the same object until it changes, so a format can keep beside it what it has made of it.
        """
        return self._contents.get(topic, NOTHING)

    def put(self, topic: str, content: bytes) -> None:
        """Set the state of a topic; empty: it has none any more.

        Args:
            topic: The topic, or what of it is common to those that share the state.
            content: Bytes that the format understands.

        Raises:
            RefusedError: It would be too much; then the state is as it was.
        """
        before = self._contents.get(topic, NOTHING)
        if content == before:
            return
        if content:
            if not before and len(self._contents) >= MAX_TOPICS:
                raise RefusedError(
                    "device_limit",
                    f"{short(topic)} would be one more than the {MAX_TOPICS:,} topics of a stream of which"
                    " something can be remembered",
                )
            if self._size - _size(topic, before) + _size(topic, content) > MAX_BYTES:
                raise RefusedError(
                    "too_large",
                    f"with what {short(topic)} declares, more than the {MAX_BYTES >> 20} MB of a stream would"
                    " have to be remembered; declare less",
                )
        self._before.setdefault(topic, before)
        self._set(topic, content)

    def accept(self, at: int) -> None:
        """Take what the present message has changed for good.

        Args:
            at: Arrival of the message, service clock, µs.
        """
        if self._before:
            self._records += [
                TopicState(at, self._stream, topic, self.get(topic))
                for topic, before in self._before.items()
                if self.get(topic) != before
            ]
            self._before.clear()

    def undo(self) -> None:
        """Take back what the present message has changed: it is refused."""
        for topic, before in self._before.items():
            self._set(topic, before)
        self._before.clear()

    def take(self) -> list[TopicState]:
        """Return the changes since the last call, in order."""
        records, self._records = self._records, []
        return records

    def restore(self, states: Iterable[TopicState]) -> None:
        """Begin with states that were kept, whatever the limits are now."""
        for state in states:
            self._set(state.topic, state.content)

    def _set(self, topic: str, content: bytes) -> None:
        self._size += _size(topic, content) - _size(topic, self._contents.pop(topic, NOTHING))
        if content:
            self._contents[topic] = content


def _size(topic: str, content: bytes) -> int:
    return len(topic.encode()) + len(content) if content else 0
