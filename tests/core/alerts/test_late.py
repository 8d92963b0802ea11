"""Late readings are seen: by their limits, and by an alert where a device is hardly judged any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream_detector.core.events import AlertChanged, DeviceStateChanged
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.detectors.light import Light
from tests.core.strategies import SECOND, START, Reading, batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.core.events import CoreEvent

LIVE = START + 10_000 * SECOND
"""When the device is heard again, with a backlog of what it measured since `START`."""


def level(at: int, value: float = 2.0) -> Reading:
    """Return a reading of a logger; its limit is 5 m."""
    return Reading({"level": value + at % 7 / 100}, at, "d", arrival=max(at, LIVE))


def logger(**spec: Any) -> Pipeline:
    """Return a pipeline of one logger, which has spoken 150 times until `LIVE`."""
    pipe = Pipeline(
        [StreamSpec("s", channels={"level": Limits("m", high=5.0)}, **spec)], Light, lambda _: Light()
    )
    events(pipe, [level(LIVE - (150 - k) * SECOND) for k in range(150)])
    return pipe


def events(pipe: Pipeline, readings: Sequence[Reading]) -> list[CoreEvent]:
    """Return what readings give."""
    return pipe.process(batch(readings))["s"].events


def told(found: Sequence[CoreEvent], *kinds: str) -> list[tuple[str, str, int]]:
    """Return event, kind and time (s after `START`) of the alerts of some kinds."""
    return [
        (event.event, event.kind, (event.updated_at - START) // SECOND)
        for event in found
        if isinstance(event, AlertChanged) and event.kind in kinds and event.event != "update"
    ]


def live(first: int, count: int) -> list[Reading]:
    """Return live readings, a second apart."""
    return [level(LIVE + (first + k) * SECOND) for k in range(count)]


def backlog(first: int, count: int, value: float = 2.0) -> list[Reading]:
    """Return late readings, a second apart."""
    return [level(START + (first + k) * SECOND, value) for k in range(count)]


def test_a_backlog_beside_live_readings() -> None:
    """What is beyond its limit is told with its own time, and ends with the backlog's own later readings."""
    pipe = logger()
    stored = [*backlog(0, 100), *backlog(100, 30, 9.5), *backlog(130, 100)]
    mixed = [
        each for k, late in enumerate(stored) for each in ([late, *live(k, 1)] if k % 10 == 0 else [late])
    ]
    found = events(pipe, mixed)
    (raised, cleared) = told(found, "range")
    assert raised == ("raise", "range", 100)
    assert (cleared[:2], 129 < cleared[2] <= 139) == (("clear", "range"), True)
    assert [event for event, *_ in told(found, "data_quality")] == ["raise"]
    states = [event.state for event in found if isinstance(event, DeviceStateChanged)]
    assert states[-1] == "alerting"
    after = events(pipe, live(300, 10))
    assert told(after, "range", "data_quality") == [("clear", "data_quality", 10_309)]
    assert [event.state for event in after if isinstance(event, DeviceStateChanged)] == ["ok"]


def test_it_explains_itself() -> None:
    """How many were late and by how much; the time is that of the newest reading."""
    found = events(logger(), backlog(0, 17))
    (alert,) = (event for event in found if isinstance(event, AlertChanged) and event.kind == "data_quality")
    assert alert.reason == (
        "17 of its last 32 readings came after newer ones, this one 2.8 h late: they are judged by their"
        " limits only"
    )
    assert (alert.started_at, alert.severity) == (LIVE - SECOND, "warning")
    assert (alert.score, alert.raw_score, alert.threshold, alert.channels) == (1.0, 17.0, 17.0, ())


def test_a_clock_that_has_gone_back_is_one_alert() -> None:
    """It stays open until ten readings in a row are judged again."""
    pipe = logger()
    found = events(pipe, backlog(0, 500))
    assert told(found, "data_quality") == [("raise", "data_quality", 9999)]
    assert told(events(pipe, [*live(0, 9), *backlog(500, 1), *live(9, 9)]), "data_quality") == []
    assert told(events(pipe, live(18, 1)), "data_quality") == [("clear", "data_quality", 10_018)]


def test_some_late_readings_are_no_alert() -> None:
    """One in three, for ever, is what some networks do."""
    pipe = logger()
    mixed = [each for k in range(100) for each in (*live(2 * k, 2), *backlog(k, 1))]
    assert told(events(pipe, mixed), "range", "data_quality") == []


def test_newer_readings_do_not_end_it_at_once() -> None:
    """The device is well now, but its past is still coming in: four newer readings count as one."""
    pipe = logger()
    assert told(events(pipe, backlog(0, 1, 9.5)), "range") == [("raise", "range", 0)]
    assert told(events(pipe, live(0, 36)), "range") == []
    assert told(events(pipe, live(36, 4)), "range")[0][:2] == ("clear", "range")


def test_the_past_does_not_end_what_is_now() -> None:
    """Late readings within the limits say nothing of a newer one beyond them, and later live ones do."""
    pipe = logger()
    events(pipe, [level(LIVE, 9.5)])
    assert told(events(pipe, [*backlog(0, 40), *backlog(40, 5, 9.5), *backlog(45, 40)]), "range") == []
    assert told(events(pipe, live(1, 10)), "range") == [("clear", "range", 10_010)]


def test_the_past_opens_nothing_again() -> None:
    """A late reading beyond its limit is an alert of its own, however short the cooldown."""
    pipe = logger()
    found = events(pipe, [level(LIVE, 9.5), *live(1, 10), *backlog(0, 1, 9.5)])
    ids = [event.id for event in found if isinstance(event, AlertChanged) and event.event == "raise"]
    assert len(set(ids)) == len(ids) == 2 + len(told(found, "point")) // 2


def test_what_lateness_allows_is_not_late() -> None:
    """Out of order by less, those are judged that are newer than the 32nd last one taken in."""
    pipe = logger(lateness=100 * SECOND)
    back = [level(LIVE - k * SECOND + SECOND // 2) for k in range(1, 30)]
    outcome = pipe.process(batch(back))["s"]
    assert outcome.counts.late == 29 - 17
    assert told(outcome.events, "data_quality") == []
