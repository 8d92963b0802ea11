"""Families of devices, first part: machines. What each measures, and what will be wrong with three of six.

A family is a function (rng, t) -> values by channel; t in s since a Monday's midnight, (n,). The figures
are those of ordinary machines of that kind, chosen by us; none was changed for the sake of a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.quality.courses import bump, follow, hour, pulses, turns, wander, workday

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.quality.courses import Course

    Make = Callable[[np.random.Generator, Course], Mapping[str, Course]]


@dataclass(frozen=True, slots=True)
class Family:
    """Six devices of one kind, three of them never at fault.

    Attributes:
        make: The healthy course.
        interval: Between two readings, s.
        days: How long it is watched.
        plans: What goes wrong with the others, one after the other: (kind, channel), for each of them.
        decimals: What the sensor tells of each channel.
    """

    make: Make
    interval: int
    days: int
    plans: tuple[tuple[tuple[str, str], ...], ...]
    decimals: Mapping[str, int]


def compressor(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a screw compressor that loads below 6.8 bar and unloads above 7.6; demand by working hours."""
    n = len(t)
    demand = 0.25 + 0.35 * (workday(t) & (hour(t) > 6) & (hour(t) < 20)) + wander(rng, n, 30, 0.05)
    bar, loaded = 7.2, True
    pressure, load = np.empty(n), np.empty(n)
    for i, used in enumerate(demand.tolist()):
        bar += (0.16 if loaded else 0.0) - 0.16 * max(0.05, used)
        loaded = bar < (7.6 if loaded else 6.8)
        pressure[i], load[i] = bar, loaded
    return {
        "pressure": pressure + rng.normal(0, 0.015, n),
        "current": np.where(load > 0, 62.0, 24.0) * (1 + rng.normal(0, 0.012, n)),
        "oil_temperature": 58 + 24 * follow(load, 45) + rng.normal(0, 0.25, n),
    }


