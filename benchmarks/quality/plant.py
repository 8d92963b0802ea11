"""The simulated plant: families of six devices each, with known faults, played through the product.

The first 30 % of a series are for learning and are not judged. The same seed gives the same readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.quality.courses import DAY_S
from benchmarks.quality.faults import inject
from benchmarks.quality.judge import Fault, Judgement, Watched, judge
from benchmarks.quality.machines import MACHINES
from benchmarks.quality.places import PLACES
from benchmarks.quality.product import Played, play, recording_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.quality.courses import Course
    from benchmarks.quality.machines import Family
    from stream_detector.sources.recordings import Recording

FAMILIES: dict[str, Family] = {**MACHINES, **PLACES}
START = 1_772_409_600
"""Monday, 2026-03-02, 00:00 UTC."""
DEVICES = 6
LEARNING = 0.3
FIRST = 0.32
"""Share of the series before the first fault."""
SILENT = 60
"""Readings that do not come."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A family's recording with the truth about it.

    Attributes:
        recording: All six devices.
        rows: Where a device's rows are in it.
        watched: For the judge.
    """

    recording: Recording
    rows: dict[str, NDArray[np.int64]]
    watched: Watched


def make(name: str, seed: int) -> Plant:
    """Make a family's recording.

    Args:
        name: A key of `FAMILIES`.
        seed: Of all chance in it.
    """
    family = FAMILIES[name]
    n = int(family.days * DAY_S / family.interval)
    t = np.arange(n) * float(family.interval)
    devices, faults = {}, []
    for number in range(DEVICES):
        rng = np.random.default_rng([seed, number, *name.encode()])
        healthy = {channel: np.asarray(x, dtype=float) for channel, x in family.make(rng, t).items()}
        values = {channel: x.copy() for channel, x in healthy.items()}
        plan = family.plans[number] if number < len(family.plans) else ()
        device, there = f"{name}-{number + 1}", np.ones(n, dtype=np.bool_)
        for kind, channel, first, last in _put(rng, values, healthy, plan, there):
            faults.append(Fault(device, kind, channel, START + t[first], START + t[last]))
        for channel, x in values.items():
            np.round(x, family.decimals[channel], out=x)
        phase = rng.uniform(0, family.interval / 2)
        ts = ((START + t + phase) * 1e6).astype(np.int64)
        devices[device] = ts[there], {channel: x[there] for channel, x in values.items()}
    recording, rows = recording_of(devices)
    weeks = DEVICES * family.days * (1 - LEARNING) / 7
    return Plant(
        recording, rows, Watched(faults, family.interval, START + LEARNING * n * family.interval, weeks)
    )


def _put(
    rng: np.random.Generator,
    values: dict[str, Course],
    healthy: dict[str, Course],
    plan: tuple[tuple[str, str], ...],
    there: NDArray[np.bool_],
) -> list[tuple[str, str, int, int]]:
    """Put a device's faults in, evenly over the time after learning; return kind, channel, first, last row.

    A shift comes twice, the second time with the very values of the first.
    """
    n = len(there)
    planned = [each for fault in plan for each in ([fault] * 2 if fault[0] == "shift" else [fault])]
    room = (n - int((FIRST + 0.02) * n)) // max(1, len(planned))
    done: list[tuple[str, str, int, int]] = []
    for k, (kind, channel) in enumerate(planned):
        at = int(FIRST * n) + k * room + int(rng.integers(0, max(1, room // 8)))
        before = done[-1] if done else None
        if kind == "silence":
            last = at + SILENT - 1
            there[at : last + 1] = False
        elif kind == "shift" and before is not None and before[:2] == (kind, channel):
            last = at + before[3] - before[2]
            values[channel][at : last + 1] = values[channel][before[2] : before[3] + 1]
        else:
            last = inject(rng, values[channel], healthy[channel], kind, at)
        done.append((kind, channel, at, last))
    return done


def run(name: str, seed: int) -> tuple[Judgement, Plant, Played]:
    """Make a family, play it and judge it."""
    plant = make(name, seed)
    played = play(plant.recording)
    return judge(name, plant.watched, played.alerts), plant, played
