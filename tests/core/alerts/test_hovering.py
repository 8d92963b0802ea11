"""A value that hovers about its limit is one alert, and one that is back is none."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.core.events import AlertChanged
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.scoring.rules import near
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.detectors.light import Light
from tests.core.strategies import SECOND, START, Reading, batch

INF, NAN = float("inf"), float("nan")
EVERY = 600 * SECOND


def ranges(*columns: tuple[str, np.ndarray], **limits: Limits) -> list[tuple[str, int]]:
    """Return the events of kind range, with the places of the readings at which they came."""
    channels = {name: limits.get(name, Limits()) for name, _ in columns}
    pipe = Pipeline([StreamSpec("s", channels=channels)], Light, lambda _: Light())
    readings = [
        Reading({name: float(values[i]) for name, values in columns}, START + i * EVERY, "d")
        for i in range(len(columns[0][1]))
    ]
    events = pipe.process(batch(readings))["s"].events
    return [
        (event.event, (event.updated_at - START) // EVERY)
        for event in events
        if isinstance(event, AlertChanged) and event.kind == "range" and event.event != "update"
    ]


@pytest.mark.parametrize("seed", range(6))
def test_soil_that_dries_is_one_alert(seed: int) -> None:
    """Through daily swings and noise about its limit it stays open, and ends with the water."""
    rng = np.random.default_rng(seed)
    t = np.arange(0, 14, 1 / 144)
    moisture = 23 - 0.5 * t + 0.6 * np.sin(2 * np.pi * t) + rng.normal(0, 0.2, len(t))
    water = 144 * 11
    moisture[water:] += 25
    found = ranges(("moisture", moisture), moisture=Limits("%", low=20.0))
    assert [event for event, _ in found] == ["raise", "clear"]
    assert found[0][1] == int(np.argmax(moisture < 20))
    assert found[1][1] == water + 9


def test_a_value_that_is_clearly_back_ends_it_at_once() -> None:
    """After ten readings, as any alert, however far it was out."""
    rng = np.random.default_rng(1)
    values = rng.normal(45, 0.5, 300)
    values[200:230] = 80.0
    found = ranges(("temperature", values), temperature=Limits("°C", high=50.0))
    assert found == [("raise", 200), ("clear", 239)]


def test_what_stays_near_its_limit_is_normal_in_the_end() -> None:
    """A value that rests on the limit itself does not hold an alert for ever."""
    values = np.full(600, 0.0)
    values[100] = -0.5
    (raised, cleared) = ranges(("power", values), power=Limits("W", low=0.0, high=3000.0))
    assert raised == ("raise", 100)
    assert 200 < cleared[1] <= 101 + 320


def test_an_excursion_does_not_make_all_near() -> None:
    """How much a channel varies is learned within its limits: a long time far out changes nothing."""
    rng = np.random.default_rng(3)
    values = rng.normal(46, 0.5, 500)
    values[200:400] = rng.normal(80, 10, 200)
    found = ranges(("temperature", values), temperature=Limits("°C", high=50.0))
    assert found == [("raise", 200), ("clear", 409)]


def test_another_channel_does_not_hold_it() -> None:
    """Humidity that is always near its limit has nothing to do with the temperature that is back."""
    rng = np.random.default_rng(2)
    temperature = rng.normal(20, 0.5, 300)
    temperature[200:210] = 70.0
    found = ranges(
        ("temperature", temperature),
        ("humidity", np.full(300, 99.5)),
        temperature=Limits("°C", high=50.0),
        humidity=Limits("%", high=100.0),
    )
    assert found == [("raise", 200), ("clear", 219)]


@pytest.mark.parametrize(
    ("value", "deviation", "low", "high", "expected"),
    [
        pytest.param(20.1, 0.0, 20.0, INF, True, id="1 % of the limit, where it does not vary"),
        pytest.param(20.3, 0.0, 20.0, INF, False, id="beyond that"),
        pytest.param(20.8, 0.3, 20.0, INF, True, id="three times its deviation"),
        pytest.param(22.1, 5.0, 20.0, INF, False, id="10 % of the limit at most"),
        pytest.param(92.0, 3.0, 0.0, 100.0, True, id="of the range, where there are two limits"),
        pytest.param(88.0, 30.0, 0.0, 100.0, False, id="10 % of the range at most"),
        pytest.param(19.9, 1.0, 20.0, INF, False, id="beyond the limit is not near it"),
        pytest.param(-0.1, 0.2, -INF, 0.0, True, id="a limit of 0 says nothing of what is much"),
        pytest.param(5.0, 1.0, -INF, INF, False, id="no limits"),
        pytest.param(NAN, 1.0, 0.0, 10.0, False, id="not reported"),
    ],
)
def test_near(value: float, deviation: float, low: float, high: float, expected: bool) -> None:  # noqa: FBT001
    """Near is inside by less than a margin."""
    got = near(np.array([value]), np.array([deviation]), np.array([low]), np.array([high]))
    assert got.tolist() == [expected]
