"""Admission: how many devices a stream has, in memory and on disk, and how fast there may be more.

A fleet grows slowly; what grows fast is somebody inventing names. So there is a limit on new devices a
minute, one on devices in memory, and one on devices altogether; a known device is never refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.service.memory import Memory

MINUTE = 60_000_000
ON_DISK = 20
"""Devices on disk for each that may be in memory."""


class OnDisk(Protocol):
    """What admission asks for the devices that are only on disk."""

    @property
    def evicted(self) -> Mapping[str, int]:
        """Return how many devices of each stream are only on disk."""

    def fetch(self, stream: str, device: str) -> bool:
        """Bring a device back into memory; return whether it was on disk."""


class NothingOnDisk:
    """Stands for a disk that keeps no device.

    Args:
        streams: Names of the streams.
    """

    def __init__(self, streams: Mapping[str, object]) -> None:
        self.evicted: Mapping[str, int] = dict.fromkeys(streams, 0)

    def fetch(self, stream: str, device: str) -> bool:
        """Bring nothing back."""
        del stream, device
        return False


class Admission:
    """Decides whether a device may join.

    Args:
        memory: The devices in memory.
        on_disk: Those that are only on disk.
        clock: Service clock, µs.
        max_devices: Devices of a stream in memory.
        new_a_minute: New devices of a stream a minute.
    """

    def __init__(
        self,
        memory: Memory,
        on_disk: OnDisk,
        clock: Callable[[], int],
        *,
        max_devices: int,
        new_a_minute: int,
    ) -> None:
        self._memory = memory
        self._on_disk = on_disk
        self._clock = clock
        self._max_devices = max_devices
        self._new_a_minute = new_a_minute
        self._tokens = dict.fromkeys(memory.streams, float(new_a_minute))
        self._counted_at = clock()

    def channels_of(self, stream: str, device: str) -> tuple[str, ...] | None:
        """Return the channels known of a device; None: it is not known."""
        if self._memory.known(stream, device) or self._on_disk.fetch(stream, device):
            return self._memory.streams[stream].channels_of(device)
        return None

    def refusal(self, stream: str, joining: int) -> str | None:
        """Return why a stream can have no further device now; None: it gets one.

        Args:
            stream: Its name.
            joining: Devices that were admitted before, but are not in memory yet.
        """
        in_memory, on_disk = len(self._memory.streams[stream].devices), self._on_disk.evicted[stream]
        if in_memory + joining >= self._max_devices:
            return f"the stream has {self._max_devices} devices already (max_devices)"
        if on_disk >= ON_DISK * self._max_devices:
            return f"the stream has {ON_DISK * self._max_devices} devices on disk already (20 x max_devices)"
        now = self._clock()
        earned = (now - self._counted_at) * self._new_a_minute / MINUTE
        self._counted_at = now
        for name, tokens in self._tokens.items():
            self._tokens[name] = min(float(self._new_a_minute), tokens + earned)
        if self._tokens[stream] < 1.0:
            return (
                f"more than {self._new_a_minute} new devices a minute (new_devices_per_minute);"
                " known ones are not affected"
            )
        self._tokens[stream] -= 1.0
        return None


class AdmitAll:
    """Admits every device, for runs that keep all devices in memory.

    Args:
        memory: The devices.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def channels_of(self, stream: str, device: str) -> tuple[str, ...] | None:
        """Return the channels known of a device; None: it is not known."""
        return self._memory.streams[stream].channels_of(device) or None

    def refusal(self, stream: str, joining: int) -> str | None:
        """Return why a stream can have no further device: never."""
        del stream, joining
        return None
