"""The published state of each device: warming up, ok, alerting or silent, with its open alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.core.events import SEVERITIES, STATES, ActiveAlert, DeviceStateChanged

if TYPE_CHECKING:
    from stream_detector.core.devices.registry import Devices
    from stream_detector.core.devices.snapshot import PublishedAlerts
    from stream_detector.core.events import Outcome

NEW = -1
WARMING_UP, OK, ALERTING, SILENT = range(len(STATES))


class DeviceStates:
    """Keeps the states of one stream's devices, and says where one changed.

    Args:
        stream: Its name.
        devices: Its devices; their `state` column is kept here.
    """

    def __init__(self, stream: str, devices: Devices) -> None:
        self._stream = stream
        self._devices = devices
        self._published: dict[int, PublishedAlerts] = {}

    def follow(
        self, slot: int, active: tuple[ActiveAlert, ...], at: int, score: float | None, outcome: Outcome
    ) -> None:
        """Take over a device's open alerts; where its state or they changed, that is an event.

        Args:
            slot: Of the device.
            active: Its open alerts.
            at: Event time, or service clock, µs.
            score: Of the reading that it comes from; None: of none.
            outcome: Gets the event.
        """
        table = self._devices.table
        before, state = int(table["state"][slot]), self._state(slot, active)
        if not self._take(slot, active) and state == before:
            return
        table["state"][slot] = state
        outcome.events.append(self._changed(slot, before, active, score, at))

    def take_over(self, slot: int, active: tuple[ActiveAlert, ...]) -> None:
        """Take over a device's open alerts without an event: they were published before."""
        self._devices.table["state"][slot] = self._state(slot, active)
        self._take(slot, active)

    def now(self, slot: int, active: tuple[ActiveAlert, ...]) -> DeviceStateChanged | None:
        """Return a device's state as it stands, without a score; None: it was never published."""
        state = int(self._devices.table["state"][slot])
        if state == NEW:
            return None
        newest = int(self._devices.table["newest"][slot])
        return self._changed(slot, state, active, None, newest)

    def published(self, slot: int) -> PublishedAlerts:
        """Return the open alerts of a device as they were last published."""
        return self._published.get(slot, ())

    def restore(self, slot: int, published: PublishedAlerts) -> None:
        """Take back what was last published of a device."""
        if published:
            self._published[slot] = published

    def forget(self, slot: int) -> None:
        """Drop what is known of a device."""
        self._published.pop(slot, None)

    def _state(self, slot: int, active: tuple[ActiveAlert, ...]) -> int:
        if any(alert.kind == "silence" for alert in active):
            return SILENT
        if active:
            return ALERTING
        return OK if self._devices.table["warm"][slot] else WARMING_UP

    def _take(self, slot: int, active: tuple[ActiveAlert, ...]) -> bool:
        """Note the open alerts as published; return whether that is news."""
        published = tuple((alert.id, alert.severity, alert.acknowledged) for alert in active)
        if published == self.published(slot):
            return False
        if published:
            self._published[slot] = published
        else:
            del self._published[slot]
        return True

    def _changed(
        self, slot: int, before: int, active: tuple[ActiveAlert, ...], score: float | None, at: int
    ) -> DeviceStateChanged:
        return DeviceStateChanged(
            stream=self._stream,
            device=self._devices.names[slot],
            tags=self._devices.tags.get(slot, {}),
            state=STATES[self._devices.table["state"][slot]],
            previous=None if before == NEW else STATES[before],
            severity=max((alert.severity for alert in active), key=SEVERITIES.index, default=None),
            score=score,
            active=active,
            updated_at=at,
        )
