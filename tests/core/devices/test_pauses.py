"""How long a device may say nothing: what is learned from its pauses, by the habits that devices have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from stream_detector.core.devices.acceptance import Identities, accept
from stream_detector.core.devices.pauses import KNOWN
from stream_detector.core.devices.registry import Devices
from stream_detector.core.records import NO_SEQ
from stream_detector.core.scoring.rules import allowed_quiet, silent
from stream_detector.core.spec import StreamSpec
from stream_detector.core.stream import Stream
from stream_detector.detectors.light import Light
from stream_detector.sources.recordings import Recording
from tests.core.strategies import SECOND, START, Reading, batch

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
AT_LEAST = 3 * SECOND


class Heard(NamedTuple):
    """What a device's arrivals came to; in s.

    Attributes:
        silences: Begin and length of each pause that was told.
        allowed: How long it may say nothing in the end.
    """

    silences: list[tuple[float, float]]
    allowed: float


def hear(times: np.ndarray) -> Heard:
    """Let a device speak at some times, s, ascending."""
    ts = START + (times * SECOND).astype(np.int64)
    n = len(ts)
    readings = Recording(
        devices=["d"] * n,
        ts=ts,
        seq=np.full(n, NO_SEQ, dtype=np.int64),
        channels=("a",),
        values=np.arange(n, dtype=np.float64)[:, None],
    ).batch("s", 0, n)
    devices = Devices()
    slots = devices.slots(readings.devices, {})
    identity = Identities().of(readings, readings.offsets())
    seen = accept(devices.table, slots, readings, identity, 0, AT_LEAST)
    allowed = allowed_quiet(seen.allowed, AT_LEAST)
    pauses = np.diff(ts)
    told = np.flatnonzero((pauses >= allowed[:-1]) & (seen.arrivals[:-1] >= KNOWN))
    silences = [(float(times[i]), float(pauses[i]) / SECOND) for i in told]
    return Heard(silences, float(allowed[-1]) / SECOND)


def on_change(rng: np.random.Generator, days: float) -> np.ndarray:
    """A plug that reports changes: every second or so in use, pauses in between, hours to days unused."""
    times = [0.0]
    while times[-1] < days * DAY:
        kind = rng.random()
        pause = float(rng.choice([1.0, 2.0, 3.0]))
        if kind < 0.003:
            pause = rng.uniform(8, 25) * MINUTE
        elif kind < 0.004:
            pause = rng.uniform(5, 40) * HOUR
        times.append(times[-1] + pause)
    return np.array(times)


def working(rng: np.random.Generator, days: int, begin: float, end: float, weekdays: int = 7) -> np.ndarray:
    """A device that speaks once a minute, between two hours of some days of the week."""
    times = np.arange(0.0, days * DAY, MINUTE)
    hour, day = times % DAY / HOUR, times // DAY % 7
    times = times[(hour >= begin) & (hour < end) & (day < weekdays)]
    return np.sort(times + rng.normal(0.0, 1.0, len(times)))


SEEDS = pytest.mark.parametrize("seed", range(5))


@SEEDS
def test_report_on_change(seed: int) -> None:
    """The first pause in use and the first days unused are told, nothing of that kind afterwards."""
    heard = hear(on_change(np.random.default_rng(seed), 26))
    assert len(heard.silences) <= 2
    assert all(begin < 4 * DAY for begin, _ in heard.silences)
    assert heard.allowed < 14 * DAY  # and when it is really gone, that is told


@SEEDS
@pytest.mark.parametrize(
    ("begin", "end", "weekdays", "within"),
    [
        pytest.param(6.0, 22.0, 7, 2 * DAY, id="off at night"),
        pytest.param(8.0, 17.0, 7, 4 * DAY, id="off for most of the day"),
        pytest.param(7.0, 18.0, 5, 21 * DAY, id="off at night and at weekends"),
    ],
)
def test_switched_off(begin: float, end: float, weekdays: int, within: float, seed: int) -> None:
    """Two nights are told; then they are a habit, and so is a first weekend."""
    heard = hear(working(np.random.default_rng(seed), 28, begin, end, weekdays))
    assert len(heard.silences) <= 2
    assert heard.allowed <= within


@SEEDS
def test_what_is_lost_on_the_air(seed: int) -> None:
    """Where three of ten readings are lost, several in a row sometimes, that raises nothing."""
    rng = np.random.default_rng(seed)
    every = np.arange(0.0, 30 * DAY, 10 * MINUTE)
    heard = hear(every[rng.random(len(every)) > 0.3])
    assert heard.silences == []
    assert heard.allowed < 6 * HOUR


@SEEDS
def test_a_steady_device_is_missed_soon(seed: int) -> None:
    """Five of its usual pauses are allowed, also after it has been gone before."""
    times = np.arange(0.0, 20 * DAY, MINUTE) + np.random.default_rng(seed).normal(0.0, 0.5, 20 * 1440)
    gone = [9000, 20_000]
    times = np.delete(times, np.r_[tuple(slice(at, at + 60) for at in gone)])
    heard = hear(times)
    assert [round(length / MINUTE) for _, length in heard.silences] == [61, 61]
    assert hear(times[:19_000]).allowed == pytest.approx(5 * MINUTE, rel=0.06)


def test_what_comes_again_and_again_is_a_habit() -> None:
    """A steady device that is gone every day for an hour is not told a third time."""
    times = np.arange(0.0, 20 * DAY, MINUTE)
    heard = hear(times[times % DAY >= HOUR])
    assert len(heard.silences) == 2


def test_bursts_of_one_topic_a_channel() -> None:
    """Fourteen messages at once, once a minute: the minutes count, not what lies between the messages."""
    heard = hear((np.arange(0.0, DAY, MINUTE)[:, None] + 0.02 * np.arange(14)).ravel())
    assert len(heard.silences) <= 1
    assert 2 * MINUTE < heard.allowed < 6 * MINUTE


def test_a_rare_speaker_keeps_its_habit() -> None:
    """What is known fades with time, but not within twenty pauses: a device may speak once a week."""
    heard = hear(np.arange(60) * 7 * DAY)
    assert heard.silences == []
    assert heard.allowed == pytest.approx(35 * DAY)


def test_a_habit_that_is_given_up_is_forgotten() -> None:
    """A device that was off at night and is not any more is missed sooner after some months."""
    nights = working(np.random.default_rng(1), 14, 6.0, 22.0)
    always = np.arange(14 * DAY, 320 * DAY, MINUTE)
    assert hear(nights).allowed > DAY
    assert hear(np.concatenate([nights, always])).allowed == pytest.approx(5 * MINUTE, rel=0.06)


def cadence(
    arrivals: list[float], times: list[float] | None = None, gap: tuple[float, float] | None = None
) -> float:
    """Return the cadence in seconds learned from arrivals in s; `gap`: when nobody could be heard."""
    stream = Stream(StreamSpec("s"), Light())
    for i, arrival in enumerate(arrivals):
        if gap is not None and gap[1] <= arrival:
            stream.devices.miss(START + int(gap[0] * SECOND), START + int(gap[1] * SECOND))
            gap = None
        ts = START + int((times or arrivals)[i] * SECOND)
        reading = Reading({"a": float(i)}, ts, arrival=START + int(arrival * SECOND))
        stream.process(batch([reading]))
    return float(stream.devices.table["cadence"][0]) / SECOND


def test_cadence_of_a_steady_device() -> None:
    """It is the time between two arrivals."""
    assert cadence([2.0 * k for k in range(50)]) == pytest.approx(2.0)


def test_cadence_is_the_longest_usual_time() -> None:
    """Of a device that speaks in bursts, the pause between bursts counts, among many short ones."""
    bursts = [10.0 * burst + 0.1 * k for burst in range(20) for k in range(5)]
    assert cadence(bursts) == pytest.approx(9.6, rel=0.05)
    assert cadence([*bursts, *(200.0 + 0.1 * k for k in range(500))]) == pytest.approx(9.6, rel=0.25)


def test_an_outage_is_not_learned_as_usual() -> None:
    """One long pause changes nothing, a second one within some days does."""
    steady = [float(k) for k in range(KNOWN + 1)]
    assert cadence([*steady, 5000.0]) == pytest.approx(1.0)
    assert cadence([*steady, 5000.0, 5001.0, 10_001.0]) == pytest.approx(5000.0, rel=0.25)


def test_a_backlog_keeps_its_pace() -> None:
    """Readings that pile up and arrive at once are as far apart as their times say."""
    times = [float(k) for k in range(60)]
    piled = [*times[:30], *[30.0 + 1e-4 * k for k in range(30)]]
    assert cadence(piled, times) == pytest.approx(1.0)


def test_a_recorded_gap_is_not_the_devices_doing() -> None:
    """Time in which nobody could hear does not count, whether or not the readings of it come later."""
    steady = [float(k) for k in range(10)]
    after = [3609.0 + k for k in range(1, 20)]
    assert cadence(steady + after, gap=(9.0, 3609.0)) == pytest.approx(1.0)


def test_elements_of_a_list_do_not_count() -> None:
    """A list every ten seconds has a cadence of ten seconds, whatever its length."""
    arrivals = [10.0 * (k // 5) for k in range(150)]
    times = [2.0 * k for k in range(150)]
    assert cadence(arrivals, times) == pytest.approx(10.0, rel=0.05)


def test_a_row_of_an_older_version() -> None:
    """Where only the cadence is known, five of it are allowed, before the next reading and after it."""
    devices = Devices()
    slot = devices.add("d", {})
    table = devices.table
    table["heard"][slot], table["newest"][slot] = START, START
    table["cadence"][slot], table["arrivals"][slot], table["accepted"][slot] = 10.0 * SECOND, 500, 500
    assert silent(table.arrays, 1, START + 50 * SECOND, AT_LEAST).tolist() == [1.0]
    readings = batch([Reading({"a": 1.0}, START + 10 * SECOND)])
    identity = Identities().of(readings, readings.offsets())
    accept(table, np.zeros(1, dtype=np.int32), readings, identity, 0, AT_LEAST)
    assert silent(table.arrays, 1, START + 60 * SECOND, AT_LEAST).tolist() == [1.0]
