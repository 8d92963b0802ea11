"""Families of devices, second part: houses, fields and towns. See `machines` for what a family is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.quality.courses import DAY_S, bump, follow, hour, pulses, wander, workday
from benchmarks.quality.machines import Family

if TYPE_CHECKING:
    from benchmarks.quality.courses import Course


def grow_house(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a lit grow house: 16 hours of light, air that dries as it warms."""
    n = len(t)
    light = follow(((hour(t) > 4) & (hour(t) < 20)).astype(float), 1.5)
    warmth = 19.5 + 5.5 * follow(light, 6) + wander(rng, n, 20, 0.3)
    return {
        "light": np.maximum(0, 410 * light * (1 + wander(rng, n, 5, 0.015)) + rng.normal(0, 0.8, n)),
        "temperature": warmth + rng.normal(0, 0.06, n),
        "humidity": np.clip(
            96 - 2.6 * (warmth - 15) + wander(rng, n, 15, 1.4) + rng.normal(0, 0.3, n), 20, 100
        ),
        "soil_moisture": 31
        + 7 * (1 - ((t + 3 * DAY_S / 4) % (2 * DAY_S)) / (2 * DAY_S))
        + rng.normal(0, 0.08, n),
    }


def charger(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a charger for cars: 3.7, 7.4 or 11 kW for some hours, then a taper; mostly nothing."""
    n, power, i = len(t), np.zeros(len(t)), 0
    busy = np.where(workday(t), bump(t, 8.5, 2) + bump(t, 17.5, 2.5), 0.6 * bump(t, 13, 4))
    while i < n:
        if rng.random() < 0.012 * busy[i]:
            kw, length = rng.choice([3.7, 7.4, 11.0]), int(rng.integers(45, 260))
            course = np.concatenate((np.full(length, kw), kw * np.exp(-np.arange(25) / 9)))
            stop = min(n, i + len(course))
            power[i:stop] = course[: stop - i] * (1 + rng.normal(0, 0.006, stop - i))
            i = stop
        i += 1
    return {
        "power": power + np.abs(rng.normal(0, 0.004, n)),
        "voltage": 231 - 0.3 * power + wander(rng, n, 60, 1.1) + rng.normal(0, 0.25, n),
    }


def washing(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a washing machine's plug: heating, turning, spinning, a program or two a day."""
    n = len(t)
    program = np.concatenate(
        (
            np.full(4, 90),
            np.full(22, 2050),
            np.tile([140, 60], 22),
            np.tile([320, 120], 5),
            np.full(9, 480),
            [60, 20],
        )
    ).astype(float)
    starts = np.flatnonzero(rng.random(n) < 0.003 * (bump(t, 10, 2.5) + bump(t, 19, 2)))
    starts = starts[np.concatenate(([True], np.diff(starts) > 2 * len(program)))] if len(starts) else starts
    power = pulses(rng, starts, n, program)
    return {"power": power * (1 + rng.normal(0, 0.03, n)) + 1.6 + np.abs(rng.normal(0, 0.05, n))}


def wastewater(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a sewer: two peaks a day, later on weekends, and rain that comes on top."""
    n = len(t)
    late = np.where(workday(t), 0.0, 1.5)
    day = 55 + 48 * bump(t - 3600 * late, 8, 2) + 36 * bump(t, 19.5, 3) - 26 * bump(t, 3.5, 2.5)
    rain = follow(np.where(rng.random(n) < 0.0012, rng.gamma(2, 550, n), 0.0), 18)
    flow = day * (1 + wander(rng, n, 10, 0.05)) + rain
    return {
        "flow": flow + rng.normal(0, 1.2, n),
        "level": 0.06 * np.maximum(flow, 1) ** 0.6 + rng.normal(0, 0.004, n),
        "turbidity": 160 * rng.lognormal(0, 0.22, n) * np.exp(wander(rng, n, 20, 0.15)),
    }


def rain_gauge(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a rain gauge on a battery: mostly nothing, then showers, told in tips of 0.2 mm."""
    n = len(t)
    shower = follow(np.where(rng.random(n) < 0.004, rng.gamma(1.2, 6, n), 0.0), 5)
    sun = np.maximum(0, np.sin(2 * np.pi * (hour(t) - 6) / 24))
    return {
        "rain": 0.2 * rng.poisson(np.maximum(0, shower - 0.05)),
        "voltage": 3.86 + 0.16 * follow(sun, 8) + wander(rng, n, 300, 0.02) + rng.normal(0, 0.003, n),
    }


def bee_hive(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a bee hive: it gains on days with nectar, bees fly out by day, the brood is kept at 35 °C."""
    n = len(t)
    nectar = np.maximum(0, 0.004 + wander(rng, n, 500, 0.004)) * ((hour(t) > 9) & (hour(t) < 18))
    weight = 34 + np.cumsum(nectar - 0.0012) - 0.9 * bump(t, 13.5, 3)
    outside = 16 + 6 * np.sin(2 * np.pi * (hour(t) - 9) / 24) + wander(rng, n, 300, 2.5)
    return {
        "weight": weight + rng.normal(0, 0.02, n),
        "brood_temperature": 34.8 + 0.02 * (outside - 16) + wander(rng, n, 30, 0.15) + rng.normal(0, 0.05, n),
        "outside_temperature": outside + rng.normal(0, 0.1, n),
    }


def water_meter(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a house's water meter: a counter in m³ that rests at night."""
    n = len(t)
    used = rng.random(n) < 0.03 + 0.5 * (bump(t, 7.3, 1.3) + 0.8 * bump(t, 19, 2.5) + 0.3 * bump(t, 13, 3))
    return {"total": rng.uniform(120, 800) + np.cumsum(used * rng.gamma(1.5, 0.012, n))}


def door(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a shop's door: people in a quarter of an hour, by hour and weekday; closed on Sundays."""
    n, day = len(t), (t // DAY_S) % 7
    opened = (hour(t) > 8) & (hour(t) < 20) & (day != 6)
    people = 42 * (0.35 + bump(t, 12, 2) + 1.2 * bump(t, 17.5, 2)) * np.where(day == 5, 1.6, 1)
    return {"people": rng.poisson(opened * people * np.exp(wander(rng, n, 6, 0.12))).astype(float)}


def parking(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a car park of 380 places beside offices."""
    n = len(t)
    wanted = 24 + 340 * follow(((hour(t) > 7.2) & (hour(t) < 17) & workday(t)).astype(float), 14)
    return {"occupied": np.clip(np.round(wanted + wander(rng, n, 15, 8) + rng.normal(0, 1, n)), 0, 380)}


def solar(rng: np.random.Generator, t: Course) -> dict[str, Course]:
    """Return a solar inverter: nothing at night, a hill by day, torn by clouds."""
    n = len(t)
    sun = np.maximum(0, np.sin(np.pi * (hour(t) - 6) / 13)) * ((hour(t) > 6) & (hour(t) < 19))
    cloud = np.clip(0.75 + wander(rng, n, 150, 0.25) + wander(rng, n, 4, 0.12), 0.08, 1.05)
    power = 8.2 * sun * cloud
    return {
        "power": power * (1 + rng.normal(0, 0.01, n)),
        "heatsink_temperature": 17
        + 5 * np.sin(2 * np.pi * (hour(t) - 9) / 24)
        + 3.4 * follow(power, 5)
        + rng.normal(0, 0.25, n),
        "grid_voltage": 230 + 0.5 * power + wander(rng, n, 40, 1.2) + rng.normal(0, 0.3, n),
    }


PLACES = {
    "grow_house": Family(
        grow_house,
        300,
        28,
        (
            (("context", "light"), ("shift", "humidity")),
            (("drift", "temperature"), ("silence", ""), ("spike", "soil_moisture")),
            (
                ("garbage", "humidity"),
                ("shift", "temperature"),
                ("stuck", "humidity"),
                ("relation", "temperature"),
            ),
        ),
        {"light": 0, "temperature": 2, "humidity": 1, "soil_moisture": 2},
    ),
    "charger": Family(
        charger,
        60,
        10,
        (
            (("shift", "voltage"), ("spike", "power")),
            (("silence", ""), ("stuck", "voltage"), ("drift", "voltage")),
            (("garbage", "power"), ("shift", "power"), ("normal", "voltage")),
        ),
        {"power": 2, "voltage": 1},
    ),
    "washing": Family(
        washing,
        60,
        14,
        (
            (("shift", "power"), ("spike", "power")),
            (("silence", ""),),
            (("garbage", "power"), ("shift", "power")),
        ),
        {"power": 1},
    ),
    "wastewater": Family(
        wastewater,
        300,
        28,
        (
            (("context", "flow"), ("shift", "level")),
            (("stuck", "flow"), ("silence", ""), ("spike", "level")),
            (("garbage", "turbidity"), ("shift", "turbidity"), ("relation", "level")),
        ),
        {"flow": 1, "level": 3, "turbidity": 0},
    ),
    "rain_gauge": Family(
        rain_gauge,
        300,
        30,
        (
            (("spike", "rain"), ("shift", "voltage")),
            (("silence", ""), ("drift", "voltage")),
            (("garbage", "rain"), ("spike", "voltage")),
        ),
        {"rain": 1, "voltage": 3},
    ),
    "bee_hive": Family(
        bee_hive,
        600,
        60,
        (
            (("shift", "brood_temperature"), ("spike", "weight")),
            (("drift", "brood_temperature"), ("silence", ""), ("noise", "weight")),
            (("garbage", "weight"), ("shift", "weight"), ("normal", "brood_temperature")),
        ),
        {"weight": 2, "brood_temperature": 2, "outside_temperature": 1},
    ),
    "water_meter": Family(
        water_meter, 900, 84, ((("silence", ""),), (("garbage", "total"),), ()), {"total": 3}
    ),
    "door": Family(
        door,
        900,
        84,
        (
            (("spike", "people"), ("context", "people")),
            (("silence", ""), ("shift", "people")),
            (("garbage", "people"), ("shift", "people")),
        ),
        {"people": 0},
    ),
    "parking": Family(
        parking,
        300,
        28,
        (
            (("rhythm", "occupied"), ("silence", "")),
            (("context", "occupied"), ("garbage", "occupied")),
            (("shift", "occupied"), ("spike", "occupied")),
        ),
        {"occupied": 0},
    ),
    "solar": Family(
        solar,
        300,
        28,
        (
            (("shift", "heatsink_temperature"), ("relation", "heatsink_temperature")),
            (("silence", ""), ("spike", "grid_voltage"), ("context", "power")),
            (("garbage", "power"), ("shift", "grid_voltage"), ("drift", "heatsink_temperature")),
        ),
        {"power": 2, "heatsink_temperature": 1, "grid_voltage": 1},
    ),
}
