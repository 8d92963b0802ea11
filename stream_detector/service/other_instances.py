"""Who else is under our base topic: two services that publish there would contradict each other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from stream_detector.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWER_S = 0.5
"""So long the broker gets to tell of another service: retained messages come some time after the SUBACK."""


LONGEST = 128


class _Info(msgspec.Struct):
    instance: str


_decode = msgspec.json.Decoder(_Info).decode


class OtherInstances:
    """What the retained `info` and `status` say of another service.

    Args:
        base: Our topic.
        own: Our name, as our own `info` says it.
    """

    def __init__(self, base: str, own: str) -> None:
        self._base = base
        self._own = own
        self._name: str | None = None
        self._online = False
        self._asked_at: float | None = None

    @property
    def topics(self) -> list[str]:
        """Return the topics to listen to."""
        return [f"{self._base}/info", f"{self._base}/status"]

    def listen(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Take in what came; of info and status, either may come first."""
        info, status = self.topics
        for topic, payload in messages:
            if topic == info:
                try:
                    name = _decode(payload).instance
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue  # anybody may write there
                self._name = ascii(name[:LONGEST])[1:-1] if name != self._own else None
            elif topic == status:
                self._online = payload == b"online"

    def absent(self) -> bool:
        """Return whether we know to be alone; to be asked again until it is so.

        What counts is what was said last: a session that the broker kept may begin with old news.

        Raises:
            ConfigurationError: Another service is online.
        """
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        if time.monotonic() - self._asked_at < ANSWER_S:
            return False
        if self._name is None or not self._online:
            return True
        raise ConfigurationError(
            f"another stream_detector ({self._name}) is online under topics.base: {self._base};"
            " give this one another topics.base, or stop the other",
            key="topics.base",
        )
