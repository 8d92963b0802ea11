"""Who may join: how many devices a stream has, in memory and on disk, and how fast there may be more.

A fleet grows slowly; what grows fast is somebody inventing names. So there is a limit on new devices a
minute, one on devices in memory, and one on devices altogether; who is known already is never refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.core.pipeline import Pipeline
    from stream_detector.service.recovery import Recovery
    from stream_detector.settings import Settings

MINUTE = 60_000_000
ON_DISK = 20
"""Devices on disk for each that may be in memory."""


class Admission:
    """Knows all devices of all streams.

    Args:
        settings: The configuration.
        pipeline: Holds the devices in memory.
        recovery: Gives what brings those on disk back.
        clock: Service clock, µs.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        recovery: Callable[[], Recovery],
        clock: Callable[[], int],
    ) -> None:
        self._in_memory = settings.max_devices
        self._a_minute = settings.new_devices_per_minute
        self._pipeline = pipeline
        self._recovery = recovery
        self._clock = clock
        self._tokens = dict.fromkeys(pipeline.streams, float(self._a_minute))
        self._counted_at = clock()

    def channels_of(self, stream: str, device: str) -> tuple[str, ...] | None:
        """Return the channels known of a device; None: it was never heard of."""
        found = self._pipeline.streams[stream]
        if device in found.devices.slot_of or self._recovery().fetch(stream, device):
            return found.channels_of(device)
        return None

    def refusal(self, stream: str, joining: int) -> str | None:
        """Return why a stream can have no further device now; None: it gets one.

        Args:
            stream: Its name.
            joining: Devices that got a place before, but are not in memory yet.
        """
        in_memory, on_disk = len(self._pipeline.streams[stream].devices), self._recovery().evicted[stream]
        if in_memory + joining >= self._in_memory:
            return f"the stream has {self._in_memory} devices already (max_devices)"
        if on_disk >= ON_DISK * self._in_memory:
            return f"the stream has {ON_DISK * self._in_memory} devices on disk already (20 x max_devices)"
        now = self._clock()
        earned = (now - self._counted_at) * self._a_minute / MINUTE
        self._counted_at = now
        for name, tokens in self._tokens.items():
            self._tokens[name] = min(float(self._a_minute), tokens + earned)
        if self._tokens[stream] < 1.0:
            return (
                f"more than {self._a_minute} new devices a minute (new_devices_per_minute);"
                " known ones are not affected"
            )
        self._tokens[stream] -= 1.0
        return None
