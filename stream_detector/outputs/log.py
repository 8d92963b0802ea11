"""Events -> log lines; and what the service says of its own life.

One `match` over the events ends in `assert_never`, so this file is also the list of the log lines that
events bring. A warning that may come thousands of times a second is written once a minute.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, assert_never

from stream_detector.core.events import (
    AlertChanged,
    AlertSuppressed,
    ChannelAdded,
    CommandAnswered,
    DeviceForgotten,
    DeviceStateChanged,
    ModelRefused,
    ModelReplaced,
    Rejected,
)

if TYPE_CHECKING:
    from stream_detector.core.events import Event

LOGGER = logging.getLogger("stream_detector")
LOGGER.addHandler(logging.NullHandler())  # a command that shows events itself wants no log
REPEAT_S = 60.0
"""The same warning is written once in this time, however often it comes."""
MAX_KEYS = 1000


class Log:
    """Writes log lines, and remembers which warnings were written lately."""

    def __init__(self) -> None:
        self._written_at: dict[str, float] = {}

    def info(self, message: str, *args: object) -> None:
        """Write what an operator wants to know about the service's own life."""
        LOGGER.info(message, *args)

    def warn(self, key: str, message: str, *args: object) -> None:
        """Write a warning; those with the same key once a minute."""
        if self._due(key):
            LOGGER.warning(message, *args)

    def event(self, event: Event) -> None:  # noqa: C901 - one case an event
        """Write the line of an event, where it has one."""
        match event:
            case AlertChanged():
                _alert(event)
            case DeviceStateChanged():
                LOGGER.debug("%s/%s is %s", event.stream, event.device, event.state)
            case DeviceForgotten():
                LOGGER.info("%s/%s is forgotten", event.stream, _printable(event.device))
            case CommandAnswered():  # there may be thousands a second
                if self._due(f"command {event.command} {event.result}"):
                    LOGGER.info("command %s: %s", event.command, event.result)
            case ChannelAdded():
                LOGGER.info("%s/%s reports a new channel: %s", event.stream, event.device, event.channel)
            case AlertSuppressed():
                pass
            case ModelReplaced():
                _model(event)
            case ModelRefused():
                LOGGER.error("%s keeps its model: %s", event.stream, event.message)
            case Rejected():
                self.warn(
                    f"rejected {event.stream} {event.reason}",
                    "a message on %s was refused (%s): %s",
                    _printable(event.topic),
                    event.reason,
                    _printable(event.message),
                )
            case _:
                assert_never(event)

    def _due(self, key: str) -> bool:
        """Return whether nothing was written under a key within a minute; from now on it was."""
        now = time.monotonic()
        if now - self._written_at.get(key, -REPEAT_S) < REPEAT_S:
            return False
        if len(self._written_at) > MAX_KEYS:  # bounded, whatever the keys
            self._written_at.clear()
        self._written_at[key] = now
        return True


def _model(replaced: ModelReplaced) -> None:
    if not replaced.name:
        LOGGER.info("%s has no %s model any more", replaced.stream, replaced.role)
    elif replaced.role == "live":
        LOGGER.info(
            "%s is now scored by model %s version %s", replaced.stream, replaced.name, replaced.version
        )
    else:
        LOGGER.info(
            "%s is now scored by model %s version %s, too (%s)",
            replaced.stream,
            replaced.name,
            replaced.version,
            replaced.role,
        )


def _alert(alert: AlertChanged) -> None:
    level = logging.WARNING if alert.event in {"raise", "update"} else logging.INFO
    LOGGER.log(
        level,
        "%s %s %s/%s %s score %.2f: %s",
        alert.event,
        alert.kind,
        alert.stream,
        _printable(alert.device),
        alert.severity,
        alert.score,
        _printable(alert.reason),
    )


def _printable(text: str) -> str:
    """Return a text that cannot break a log line."""
    return text if text.isprintable() else ascii(text)[1:-1]
