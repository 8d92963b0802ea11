"""A view of the fleet that other threads may read while the hot thread goes on.

It is a reader of the events: each device's state is one immutable value, replaced as a whole. Another
thread copies what is there; it may see two devices at slightly different moments, never half a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.core.events import DeviceForgotten, DeviceStateChanged

if TYPE_CHECKING:
    from stream_detector.core.events import ActiveAlert, Event
    from stream_detector.service.memory import Memory


class FleetView:
    """The newest published state of every device in memory, with its open alerts."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], DeviceStateChanged] = {}

    def begin(self, memory: Memory) -> None:
        """Take over the devices in memory; called by the hot thread."""
        self._states = {}
        for stream in memory.streams.values():
            for device in stream.devices.slot_of:
                self.add(stream.published_state(device))

    def add(self, state: DeviceStateChanged | None) -> None:
        """Take over a device that came back from disk; called by the hot thread."""
        if state is not None:
            self._states[state.stream, state.device] = state

    def forget(self, stream: str, device: str) -> None:
        """Leave out a device that is only on disk from now on; called by the hot thread."""
        self._states.pop((stream, device), None)

    def event(self, event: Event) -> None:
        """Read one event; called by the hot thread."""
        match event:
            case DeviceStateChanged():
                self.add(event)
            case DeviceForgotten():
                self.forget(event.stream, event.device)

    def device(self, stream: str, device: str) -> DeviceStateChanged | None:
        """Return the state of a device; None where none was published. Any thread may ask."""
        return self._states.get((stream, device))

    def devices(self) -> list[DeviceStateChanged]:
        """Return the states of all devices. Any thread may ask."""
        return list(self._states.values())  # one step of the interpreter, so no device is added meanwhile

    def open_alerts(self) -> list[tuple[DeviceStateChanged, ActiveAlert]]:
        """Return the open alerts, each with its device's state. Any thread may ask."""
        return [(state, alert) for state in self.devices() for alert in state.active]
