"""Where decoded readings are collected: lists that become the columns of one batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stream_detector.core.records import NO_SEQ, Readings
from stream_detector.formats.names import name_error
from stream_detector.formats.refusals import RefusedError, short

if TYPE_CHECKING:
    from stream_detector.formats.routing import Route
    from stream_detector.formats.settings import IntakeSettings
    from stream_detector.formats.topic_states import TopicStates

OLDEST = 946_684_800_000_000
"""2000-01-01 UTC in µs: a clock that says less was never set."""
UNKNOWN = -1
MAX_SHAPES = 256
"""Different sets of channels that one device may send; a gateway sends a few."""
MAX_SETS = 200_000
"""Different sets of channels that one stream may send."""
FUTURE = 300_000_000
"""How far ahead of ours a device's clock may be, µs."""


@dataclass(slots=True)
class _Known:
    """A known device: its sets of channels, all its channels, the captures it came with."""

    shapes: set[int]
    channels: set[str]
    tags: dict[str, str]


class Admission(Protocol):
    """Who knows a stream's devices, and says whether there is room for another one."""

    def channels_of(self, stream: str, device: str) -> tuple[str, ...] | None:
        """Return the channels known of a device; None: it was never heard of."""

    def refusal(self, stream: str, joining: int) -> str | None:
        """Return why a stream can have no further device now, `joining` new ones of a batch; None: it can."""


@dataclass(slots=True)
class Columns:
    """The readings of one stream since the last batch.

    Attributes:
        settings: The stream's.
        stream: Its name.
        admission: Knows its devices.
        states: What its format remembers of topics.
        latest: Newest event time that is believed, µs; moves with the service clock.
    """

    settings: IntakeSettings
    stream: str
    admission: Admission
    states: TopicStates
    latest: int = 0
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    other_captures: set[str] = field(default_factory=set)
    _rows: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)
    _values: list[float] = field(default_factory=list)
    _shape_of: dict[tuple[str, ...], int] = field(default_factory=dict)
    _names: list[tuple[str, ...]] = field(default_factory=list)
    _known: dict[str, _Known] = field(default_factory=dict)
    _new: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of readings collected so far."""
        return len(self._rows)

    def device(self, route: Route, given: str | None) -> str:
        """Return which device a payload is about.

        Args:
            route: What the topic says.
            given: What the payload says.

        Raises:
            RefusedError: Neither names one, or they disagree.
        """
        if given is None:
            if route.device is None:
                raise RefusedError(
                    "device_missing", "neither the topic nor the payload names the device; add device_id"
                )
            return route.device
        if route.named is not None and given != route.named:
            raise RefusedError(
                "device_mismatch",
                f"the payload says device {short(given)}, the topic says {short(route.named)}",
            )
        return route.device or self.settings.device.format(**{**route.captures, "device": given})

    def add(
        self,
        device: str,
        route: Route,
        names: tuple[str, ...],
        values: tuple[float, ...] | list[float],
        ts: int,
        arrival: int,
        seq: int | None,
        index: int,
    ) -> None:
        """Add a checked reading.

        Raises:
            RefusedError: The device, a channel or the time is refused.
        """
        if not OLDEST < ts <= self.latest:
            raise RefusedError("time_bounds", _time_error(ts, self.latest))
        known = self._known.get(device)
        shape = self._shape_of.get(names, UNKNOWN)
        if known is None or shape not in known.shapes or known.tags is not route.tags:
            shape = self._check_new(device, route, names, known)
        self._rows.append((device, shape, ts, arrival, NO_SEQ if seq is None else seq, index))
        self._values.extend(values)

    def forget(self, device: str) -> None:
        """Let go of what is known of a device; its next reading asks admission anew."""
        self._known.pop(device, None)

    def untimed(self, since: int) -> bool:
        """Return whether one of the readings from number `since` on came without a time of its own."""
        return any(ts == arrival + index for _, _, ts, arrival, _, index in self._rows[since:])

    def drop(self, since: int) -> int:
        """Take back the readings from number `since` on, and devices new by them; return how many."""
        while self._new and self._new[-1][0] >= since:
            _, device = self._new.pop()
            self._known.pop(device, None)
            self.tags.pop(device, None)
        dropped = self._rows[since:]
        del self._rows[since:]
        values = sum(len(self._names[shape]) for _, shape, *_ in dropped)
        if values:
            del self._values[-values:]
        return len(dropped)

    def take(self) -> Readings | None:
        """Return what was collected as a batch, None where there is nothing; start anew."""
        self._new.clear()
        if not self._rows:
            return None
        devices, shapes, ts, arrival, seq, index = zip(*self._rows, strict=True)
        place = {shape: k for k, shape in enumerate(sorted(set(shapes)))}
        batch = Readings(
            stream=self.stream,
            devices=list(devices),
            columns=tuple(self._names[shape] for shape in place),
            shapes=np.array([place[shape] for shape in shapes], dtype=np.int32),
            values=np.array(self._values, dtype=np.float64),
            ts=np.array(ts, dtype=np.int64),
            arrival=np.array(arrival, dtype=np.int64),
            seq=np.array(seq, dtype=np.int64),
            index=np.array(index, dtype=np.int32),
            tags=self.tags,
        )
        self._rows, self._values, self.tags = [], [], {}
        return batch

    def _check_new(self, device: str, route: Route, names: tuple[str, ...], known: _Known | None) -> int:
        """Check what is new about a device: its name, its captures, its channels; return their number.

        Nothing is remembered of what is refused, so that one device cannot use up everybody's room.
        """
        new = False
        if known is None:
            error = name_error(device)
            if error:
                raise RefusedError("device_name", f"{short(device)} cannot be a device: {error}")
            before = self.admission.channels_of(self.stream, device)
            new = before is None
            known = _Known(set(), set(before or ()), route.tags)
        elif known.tags != route.tags:
            self.other_captures.add(device)
        channels = known.channels.union(names)
        if not self.settings.channels and len(channels) > self.settings.max_channels:
            raise RefusedError(
                "channel_limit",
                f"device {short(device)} would have {len(channels)} channels, more than the"
                f" {self.settings.max_channels} of max_channels; list the wanted ones under channels",
            )
        shape = self._shape(names, known)
        if new:
            refusal = self.admission.refusal(self.stream, len(self._new))
            if refusal:
                raise RefusedError("device_limit", refusal)
            self._new.append((len(self._rows), device))
            if route.tags:
                self.tags[device] = route.tags
        self._known[device] = known
        known.shapes.add(shape)
        known.channels, known.tags = channels, route.tags
        return shape

    def _shape(self, names: tuple[str, ...], known: _Known) -> int:
        """Return the number of a set of channels; a new set gets one."""
        found = self._shape_of.get(names)
        if found is None:
            for name in names:
                error = name_error(name)
                if error:
                    raise RefusedError("channel_name", f"{short(name)} cannot be a channel: {error}")
            if len(known.shapes) >= MAX_SHAPES or len(self._names) >= MAX_SETS:
                raise RefusedError(
                    "channel_limit",
                    "the device sends ever other sets of channels, or in ever another order; list the wanted"
                    " ones under channels",
                )
            found = self._shape_of[names] = len(self._names)
            self._names.append(names)
        return found


def _time_error(ts: int, latest: int) -> str:
    if ts <= OLDEST:
        return "the reading's time is before the year 2000; set the device's clock, or send no ts"
    ahead = (ts - latest + FUTURE) / 1e6
    return f"the reading's time is {ahead:.0f} s ahead of the service's clock; set the device's clock"
