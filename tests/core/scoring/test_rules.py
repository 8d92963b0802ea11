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
