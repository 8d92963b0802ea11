"""Alerts as people need them: open as long as their cause, of the right channel, told again when it is back.

Through the whole core with the built-in detector, from what sensors send to what is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.events import AlertChanged, AlertSuppressed
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import Forgotten
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.detectors.default.detector import Default
from tests.core.strategies import SECOND, START, Reading, batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.core.events import CoreEvent

MINUTE = 60 * SECOND
ROOM = np.random.default_rng(11).normal(21.0, 0.3, 3000).round(2)
AIR = np.random.default_rng(12).normal(600.0, 4.0, 3000).round()


def pipeline(**spec: Any) -> Pipeline:
    """Return a pipeline with one stream, whose silences nobody judges."""
    return Pipeline([StreamSpec("s", silence_at_least=None, **spec)], Default, lambda _: Default())


def play(pipe: Pipeline, readings: Sequence[Reading]) -> list[CoreEvent]:
    """Return what readings give."""
    return pipe.process(batch(readings))["s"].events


def alerts(found: Sequence[CoreEvent]) -> list[AlertChanged]:
    """Return the alerts among events."""
    return [event for event in found if isinstance(event, AlertChanged)]


def room(values: Sequence[float]) -> list[Reading]:
    """Return a temperature a minute."""
    return [Reading({"temperature": float(x)}, START + k * MINUTE) for k, x in enumerate(values)]


def minute(event: AlertChanged) -> int:
    """Return with which reading an event came."""
    return (event.updated_at - START) // MINUTE


def test_a_sensor_that_fails_three_times_is_told_three_times() -> None:
    """One reading of 85, hours apart: each is an alert of its own, over after ten usual readings."""
    values = ROOM[:1000].copy()
    values[[300, 550, 800]] = 85.0
    found = alerts(play(pipeline(), room(values)))
    assert [(one.event, minute(one)) for one in found] == [
        *(("raise", 300), ("clear", 310)),
        *(("raise", 550), ("clear", 560)),
        *(("raise", 800), ("clear", 810)),
    ]
    assert len({one.id for one in found}) == 3
    assert {one.ended_because for one in found if one.event == "clear"} == {"returned"}


def test_three_of_five_and_a_level_that_shifts() -> None:
    """N of M works with a detector that holds: raised by the third reading, open until the value is back."""
    values = ROOM[:2500].copy()
    values[1600:2100] += 34.0
    found = alerts(
        play(pipeline(policy=AlertPolicy(raise_n=3, raise_m=5), own_raise_after=False), room(values))
    )
    assert [(one.event, minute(one)) for one in found if one.event != "update"] == [
        ("raise", 1602),
        ("clear", 2109),
    ]
    assert found[0].started_at == START + 1600 * MINUTE


def test_what_lasts_is_accepted_with_its_reason() -> None:
    """A level that half overlaps with the known one ends as the new normal."""
    values = ROOM[:2500].copy()
    values[1000:] += 1.5
    found = alerts(play(pipeline(), room(values)))
    last = found[-1]
    assert (last.event, last.ended_because, last.channels) == ("clear", "new_normal", ("temperature",))
    assert last.reason == "it has lasted for so long that it is accepted as the new normal"
    assert len({one.id for one in found}) <= 2


def two(k: int, temperature: float, air: float) -> Reading:
    """Return a reading of both channels."""
    return Reading({"temperature": temperature, "co2": air}, START + k * MINUTE)


def test_another_channel_is_another_alert() -> None:
    """What follows within the cooldown but of another channel has an id and a severity of its own."""
    pipe = pipeline(policy=AlertPolicy(cooldown=20 * MINUTE))
    readings = [two(k, float(ROOM[k]), float(AIR[k])) for k in range(300)]
    readings[250] = two(250, 90.0, float(AIR[250]))
    for k in range(264, 267):
        readings[k] = two(k, float(ROOM[k]), 636.0)
    found = [one for one in alerts(play(pipe, readings)) if minute(one) >= 250]
    first, _, second = found[:3]
    assert (first.channels, first.severity) == (("temperature",), "critical")
    assert (second.event, second.channels, second.severity, second.seq) == ("raise", ("co2",), "warning", 1)
    assert second.id != first.id
    assert second.contributions[0].channel == "co2"


def test_the_faulty_channel_is_named_first() -> None:
    """Of four channels, the one that is far off; the band is one that it has left."""
    random = np.random.default_rng(3)
    names = ("a", "b", "c", "d")
    values = random.normal(50, 1, (400, 4))
    values[300:, 2] = 90.0
    readings = [
        Reading(dict(zip(names, row, strict=True)), START + k * MINUTE)
        for k, row in enumerate(values.tolist())
    ]
    (raised, *_) = alerts(play(pipeline(), readings))
    assert (raised.channels, raised.contributions[0].channel) == (("c",), "c")
    band = raised.expected["c"]
    assert band.upper is not None
    assert band.upper < 90.0
    assert raised.reason.startswith("c 90 is above its expected ")


def test_other_topics_of_the_device_clear_nothing() -> None:
    """A board that sends each channel alone: an alert ends with its own channel's readings alone."""
    names = [f"sensor_{n}" for n in range(14)]
    pipe = pipeline(
        channels={name: Limits(high=50.0 if name == "sensor_3" else None) for name in names},
        policy=AlertPolicy(clear_after=4),
    )
    readings = [
        Reading(
            {name: 55.0 if name == "sensor_3" and 30 <= k < 50 else 20.0 + n + k % 3},
            START + (14 * k + n) * SECOND,
        )
        for k in range(60)
        for n, name in enumerate(names)
    ]
    found = [one for one in alerts(play(pipe, readings)) if one.kind == "range" and one.event != "update"]
    assert [(one.event, one.channels, one.updated_at) for one in found] == [
        ("raise", ("sensor_3",), START + (14 * 30 + 3) * SECOND),
        ("clear", ("sensor_3",), START + (14 * 53 + 3) * SECOND),
    ]


@pytest.mark.parametrize("apart", [MINUTE, 400 * MINUTE])
def test_a_device_cannot_make_a_storm(apart: int) -> None:
    """Whatever times it gives its readings, within a minute of arrival it makes twelve events."""
    pipe = pipeline(channels={"x": Limits(high=10.0)}, policy=AlertPolicy(clear_after=1, cooldown=0))
    readings = [Reading({"x": 20.0 if k % 2 else 5.0}, START + k * apart, arrival=START) for k in range(200)]
    found = play(pipe, readings)
    assert len(alerts(found)) == 12
    assert {event.reason for event in found if isinstance(event, AlertSuppressed)} == {"storm"}
    later = Reading({"x": 20.0}, START + 200 * apart, arrival=START + 2 * MINUTE)
    assert [one.event for one in alerts(play(pipe, [later]))] == ["raise"]


def test_the_end_of_a_forgotten_device() -> None:
    """Its alert says that it was forgotten."""
    pipe = pipeline()
    values = ROOM[:400].copy()
    values[390:] = 60.0
    play(pipe, room(values))
    (cleared,) = alerts(pipe.process(Forgotten(START + 500 * MINUTE, "s", "d0"))["s"].events)
    assert (cleared.event, cleared.ended_because) == ("clear", "forgotten")
