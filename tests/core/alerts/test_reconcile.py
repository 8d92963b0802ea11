"""After a restart the open alerts are those that were published, whatever the code would compute now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.core.events import AlertChanged, DeviceStateChanged
from stream_detector.core.records import Tick
from tests.core.devices.pump import alerts, events, of, pump, usual
from tests.core.replaying import states
from tests.core.strategies import SECOND, START, Distance, batch

if TYPE_CHECKING:
    from stream_detector.core.devices.snapshot import OpenAlert
    from stream_detector.core.pipeline import Pipeline


def raised_range(pipeline: Pipeline) -> list[OpenAlert]:
    """Return the alerts of a device that exceeds its limit."""
    events(pipeline, batch([*usual(30), *usual(1, 30, a=30.0)]))
    return pipeline.streams["s"].open_alerts()


def test_what_was_told_is_what_is_open() -> None:
    """An alert is listed as its last event told it."""
    pipeline = pump()
    (raised,) = raised_range(pipeline)
    events(pipeline, batch(usual(1, 31, a=31.0)))  # worse, but not worth an update
    assert pipeline.streams["s"].open_alerts() == [raised]
    assert (raised.kind, raised.seq, raised.severity, raised.peak) == ("range", 1, "critical", 2.0)
    assert raised.started_at == raised.published_at == START + 30 * SECOND


def test_an_alert_that_is_open_only_for_others_is_taken_over() -> None:
    """It ends as usual, after so many normal readings, with the next number under its own id."""
    (raised,) = raised_range(pump())
    pipeline = pump()
    stream = pipeline.streams["s"]
    events(pipeline, batch(usual(31)))
    stored = replace(raised, seq=3)
    assert stream.reconcile([stored]) == 1
    assert stream.open_alerts() == [stored]
    assert stream.reconcile([stored]) == 0
    assert stream.census()["alerting"] == 1
    assert stream.idle_devices(9) == []
    assert events(pipeline, batch(usual(2, 31))) == []
    cleared, state = events(pipeline, batch(usual(1, 33)))
    assert isinstance(cleared, AlertChanged)
    assert (cleared.event, cleared.id, cleared.seq, cleared.peak_score) == ("clear", raised.id, 4, 2.0)
    assert isinstance(state, DeviceStateChanged)
    assert (state.previous, state.state, state.active) == ("alerting", "warming_up", ())


def test_the_number_of_the_last_event_wins() -> None:
    """Where the same alert was told more often than it would be here, it goes on from there."""
    pipeline = pump()
    (raised,) = raised_range(pipeline)
    assert pipeline.streams["s"].reconcile([replace(raised, seq=7)]) == 1
    assert alerts(events(pipeline, batch(usual(3, 31)))) == [("clear", "range", 8)]


def test_an_alert_that_is_open_for_nobody_else_is_dropped() -> None:
    """No event says so, and what raised it does not raise it again."""
    pipeline = pump()
    raised_range(pipeline)
    stream = pipeline.streams["s"]
    assert stream.reconcile([]) == 1
    assert (stream.open_alerts(), stream.census()["warming_up"]) == ([], 1)
    assert events(pipeline, batch(usual(20, 31))) == []


def test_an_alert_that_is_dropped_takes_its_beginnings_along() -> None:
    """A new one needs new anomalies, all of them: its id is one that was never told."""
    pipeline = pump(Distance)
    odd = [usual(1, k, b=300.0 * k)[0] for k in range(20, 24)]
    events(pipeline, batch([*usual(20), *odd[:2]]))
    (raised,) = pipeline.streams["s"].open_alerts()
    assert pipeline.streams["s"].reconcile([]) == 1
    assert events(pipeline, batch(odd[2:3])) == []
    assert alerts(events(pipeline, batch(odd[3:]))) == [("raise", "point", 1)]
    assert pipeline.streams["s"].open_alerts()[0].id != raised.id


def test_an_alert_under_another_id_is_replaced() -> None:
    """One of them was published, so that one counts."""
    pipeline = pump()
    (raised,) = raised_range(pipeline)
    stored = replace(raised, id="f" * 24)
    assert pipeline.streams["s"].reconcile([stored]) == 1
    assert pipeline.streams["s"].open_alerts() == [stored]
    assert of(pipeline).published == (("f" * 24, "critical", False),)


@pytest.mark.parametrize("kind", ["range", "silence"])
def test_an_alert_of_an_unknown_device_can_end(kind: Any) -> None:
    """Its device gets a blank slot; what it does next, or the next tick, ends the alert."""
    (raised,) = raised_range(pump())
    pipeline = pump()
    stored = replace(raised, device="lost", kind=kind)
    assert pipeline.streams["s"].reconcile([stored, replace(stored, stream="another")]) == 1
    assert pipeline.streams["s"].open_alerts() == [stored]
    assert of(pipeline, "lost").layout.channels == ()
    copied = pump()
    copied.streams["s"].restore(of(pipeline, "lost"))
    assert states(copied) == states(pipeline)
    found = events(pipeline, Tick(START + 40 * SECOND), batch(usual(3, 41, device="lost")))
    assert alerts(found) == [("clear", kind, 2)]
    assert pipeline.streams["s"].census()["warming_up"] == 1
