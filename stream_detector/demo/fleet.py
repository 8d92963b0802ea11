"""A simulated plant: pumps, freezers and power meters that behave, and now and then do not.

Everything follows from a seed and a time: no clock, no socket, and no memory of what was asked
before, so that two runs agree and a test can look at any second. A device's channels share a load
(a day of five minutes, a slow wander, a quick jitter) and add noise of their own; all of it is
bounded, so that only a fault can leave a channel's limits. The faults are a list that can be asked
for: what was injected is known, not guessed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

FaultKind: TypeAlias = Literal["spike", "level_shift", "drift", "stuck", "silence"]

SITES = ("north", "south")
EPOCH_S = 1767225600.0
"""2026-01-01T00:00:00Z: where time 0 stands unless told otherwise."""
FIRST_FAULT_S = 7.0
FAULT_EVERY_S = (5.0, 8.0)
FAULT_LASTS_S: Mapping[FaultKind, tuple[float, float]] = {
    "spike": (1.5, 2.5),
    "level_shift": (10.0, 20.0),
    "drift": (30.0, 45.0),
    "stuck": (20.0, 30.0),
    "silence": (20.0, 30.0),
}
JUMP_RANGES = (3.0, 4.0)
"""The size of a spike or level shift, in widths of the band that the healthy channel moves in."""
CLIP_SIGMA = 3.0


@dataclass(frozen=True, slots=True)
class Channel:
    """How one channel of a kind of device behaves.

    Attributes:
        unit: What it is measured in.
        min: Only a fault goes below.
        max: Only a fault goes above.
        level: The mean over a day of an average device.
        spread: How far a device's own level lies from `level` at most, as a share of it.
        swing: How far full load moves it, as a share of the level; negative: it falls under load.
        noise: Standard deviation of its own noise, as a share of the level.
        worse: The direction in which it fails, 1 or -1.
    """

    unit: str
    min: float
    max: float
    level: float
    spread: float
    swing: float
    noise: float
    worse: int = 1


CHANNELS: Mapping[str, Mapping[str, Channel]] = {
    "pumps": {
        "vibration": Channel("mm/s", 0, 15, level=3.0, spread=0.3, swing=0.25, noise=0.03),
        "temperature": Channel("°C", 10, 90, level=45.0, spread=0.1, swing=0.08, noise=0.005),
        "flow": Channel("l/min", 10, 220, level=120.0, spread=0.25, swing=-0.08, noise=0.01, worse=-1),
    },
    "freezers": {
        "temperature": Channel("°C", -35, 0, level=-20.0, spread=0.1, swing=0.06, noise=0.007),
        "humidity": Channel("%", 10, 100, level=45.0, spread=0.15, swing=0.05, noise=0.007),
    },
    "meters": {
        "power": Channel("W", 0, 10_000, level=1500.0, spread=0.4, swing=0.35, noise=0.01),
        "voltage": Channel("V", 207, 253, level=230.0, spread=0.01, swing=-0.007, noise=0.001, worse=-1),
        "current": Channel("A", 0, 45, level=6.5, spread=0.4, swing=0.36, noise=0.01),
    },
}
"""The kinds of devices, by the name of their stream."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong on one device for a while.

    Attributes:
        device: Name of the device.
        kind: A spike jumps by `size` and falls back in a straight line, a level shift jumps and
            stays, a drift grows to `size`, a stuck channel repeats one value, silence sends nothing.
        channel: Name of the channel; None: the whole device (silence).
        start_s: From, in seconds of the fleet's time.
        stop_s: To; the first healthy instant.
        size: In the channel's unit; 0 for stuck and silence.
    """

    device: str
    kind: FaultKind
    channel: str | None
    start_s: float
    stop_s: float
    size: float


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the fleet; `first` is where its channels begin among the fleet's values."""

    name: str
    topic: str
    channels: Mapping[str, Channel]
    first: int


def stream_settings() -> dict[str, dict[str, object]]:
    """Return the ``streams:`` section of a configuration that understands the whole fleet.

    Example:
        >>> stream_settings()["freezers"]["topic"]
        'plant/{site}/freezers/{device}'
    """
    return {
        kind: {
            "topic": f"plant/{{site}}/{kind}/{{device}}",
            "format": "json",
            "channels": {
                name: {"unit": channel.unit, "min": channel.min, "max": channel.max}
                for name, channel in channels.items()
            },
        }
        for kind, channels in CHANNELS.items()
    }


