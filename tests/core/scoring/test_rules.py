"""Range, stuck and silence: observed / allowed, so 1.0 is the limit."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.core.devices.registry import COLUMNS as DEVICE_COLUMNS
from stream_detector.core.devices.registry import NEVER
from stream_detector.core.devices.table import Table
from stream_detector.core.scoring import rules
from tests.core.strategies import SECOND, START

INF = float("inf")
NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "low", "high", "score"),
    [
        pytest.param(50.0, 0.0, 100.0, 0.0, id="inside"),
        pytest.param(100.0, 0.0, 100.0, 0.0, id="on the upper limit"),
        pytest.param(0.0, 0.0, 100.0, 0.0, id="on the lower limit"),
        pytest.param(np.nextafter(100.0, INF), 0.0, 100.0, 1.0, id="a hair above"),
        pytest.param(np.nextafter(0.1, -INF), 0.1, 0.3, 1.0, id="a hair below"),
        pytest.param(150.0, 0.0, 100.0, 2.0, id="half a range above"),
        pytest.param(-50.0, 0.0, 100.0, 2.0, id="half a range below"),
        pytest.param(120.0, -INF, 80.0, 1.5, id="half of the only limit above"),
        pytest.param(-120.0, -80.0, INF, 1.5, id="half of the only limit below"),
        pytest.param(-1e9, -INF, 80.0, 0.0, id="no limit there"),
        pytest.param(3.0, -INF, 0.0, 4.0, id="a limit of 0 counts in units"),
        pytest.param(3.0, 2.0, 2.0, 1.5, id="only one value is allowed"),
        pytest.param(NAN, 0.0, 1.0, 0.0, id="not reported"),
        pytest.param(7.0, -INF, INF, 0.0, id="no limits"),
        pytest.param(1.7e308, 0.0, 1.0, 1000.0, id="the largest"),
        pytest.param(-1.7e308, -INF, -1.75e308, 1.02857143, id="rounded to nine digits"),
        pytest.param(1.7e308, -1.7e308, 1.6e308, 1.0, id="limits that are too far apart"),
    ],
)
def test_beyond(value: float, low: float, high: float, score: float) -> None:
    """The score is 1.0 on the limit and grows with the distance, up to 1000."""
    got = rules.beyond(np.array([[value, 1.0]]), np.array([low, -INF]), np.array([high, INF]))
    assert got.tolist() == [[pytest.approx(score, rel=1e-12), 0.0]]


def stuck(values: list[float]) -> list[float]:
    """Return the scores of one channel of one device."""
    table = Table(rules.STUCK_COLUMNS, 1)
    table.add()
    column = np.array(values)[:, None]
    return [
        float(x)
        for x in rules.stuck(table.record(rules.StuckState), np.zeros(len(values), np.int32), column).score[
            :, 0
        ]
    ]


LIVELY = [float(k) for k in range(30)]


def test_a_lively_channel_may_repeat_thirty_times() -> None:
    """A channel that always changed is stuck when its value came again 30 times, not before."""
    scores = stuck([*LIVELY, *[29.0] * 40])
    assert [i for i, score in enumerate(scores) if score >= 1.0] == list(range(59, 70))
    assert scores[59] == 1.0
    assert scores[69] == pytest.approx(40 / 30)


def test_what_is_usual_is_learned() -> None:
    """A channel that once stood still for 20 repeats is stuck only after four times as many."""
    scores = stuck([*LIVELY, *[29.0] * 20, 1.0, *[2.0] * 101])
    assert next(i for i, score in enumerate(scores) if score >= 1.0) == 51 + 80


def test_being_stuck_is_not_learned() -> None:
    """After a stuck run, the next one is judged as strictly."""
    scores = stuck([*LIVELY, *[29.0] * 100, *LIVELY, *[29.0] * 31])
    assert scores[-1] == pytest.approx(31 / 30)


def test_a_setpoint_never_alarms() -> None:
    """What changed less than 20 times is meant to stand still."""
    values = [float(k) for k in range(20) for _ in range(200)]
    assert max(stuck(values)) == 0.0


def test_not_reported_is_not_stuck() -> None:
    """NaN neither counts as a repeat nor ends a run."""
    scores = stuck([*LIVELY, *[29.0, NAN] * 30])
    assert scores[-1] == 1.0
    assert max(scores[:-2]) < 1.0


def test_stuck_has_a_greatest_score() -> None:
    """However long it lasts, the score is at most 1000."""
    assert stuck([*LIVELY, *[29.0] * 30_100])[-1] == 1000.0


def test_what_was_usual_is_told_with_each_reading() -> None:
    """The longest run and the changes are those at the reading, not those at the end of the batch."""
    table = Table(rules.STUCK_COLUMNS, 1)
    table.add()
    values = np.array([1.0, 1.0, 1.0, 2.0, 3.0])[:, None]
    got = rules.stuck(table.record(rules.StuckState), np.zeros(5, np.int32), values)
    assert got.longest[:, 0].tolist() == [0, 0, 0, 2, 2]
    assert got.changes[:, 0].tolist() == [0, 0, 0, 1, 2]


def silent(quiet_s: float, cadence_s: float, *, arrivals: int = 20, deaf_s: float = 0.0) -> float:
    """Return the score of a device that has said nothing for some time."""
    table = Table(DEVICE_COLUMNS)
    slot = table.add()
    table["heard"][slot] = START
    table["allowed"][slot] = 5 * cadence_s * SECOND
    table["arrivals"][slot] = arrivals
    table["unheard"][slot] = deaf_s * SECOND
    at = START + int(quiet_s * SECOND)
    scores = rules.silent(table.arrays, table.size, at, 3 * SECOND)
    return float(scores[0])


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        pytest.param(silent(50.0, 10.0), 1.0, id="five times its cadence is the limit"),
        pytest.param(silent(49.0, 10.0), 0.98, id="just inside"),
        pytest.param(silent(2.9, 0.01), 2.9 / 3, id="a fast device may be quiet for three seconds"),
        pytest.param(silent(100.0, 10.0, arrivals=19), 0.0, id="not known well enough"),
        pytest.param(silent(100.0, 10.0, deaf_s=75.0), 0.5, id="we were deaf for most of it"),
        pytest.param(silent(1e9, 1.0), 1000.0, id="at most 1000"),
        pytest.param(silent(7.0, 0.3), 2.33333333, id="rounded to nine digits"),
        pytest.param(silent(-5.0, 1.0), -1.0, id="a clock that stood still is no silence"),
    ],
)
def test_silence(score: float, expected: float) -> None:
    """Quiet time is judged by the device's own cadence, without the time in which we were deaf."""
    assert score == pytest.approx(expected, abs=1e-12)


def test_a_device_that_never_spoke_is_not_silent() -> None:
    """A fresh slot has no score, even where nothing is allowed by default."""
    table = Table(DEVICE_COLUMNS)
    table.add()
    assert table["heard"][0] == NEVER
    assert rules.silent(table.arrays, 1, START, 0).tolist() == [0.0]