def moulding(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return an injection moulding machine, the shots of a minute at once; three moulds in turn."""
    n = len(t)
    mould = turns(rng, n, 480, 3)
    return {
        "peak_pressure": 780 + 85 * mould + wander(rng, n, 25, 3) + rng.normal(0, 2.5, n),
        "cycle_time": 31 + 4.5 * mould + np.abs(rng.normal(0, 0.12, n)),
        "melt_temperature": 228 + 3 * mould + wander(rng, n, 12, 0.6) + rng.normal(0, 0.2, n),
    }


def chiller(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a chiller of an office: the load follows sun and people, the water is kept at 7 °C."""
    n = len(t)
    outside = 21 + 6 * np.sin(2 * np.pi * (hour(t) - 9) / 24) + wander(rng, n, 400, 2)
    load = np.clip((outside - 14) / 22 + 0.25 * bump(t, 14, 4) * workday(t), 0.05, 1) + wander(
        rng, n, 8, 0.02
    )
    return {
        "supply_temperature": 7 + 0.5 * load + wander(rng, n, 4, 0.12) + rng.normal(0, 0.04, n),
        "return_temperature": 7.4 + 6 * follow(load, 3) + rng.normal(0, 0.06, n),
        "power": 12 + 150 * load * (1 + 0.006 * (outside - 20)) + rng.normal(0, 1.2, n),
    }


def servers(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a server room: the fans have steps with some play between them."""
    n = len(t)
    load = 0.45 + 0.3 * bump(t, 15, 5) + wander(rng, n, 60, 0.06)
    warmth = 21 + 7 * follow(load, 20) + wander(rng, n, 10, 0.15)
    steps, step = np.empty(n), 2
    for i, degrees in enumerate(warmth.tolist()):
        wanted = (degrees - 21) / 1.2
        if abs(wanted - step) > 0.8:
            step = min(6, max(0, round(wanted)))
        steps[i] = step
    return {
        "inlet_temperature": warmth - 0.25 * follow(steps, 5) + rng.normal(0, 0.06, n),
        "fan_speed": 1800 + 900 * steps + rng.normal(0, 9, n),
        "power": 6.5 + 14 * load + 0.08 * steps**2 + rng.normal(0, 0.12, n),
    }


def turbine(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a wind turbine of 2 MW; the wind's gusts have a heavy tail."""
    n = len(t)
    wind = 7.5 * np.exp(wander(rng, n, 60, 0.38)) * np.exp(np.clip(rng.standard_t(4, n), -6, 12) * 0.05)
    wind = np.clip(wind, 0.2, 32)
    power = np.where(wind < 3, 0.0, np.minimum(2000, 2000 * ((wind - 2.6) / 9.8) ** 3))
    power = np.where(wind > 25, 0.0, power)
    return {
        "wind_speed": wind + rng.normal(0, 0.1, n),
        "power": power * (1 + rng.normal(0, 0.02, n)) + rng.normal(-2, 1, n),
        "rotor_speed": np.where(power > 0, 7 + 9 * np.minimum(1, wind / 11), 0.4)
        + np.abs(rng.normal(0, 0.12, n)),
        "bearing_temperature": 34 + 24 * follow(power / 2000, 8) + rng.normal(0, 0.3, n),
    }


def three_phases(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a building's supply: three currents that move together, and a voltage that sags with them."""
    n = len(t)
    common = 38 + 60 * bump(t, 12, 4.5) * np.where(workday(t), 1, 0.35) + wander(rng, n, 25, 4)
    each = {
        f"current_{k}": common * share + wander(rng, n, 6, 1.2)
        for k, share in ((1, 1.0), (2, 0.93), (3, 1.06))
    }
    return {**each, "voltage": 232 - 0.045 * common + wander(rng, n, 90, 0.9) + rng.normal(0, 0.2, n)}


def vessel(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a pressure vessel: heat, hold, react, cool, wait; each batch takes about three hours."""
    n, length = len(t), 180
    shape_t = np.interp(np.arange(length), [0, 40, 75, 120, 165, 179], [0, 55, 55, 72, 4, 0])
    shape_p = np.interp(np.arange(length), [0, 40, 75, 110, 150, 179], [0, 1.6, 1.8, 4.4, 0.3, 0])
    starts = np.cumsum(rng.integers(225, 265, n // 225 + 1)) - 200
    starts = starts[(starts > 0) & (starts < n)]
    same = int(rng.integers(2**31))  # the two courses of a batch have one length
    return {
        "temperature": 22 + pulses(np.random.default_rng(same), starts, n, shape_t) + wander(rng, n, 15, 0.4),
        "pressure": 1.01 + pulses(np.random.default_rng(same), starts, n, shape_p) + rng.normal(0, 0.02, n),
    }


def conveyor(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a belt with breaks at set hours; its vibration has a heavy tail."""
    n = len(t)
    runs = (hour(t) > 5.5) & (hour(t) < 22) & ~((hour(t) > 11.5) & (hour(t) < 12.1))
    speed = follow(np.where(runs, 1.4, 0.0), 3)
    load = np.maximum(0, 0.6 + wander(rng, n, 20, 0.18)) * speed
    return {
        "speed": np.maximum(0, speed + rng.normal(0, 0.008, n)),
        "current": 1.1 + 7 * speed + 5 * load + rng.normal(0, 0.1, n),
        "vibration": 0.12 + speed * 0.9 * rng.lognormal(0, 0.28, n) + np.abs(rng.normal(0, 0.01, n)),
    }


MACHINES = {
    "compressor": Family(
        compressor,
        60,
        7,
        (
            (("spike", "pressure"), ("shift", "oil_temperature"), ("rhythm", "pressure")),
            (("stuck", "oil_temperature"), ("silence", ""), ("drift", "oil_temperature")),
            (
                ("garbage", "pressure"),
                ("shift", "pressure"),
                ("noise", "pressure"),
                ("normal", "oil_temperature"),
            ),
        ),
        {"pressure": 3, "current": 1, "oil_temperature": 1},
    ),
    "moulding": Family(
        moulding,
        60,
        7,
        (
            (("drift", "peak_pressure"), ("spike", "cycle_time")),
            (("shift", "melt_temperature"), ("noise", "melt_temperature"), ("silence", "")),
            (("garbage", "cycle_time"), ("shift", "cycle_time"), ("normal", "melt_temperature")),
        ),
        {"peak_pressure": 1, "cycle_time": 2, "melt_temperature": 2},
    ),
    "chiller": Family(
        chiller,
        300,
        28,
        (
            (("shift", "return_temperature"), ("relation", "power"), ("spike", "supply_temperature")),
            (("drift", "supply_temperature"), ("silence", ""), ("context", "power")),
            (("garbage", "power"), ("shift", "power"), ("stuck", "power")),
        ),
        {"supply_temperature": 2, "return_temperature": 2, "power": 1},
    ),
    "servers": Family(
        servers,
        60,
        7,
        (
            (("shift", "inlet_temperature"), ("relation", "power")),
            (("stuck", "power"), ("spike", "power"), ("silence", "")),
            (
                ("garbage", "fan_speed"),
                ("shift", "fan_speed"),
                ("drift", "inlet_temperature"),
                ("normal", "power"),
            ),
        ),
        {"inlet_temperature": 2, "fan_speed": 0, "power": 2},
    ),
    "turbine": Family(
        turbine,
        600,
        60,
        (
            (("drift", "bearing_temperature"), ("relation", "power")),
            (("stuck", "wind_speed"), ("silence", ""), ("spike", "bearing_temperature")),
            (("garbage", "wind_speed"), ("shift", "bearing_temperature"), ("relation", "rotor_speed")),
        ),
        {"wind_speed": 2, "power": 0, "rotor_speed": 2, "bearing_temperature": 1},
    ),
    "three_phases": Family(
        three_phases,
        60,
        7,
        (
            (("shift", "current_1"), ("relation", "current_2")),
            (("spike", "voltage"), ("silence", ""), ("drift", "current_3")),
            (("garbage", "voltage"), ("shift", "voltage"), ("stuck", "current_1"), ("normal", "voltage")),
        ),
        {"current_1": 2, "current_2": 2, "current_3": 2, "voltage": 1},
    ),
    "vessel": Family(
        vessel,
        60,
        10,
        (
            (("spike", "pressure"), ("rhythm", "temperature")),
            (("shift", "temperature"), ("silence", "")),
            (("garbage", "temperature"), ("drift", "pressure"), ("noise", "pressure")),
        ),
        {"temperature": 2, "pressure": 3},
    ),
    "conveyor": Family(
        conveyor,
        60,
        7,
        (
            (("shift", "current"), ("noise", "current")),
            (("silence", ""), ("context", "current"), ("spike", "current")),
            (("garbage", "vibration"), ("shift", "vibration"), ("normal", "current")),
        ),
        {"speed": 3, "current": 2, "vibration": 3},
    ),
}
