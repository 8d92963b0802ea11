"""A simulated plant: pumps, freezers and power meters that behave, and now and then do not.

Everything follows from a seed and a time: no clock, no socket, and no memory of what was asked
before, so that two runs agree and a test can look at any second. A device works in cycles of two
seconds, harder by day than by night; a day lasts five minutes. All its channels follow that load,
each with a slow wander and a noise of its own. The fleet starts at noon, when a cycle is at its
widest: a detector that learns each device sees in the first seconds all that is normal, and only
a fault goes far beyond that. The faults are a list that can be asked for: what was injected is
known, not guessed.
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

Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.int64]"

SITES = ("north", "south")
TOPIC = "plant/{site}/{kind}/{device}"
EPOCH_S = 1767225600.0
"""2026-01-01T00:00:00Z: where time 0 stands unless another start is given."""
FIRST_FAULT_S = 7.0
FAULT_EVERY_S = (5.0, 8.0)
FAULT_LASTS_S: Mapping[FaultKind, tuple[float, float]] = {
    "spike": (1.5, 2.5),
    "level_shift": (10.0, 20.0),
    "drift": (30.0, 45.0),
    "stuck": (20.0, 30.0),
    "silence": (20.0, 30.0),
}
JUMP_BANDS = (3.0, 4.0)
"""The size of a spike or level shift, in widths of the band that the healthy channel moves in."""
NIGHT = 0.5  # the load at midnight, as a share of that at noon
WANDER = 0.12  # how much of a channel's load a slow drift takes away at most
NOISE = 0.005  # standard deviation, as a share of the swing
CLIP_SIGMA = 3.0  # no heavy tails


@dataclass(frozen=True, slots=True)
class Channel:
    """How one channel of a kind of device behaves.

    Attributes:
        unit: What it is measured in.
        min: Only a fault goes below.
        max: Only a fault goes above.
        idle: Its value without load, of an average device.
        spread: How far a device's own idle value lies from that at most, as a share of it.
        swing: How far full load moves it, as a share of the idle value; negative: it falls.
        worse: The direction in which it fails, 1 or -1.
    """

    unit: str
    min: float
    max: float
    idle: float
    spread: float
    swing: float
    worse: int = 1


CHANNELS: Mapping[str, Mapping[str, Channel]] = {
    "pumps": {
        "vibration": Channel("mm/s", 0, 15, idle=2.4, spread=0.3, swing=0.5),
        "temperature": Channel("°C", 10, 90, idle=42.0, spread=0.1, swing=0.12),
        "flow": Channel("l/min", 10, 220, idle=110.0, spread=0.25, swing=0.15, worse=-1),
    },
    "freezers": {
        "temperature": Channel("°C", -35, 0, idle=-20.0, spread=0.1, swing=0.1),
        "humidity": Channel("%", 10, 100, idle=45.0, spread=0.15, swing=0.08),
    },
    "meters": {
        "power": Channel("W", 0, 10_000, idle=1000.0, spread=0.4, swing=0.8),
        "voltage": Channel("V", 207, 253, idle=231.0, spread=0.005, swing=-0.012, worse=-1),
        "current": Channel("A", 0, 45, idle=4.33, spread=0.4, swing=0.822),
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
        topic: Of a device's readings; {site}, {kind} and {device} are filled in.

    Attributes:
        devices: The devices, in the order in which they report.

    Example:
        >>> topic, payload = Fleet(seed=1).readings(t=0.0, seq=0)[0]
        >>> topic, payload["ts"], list(payload["values"])
        ('plant/north/pumps/pump-01', '2026-01-01T00:00:00.000Z', ['vibration', 'temperature', 'flow'])
    """

    def __init__(
        self,
        seed: int,
        devices: int = 24,
        day_s: float = 300.0,
        *,
        faults: bool | Iterable[Fault] = True,
        topic: str = TOPIC,
    ) -> None:
        self.devices = _devices(devices, topic)
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

    def healthy(self, t: float) -> Floats:
        """Return what all channels of all devices would show at `t` without a fault, (values,)."""
        # keyed by the millisecond, so that the noise needs no memory
        rng = np.random.Generator(np.random.Philox(key=[self._seed, round(t * 1000)]))
        noise = NOISE * rng.standard_normal(len(self._idle)).clip(-CLIP_SIGMA, CLIP_SIGMA)
        daylight = NIGHT + (1 - NIGHT) * _ups_and_downs(t / self._day_s + self._phase)
        cycle = _ups_and_downs(t / self._cycle_s)
        # the wander starts at its top too, so that it never adds to what the start has shown
        wander = 1 - WANDER * (1 - _ups_and_downs(t / self._wander_s).mean(axis=0))
        load = (daylight * cycle)[self._owner] * wander  # (values,), 0 .. 1
        values: Floats = self._idle + self._swing * (load + noise)
        return values

    def values(self, t: float) -> Floats:
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
        """Lay out all channels of all devices as columns, and give each device its own habits."""
        count = len(self.devices)
        columns = [
            (i, device.name, name, channel)
            for i, device in enumerate(self.devices)
            for name, channel in device.channels.items()
        ]
        self._columns = {(device, name): column for column, (_, device, name, _) in enumerate(columns)}
        self._owner: Ints = np.array([i for i, *_ in columns], dtype=np.int64)  # (values,) -> device
        # one number makes a device big or small, so that its power fits its current
        bigness = rng.uniform(-1, 1, count)[self._owner]
        spread = np.array([channel.spread for *_, channel in columns])
        swing = np.array([channel.swing for *_, channel in columns])
        self._idle: Floats = np.array([channel.idle for *_, channel in columns]) * (1 + spread * bigness)
        self._swing: Floats = np.abs(self._idle) * swing  # in the channel's unit
        self._phase: Floats = rng.uniform(-0.03, 0.03, count)  # the devices nearly agree on noon
        self._cycle_s: Floats = self._day_s / rng.uniform(130, 190, count)
        self._wander_s: Floats = self._day_s * rng.uniform(0.1, 0.7, (2, len(columns)))

    def _draw_faults(self, rng: np.random.Generator) -> Iterator[Fault]:
        """Draw faults without end, ordered by start, at most one at a time on a device."""
        order = rng.permutation(len(self.devices)).tolist()
        free_at = dict.fromkeys(order, 0.0)
        suffered = dict.fromkeys(order, 0)
        start = FIRST_FAULT_S
        for kind in _draw_kinds(rng):
            # one of those that have rested longest, so that a device has time to calm down
            rested = sorted(order, key=free_at.__getitem__)[: (len(order) + 1) // 2]
            i = rested[rng.integers(len(rested))]
            start = max(start, free_at[i])
            # its channels take turns: a fault that was seen before is no news
            fault = self._draw_fault(rng, self.devices[i], i + suffered[i], kind, start)
            free_at[i] = fault.stop_s
            suffered[i] += 1
            yield fault
            start += rng.uniform(*FAULT_EVERY_S)

    def _draw_fault(
        self, rng: np.random.Generator, device: Device, turn: int, kind: FaultKind, start_s: float
    ) -> Fault:
        name = list(device.channels)[turn % len(device.channels)]
        channel = device.channels[name]
        column = self._columns[device.name, name]
        band = abs(float(self._swing[column])) * (1 + 2 * CLIP_SIGMA * NOISE)
        size = 0.0
        if kind in {"spike", "level_shift"}:
            size = channel.worse * band * rng.uniform(*JUMP_BANDS)
        elif kind == "drift":
            limit = channel.max if channel.worse > 0 else channel.min
            # a tenth more than the way out, from wherever in its band it starts
            size = channel.worse * (1.1 * abs(limit - float(self._idle[column])) + 2 * band)
        return Fault(
            device=device.name,
            kind=kind,
            channel=None if kind == "silence" else name,
            start_s=round(start_s, 3),
            stop_s=round(start_s + rng.uniform(*FAULT_LASTS_S[kind]), 3),
            size=size,
        )


def _ups_and_downs(turns: Floats) -> Floats:
    """Return a wave between 0 and 1 that is at its top at every whole turn."""
    wave: Floats = 0.5 + 0.5 * np.cos(2 * math.pi * turns)
    return wave


def _start(fault: Fault) -> float:
    return fault.start_s


def _devices(count: int, template: str) -> tuple[Device, ...]:
    devices = []
    first = 0
    for i in range(count):
        round_, which = divmod(i, len(CHANNELS))
        kind = list(CHANNELS)[which]
        name = f"{kind.removesuffix('s')}-{round_ + 1:02d}"
        topic = template.format(site=SITES[round_ % len(SITES)], kind=kind, device=name)
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
