"""A value is stuck when that is unusual for its channel: by the habits that channels have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from stream_detector.core.devices.table import Table
from stream_detector.core.scoring import stuck as rule
from tests.core.strategies import SECOND, START

if TYPE_CHECKING:
    from collections.abc import Callable

NAN = float("nan")
HOUR, DAY = 3600.0, 86_400.0
MIDNIGHT = START - START % (int(DAY) * SECOND)


class Judged(NamedTuple):
    """What became of a channel's values.

    Attributes:
        told: Place of each reading at which the value began to count as stuck.
        scores: Of each reading.
        usual: What was usual at each reading.
        allowed: What was allowed.
    """

    told: list[int]
    scores: list[float]
    usual: list[int]
    allowed: list[float]


def judge(values: np.ndarray | list[float], every_s: float = 1.0, start_s: float = 0.0) -> Judged:
    """Judge the values of one channel, read at even times."""
    table = Table(rule.COLUMNS, 1)
    table.add()
    n = len(values)
    ts = MIDNIGHT + ((start_s + np.arange(n) * every_s) * SECOND).astype(np.int64)
    column = np.array(values, dtype=np.float64)[:, None]
    got = rule.stuck(table.record(rule.StuckState), np.zeros(n, np.int32), column, ts)
    scores = got.score[:, 0]
    told = np.flatnonzero((scores >= 1.0) & (np.concatenate([[0.0], scores[:-1]]) < 1.0)).tolist()
    return Judged(told, scores.tolist(), got.usual[:, 0].tolist(), got.allowed[:, 0].tolist())


LIVELY = [float(k) for k in range(4001)]
"""Known well: 17 repeats are allowed."""


def test_a_lively_channel() -> None:
    """A value that always changed is stuck when it came again 17 times, not before."""
    judged = judge([*LIVELY, *[4000.0] * 40])
    assert judged.told == [4000 + 17]
    assert judged.scores[4017] == 1.0
    assert judged.scores[4040] == pytest.approx(40 / 17)
    assert (judged.usual[4017], judged.allowed[4017]) == (0, 17.0)


@pytest.mark.parametrize(("changes", "allowed"), [(19, None), (20, 216), (100, 56), (1000, 20)])
def test_little_is_said_of_a_young_channel(changes: int, allowed: int | None) -> None:
    """The less often it has changed, the more repeats are allowed; below 20 changes any number is."""
    judged = judge([*range(changes + 1), *[float(changes)] * 1000])
    assert judged.told == ([] if allowed is None else [changes + allowed])


def test_what_is_usual_is_learned() -> None:
    """A channel that stood still for 10 repeats several times is stuck after three times as many."""
    runs = [float(k) for k in range(50) for _ in range(11)]
    judged = judge([*LIVELY, *runs, *[-1.0] * 101])
    assert judged.told == [4001 + 50 * 11 + 30]
    assert judged.usual[-1] == 10


def test_being_stuck_is_not_learned_at_once() -> None:
    """After a stuck run the next one is judged as strictly; what comes again is usual."""
    runs = [[float(k), *[-float(k)] * 101] for k in range(1, 4)]
    judged = judge([*LIVELY, *runs[0], *LIVELY, *runs[1], *LIVELY, *runs[2]])
    assert [at - begin for at, begin in zip(judged.told, (4002, 8105), strict=True)] == [16, 16]


def test_a_setpoint_never_alarms() -> None:
    """What changed less than 20 times is meant to stand still."""
    assert judge([float(k) for k in range(20) for _ in range(200)]).told == []


def test_not_reported_is_not_stuck() -> None:
    """NaN neither counts as a repeat nor ends a run."""
    judged = judge([*LIVELY, *[4000.0, NAN] * 17])
    assert judged.scores[-1] == 1.0
    assert judged.told == [len(LIVELY) + 2 * 16]


def test_stuck_has_a_greatest_score() -> None:
    """However long it lasts, the score is at most 1000."""
    assert judge([*LIVELY, *[4000.0] * 18_000]).scores[-1] == 1000.0


def test_a_row_of_an_older_version() -> None:
    """Where only the longest run is known, it is usual, and is not forgotten with the next one."""
    table = Table(rule.COLUMNS, 1)
    table.add()
    table["value"][0], table["longest"][0], table["changes"][0] = 1.0, 100, 5000
    state, row = table.record(rule.StuckState), np.zeros(400, np.int32)
    ts = START + np.arange(400) * SECOND
    got = rule.stuck(state, row, np.array([1.0] * 400)[:, None], ts)
    assert (got.usual[-1, 0], got.allowed[-1, 0], got.score[-2:, 0].tolist()) == (100, 400.0, [0.9975, 1.0])
    got = rule.stuck(state, row[:350], np.array([2.0] * 350)[:, None], ts[:350] + 400 * SECOND)
    assert got.worst.max() < 1.0


# -- habits of real channels --------------------------------------------------------------------------


def days(count: float, every_s: float, start: float = 0.0) -> np.ndarray:
    """Return times of day in hours, read at even times for some days."""
    return (start * HOUR + np.arange(0.0, count * DAY, every_s)) / HOUR


def wander(rng: np.random.Generator, n: int, memory: float, size: float) -> np.ndarray:
    """Return an autocorrelated wander."""
    keep = np.exp(-1.0 / memory)
    steps = rng.normal(0.0, size * np.sqrt(1 - keep * keep), n)
    out = np.empty(n)
    at = 0.0
    for i in range(n):
        at = keep * at + steps[i]
        out[i] = at
    return out


def following(wanted: np.ndarray, readings: float) -> np.ndarray:
    """Return what follows another course slowly."""
    out = np.empty(len(wanted))
    at = wanted[0]
    for i, x in enumerate(wanted):
        at += (x - at) / readings
        out[i] = at
    return out


def room(rng: np.random.Generator, count: float, step: float) -> np.ndarray:
    """A room with a night setback, in coarse steps, every five minutes."""
    hour = days(count, 300.0) % 24
    warm = following(np.where((hour > 6) & (hour < 22), 21.0, 17.5), 15.0)
    return np.round((warm + wander(rng, len(hour), 50.0, 0.3) + rng.normal(0, 0.05, len(hour))) / step) * step


def sun(rng: np.random.Generator, count: float, every_s: float, start: float) -> np.ndarray:
    """Watts of a solar panel, under clouds: 0 all night."""
    hour = days(count, every_s, start) % 24
    height = np.sin((hour - 6) / 12 * np.pi) * ((hour > 6) & (hour < 18))
    clouds = np.clip(0.7 + wander(rng, len(hour), 25.0, 0.3), 0.05, 1.0)
    return np.round(3000 * height * clouds * (1 + rng.normal(0, 0.02, len(hour))))


def meter(rng: np.random.Generator, count: float, start: float) -> np.ndarray:
    """A meter, once a minute, that counts by day and stands still at night: at another value each night."""
    hour = days(count, 60.0, start) % 24
    return np.round(
        1000 + np.cumsum(np.where((hour > 6) & (hour < 22), rng.gamma(0.8, 0.02, len(hour)), 0)), 3
    )


def estimated(rng: np.random.Generator, count: float) -> np.ndarray:
    """Estimated power, twice a minute: one of a few values for up to an hour, 0 all night."""
    hour = days(count, 30.0) % 24
    out = np.empty(len(hour))
    at = 0
    while at < len(hour):
        lasts = int(rng.integers(10, 120))
        out[at : at + lasts] = round(rng.uniform(0.2, 1.2), 1)
        at += lasts
    return np.where((hour > 7) & (hour < 23), out, 0.0)


def battery(rng: np.random.Generator, count: float) -> np.ndarray:
    """Percent of a battery, once an hour: one less every three days or so."""
    return np.round(100 - np.cumsum(rng.gamma(1.0, 1 / 70, int(count * 24))))


def counts(rng: np.random.Generator, count: float) -> np.ndarray:
    """A counter of errors, every five minutes: it stands for days, and some errors come in bursts."""
    day = days(count, 300.0) / 24
    return np.cumsum(rng.random(len(day)) < np.where(day.astype(int) % 9 == 3, 0.1, 1 / 600))


SEEDS = pytest.mark.parametrize("seed", range(4))


@SEEDS
@pytest.mark.parametrize(
    ("every_s", "start", "channel"),
    [
        pytest.param(300.0, 0.0, lambda rng: room(rng, 21, 0.5), id="a room in steps of half a degree"),
        pytest.param(300.0, 0.0, lambda rng: room(rng, 21, 0.1), id="a room in steps of a tenth"),
        pytest.param(300.0, 0.0, lambda rng: sun(rng, 14, 300.0, 0.0), id="the sun, from midnight on"),
        pytest.param(60.0, 11.0, lambda rng: sun(rng, 10, 60.0, 11.0), id="the sun, from noon on"),
        pytest.param(60.0, 0.0, lambda rng: meter(rng, 10, 0.0), id="a meter, from midnight on"),
        pytest.param(60.0, 9.0, lambda rng: meter(rng, 10, 9.0), id="a meter, from the morning on"),
        pytest.param(30.0, 0.0, lambda rng: estimated(rng, 10), id="estimated power"),
        pytest.param(3600.0, 0.0, lambda rng: battery(rng, 200), id="a battery"),
        pytest.param(300.0, 0.0, lambda rng: counts(rng, 90), id="counts that hardly ever change"),
    ],
)
def test_resting_is_not_stuck(
    every_s: float, start: float, channel: Callable[[np.random.Generator], np.ndarray], seed: int
) -> None:
    """Whatever the habit of a channel is, it raises nothing, also in its first days."""
    assert judge(channel(np.random.default_rng(seed)), every_s, start * HOUR).told == []


@SEEDS
def test_a_coarse_channel_that_freezes(seed: int) -> None:
    """The room of half a degree is found within a day or so, that of a tenth within some hours."""
    for step, within in ((0.5, 26 * HOUR), (0.1, 4 * HOUR)):
        values = room(np.random.default_rng(seed), 16, step)
        frozen = 13 * 288 + 140
        values[frozen:] = values[frozen]
        told = judge(values, 300.0).told
        assert told
        assert 0 <= (told[0] - frozen) * 300.0 <= within


@SEEDS
def test_rest_at_one_value_is_no_excuse_at_another(seed: int) -> None:
    """Zero all night is usual; a panel that freezes at noon is stuck after as few readings as any channel."""
    values = sun(np.random.default_rng(seed), 12, 60.0, 0.0)
    frozen = int(11.5 * 1440)
    values[frozen:] = values[frozen] + 0.5
    judged = judge(values, 60.0)
    assert judged.told[0] - frozen <= 25
    at_night = judge(values[: 12 * 1440 - 1440], 60.0)
    assert max(at_night.allowed) > 1800  # there, so many are allowed


def test_two_weekends_make_a_habit() -> None:
    """A machine that rests at 0 every night and over the weekend is told once at most, and not again."""
    hour = days(28, 300.0)
    works = (hour % 24 > 6) & (hour % 24 < 22) & (hour // 24 % 7 < 5)
    values = np.where(works, np.random.default_rng(3).normal(50, 5, len(hour)), 0.0)
    assert len(judge(values, 300.0).told) <= 1


def test_a_night_given_up_is_forgotten() -> None:
    """A value of no place of its own that was long once is not usual for ever."""
    quiet = [float(k) for k in range(5000)]
    long = [*quiet, *[-1.0] * 200, -2.0]  # when it came, it was told
    twice = [*long, *quiet, *[-3.0] * 200, -4.0]
    after = [float(k) for k in range(60_000)]
    assert judge([*twice, *quiet, *[-5.0] * 100], 60.0).told[2:] == []
    assert len(judge([*twice, *after, *[-5.0] * 100], 60.0).told) == 3