class Fleet:
    """Devices of all kinds on two sites, and the faults they suffer.

    Args:
        seed: Decides everything; not negative.
        devices: How many; the kinds take turns.
        day_s: Length of a day in seconds.
        faults: True: the schedule that follows from the seed; False: none; else these.

    Attributes:
        devices: The devices, in the order in which they report.

    Example:
        >>> topic, payload = Fleet(seed=1).readings(t=0.0, seq=0)[0]
        >>> topic, payload["ts"], list(payload["values"])
        ('plant/north/pumps/pump-01', '2026-01-01T00:00:00.000Z', ['vibration', 'temperature', 'flow'])
    """

    def __init__(
        self, seed: int, devices: int = 24, day_s: float = 300.0, *, faults: bool | Iterable[Fault] = True
    ) -> None:
        self.devices = _devices(devices)
        self._seed = seed
        self._day_s = day_s
        self._draw_devices(np.random.default_rng(seed))
        self._drawn: list[Fault] = []
        self._to_draw: Iterator[Fault] = iter(())
        if faults is True:
            self._to_draw = self._draw_faults(np.random.default_rng([seed, 1]))
        elif faults is not False:
            self._drawn = sorted(faults, key=_start)
        # how far back a fault that is still going on can have started
        self._longest_s = max(
            (fault.stop_s - fault.start_s for fault in self._drawn),
            default=max(longest for _, longest in FAULT_LASTS_S.values()),
        )

    def schedule(self, stop_s: float) -> list[Fault]:
        """Return the faults that start up to `stop_s`, in order."""
        # one fault is drawn ahead: it tells that all before it are there
        while not self._drawn or self._drawn[-1].start_s <= stop_s:
            fault = next(self._to_draw, None)
            if fault is None:
                break
            self._drawn.append(fault)
        return self._drawn[: bisect_right(self._drawn, stop_s, key=_start)]

    def active(self, t: float) -> list[Fault]:
        """Return the faults that are going on at `t`."""
        started = self.schedule(t)
        recent = started[bisect_right(started, t - self._longest_s, key=_start) :]
        return [fault for fault in recent if t < fault.stop_s]

    def healthy(self, t: float) -> NDArray[np.float64]:
        """Return what all channels of all devices would show at `t` without a fault, (values,)."""
        # the noise is keyed by the millisecond, so that it needs no memory
        rng = np.random.Generator(np.random.Philox(key=[self._seed, round(t * 1000)]))
        noise = rng.standard_normal(len(self._level) + len(self.devices))
        noise.clip(-CLIP_SIGMA, CLIP_SIGMA, out=noise)
        own, jitter = noise[: len(self._level)], noise[len(self._level) :]

        hour = 2 * math.pi * (t / self._day_s + self._phase)  # (devices,)
        common = 0.55 * np.sin(hour) + 0.15 * np.sin(2 * hour) + 0.1 / CLIP_SIGMA * jitter
        wander = np.sin(self._wander_speed * t + self._wander_phase).mean(axis=0)  # (values,)
        load: NDArray[np.float64] = common[self._owner] + 0.2 * wander  # within -1 .. 1
        return self._level + np.abs(self._level) * (self._swing * load + self._noise * own)

    def values(self, t: float) -> NDArray[np.float64]:
        """Return what all channels of all devices show at `t`, silent devices too, (values,)."""
        values = self.healthy(t)
        for fault in self.active(t):
            if fault.channel is None:
                continue
            column = self._columns[fault.device, fault.channel]
            age = (t - fault.start_s) / (fault.stop_s - fault.start_s)
            if fault.kind == "stuck":
                values[column] = self.healthy(fault.start_s)[column]
            elif fault.kind == "spike":
                values[column] += fault.size * (1 - age)
            elif fault.kind == "drift":
                values[column] += fault.size * age
            else:
                values[column] += fault.size
        return values.round(3)

    def readings(self, t: float, seq: int, epoch_s: float = EPOCH_S) -> list[tuple[str, dict[str, object]]]:
        """Return topic and payload of every device that reports at `t`.

        Args:
            t: Seconds since the fleet started.
            seq: The number that the readings bear; a silent device's numbers go on meanwhile.
            epoch_s: Where time 0 stands, in seconds since 1970 UTC.
        """
        ts = datetime.fromtimestamp(epoch_s + t, UTC).isoformat(timespec="milliseconds")
        ts = ts.replace("+00:00", "Z")
        silent = {fault.device for fault in self.active(t) if fault.kind == "silence"}
        values = self.values(t).tolist()
        return [
            (
                device.topic,
                {
                    "ts": ts,
                    "seq": seq,
                    "values": dict(zip(device.channels, values[device.first :], strict=False)),
                },
            )
            for device in self.devices
            if device.name not in silent
        ]

    def _draw_devices(self, rng: np.random.Generator) -> None:
        """Lay out all channels of all devices as columns, each with its own level and wander."""
        count = len(self.devices)
        owners = [
            (i, channel) for i, device in enumerate(self.devices) for channel in device.channels.values()
        ]
        self._columns = {
            (device.name, name): device.first + i
            for device in self.devices
            for i, name in enumerate(device.channels)
        }
        self._owner: NDArray[np.int64] = np.array([i for i, _ in owners])  # (values,) -> device
        # one number makes a device big or small, so that its power fits its current
        bigness = rng.uniform(-1, 1, count)[self._owner]
        spread = np.array([channel.spread for _, channel in owners])
        self._level: NDArray[np.float64] = np.array([channel.level for _, channel in owners]) * (
            1 + spread * bigness
        )
        self._swing: NDArray[np.float64] = np.array([channel.swing for _, channel in owners])
        self._noise: NDArray[np.float64] = np.array([channel.noise for _, channel in owners])
        self._phase = rng.uniform(-0.05, 0.05, count)  # of a day: the devices nearly agree on the hour
        two = (2, len(owners))
        self._wander_speed = 2 * math.pi / (self._day_s * rng.uniform(0.2, 0.7, two))  # (2, values)
        self._wander_phase = rng.uniform(0, 2 * math.pi, two)

    def _draw_faults(self, rng: np.random.Generator) -> Iterator[Fault]:
        """Draw faults without end, ordered by start, at most one at a time on a device."""
        order = rng.permutation(len(self.devices)).tolist()
        free_at = dict.fromkeys(order, 0.0)
        start = FIRST_FAULT_S
        for kind in _draw_kinds(rng):
            # one of those that have rested longest, so that a device has time to calm down
            rested = sorted(order, key=free_at.__getitem__)[: (len(order) + 1) // 2]
            i = rested[rng.integers(len(rested))]
            start = max(start, free_at[i])
            fault = self._draw_fault(rng, self.devices[i], kind, start)
            free_at[i] = fault.stop_s
            yield fault
            start += rng.uniform(*FAULT_EVERY_S)

    def _draw_fault(self, rng: np.random.Generator, device: Device, kind: FaultKind, start_s: float) -> Fault:
        name = list(device.channels)[rng.integers(len(device.channels))]
        channel = device.channels[name]
        level = float(self._level[self._columns[device.name, name]])
        band = abs(level) * 2 * (abs(channel.swing) + CLIP_SIGMA * channel.noise)
        size = 0.0
        if kind in {"spike", "level_shift"}:
            size = channel.worse * band * rng.uniform(*JUMP_RANGES)
        elif kind == "drift":
            limit = channel.max if channel.worse > 0 else channel.min
            # a tenth more than the way out, from wherever in its band it starts
            size = channel.worse * (1.1 * abs(limit - level) + band)
        return Fault(
            device=device.name,
            kind=kind,
            channel=None if kind == "silence" else name,
            start_s=round(start_s, 3),
            stop_s=round(start_s + rng.uniform(*FAULT_LASTS_S[kind]), 3),
            size=size,
        )


def _start(fault: Fault) -> float:
    return fault.start_s


def _devices(count: int) -> tuple[Device, ...]:
    devices = []
    first = 0
    for i in range(count):
        round_, which = divmod(i, len(CHANNELS))
        kind = list(CHANNELS)[which]
        name = f"{kind.removesuffix('s')}-{round_ + 1:02d}"
        topic = f"plant/{SITES[round_ % len(SITES)]}/{kind}/{name}"
        devices.append(Device(name, topic, CHANNELS[kind], first))
        first += len(CHANNELS[kind])
    return tuple(devices)


def _draw_kinds(rng: np.random.Generator) -> Iterator[FaultKind]:
    """Draw kinds without end: all five in every five, and first one that shows at once."""
    kinds: list[FaultKind] = list(FAULT_LASTS_S)
    jump = kinds[rng.integers(2)]
    yield jump
    rest = [kind for kind in kinds if kind != jump]
    yield from (rest[i] for i in rng.permutation(len(rest)))
    while True:
        yield from (kinds[i] for i in rng.permutation(len(kinds)))
