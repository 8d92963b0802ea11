"""Whole alerts, from readings to events: what they say, and when a device's state changes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings

from stream_detector.core.alerts.machine import alert_id
from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.events import (
    AlertChanged,
    AlertSuppressed,
    ChannelAdded,
    Contribution,
    Counts,
    DeviceStateChanged,
    Expected,
    ModelReplaced,
)
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import Gap, ModelSet, Started, Tick
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.detectors.light import Light
from tests.core.strategies import SECOND, START, Distance, Reading, Story, batch, stories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stream_detector.core.events import CoreEvent
    from stream_detector.core.records import Record
    from stream_detector.core.scoring.detector import Detector


class WithoutLags(Distance):
    """Needs no reading that reports all channels at once."""

    features = ("value", "mean")


def pipeline(detector: Callable[[], Detector] = Light, **spec: Any) -> Pipeline:
    """Return a pipeline with one stream."""
    return Pipeline([StreamSpec("s", **spec)], detector, lambda _: detector())


def events(pipe: Pipeline, *records: Record) -> list[CoreEvent]:
    """Return what records give, one list."""
    return [
        event for record in records for outcome in pipe.process(record).values() for event in outcome.events
    ]


def alerts(found: Iterable[CoreEvent]) -> list[AlertChanged]:
    """Return the alerts among events."""
    return [event for event in found if isinstance(event, AlertChanged)]


def states(found: Iterable[CoreEvent]) -> list[tuple[str | None, str]]:
    """Return the changes of state among events."""
    return [(event.previous, event.state) for event in found if isinstance(event, DeviceStateChanged)]


def usual(count: int, start: int = 0, device: str = "d1", **fixed: float) -> list[Reading]:
    """Return readings of a pump, one a second: vibration 2.0 to 3.2, flow 40 to 44."""
    return [
        Reading(
            {"vibration": 2.0 + (7 * k % 13) / 10, "flow": 40.0 + 11 * k % 5, **fixed},
            START + k * SECOND,
            device,
        )
        for k in range(start, start + count)
    ]


LIMITS = {"vibration": Limits("mm/s"), "flow": Limits("l/s", 10.0, 60.0)}


def test_a_point_alert_explains_itself() -> None:
    """It says what happened, what was expected, which channel did it and how sure that is."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(200)))
    found = events(pipe, batch(usual(1, 200, vibration=9.7)))
    (alert,) = alerts(found)
    window = [reading.values["vibration"] for reading in usual(64, 136)]
    mean, reach = np.mean(window), 3 * np.std(window)
    assert (alert.event, alert.kind, alert.device, alert.tags) == ("raise", "point", "d1", {"site": "north"})
    assert alert.id == alert_id(
        ("s", "d1", "point"), alert.started_at, pipe.streams["s"].devices.last_identity(0)[1]
    )
    assert alert.started_at == alert.updated_at == START + 200 * SECOND
    assert alert.ended_at is None
    assert alert.values == {"vibration": 9.7, "flow": 40.0}
    assert alert.expected["vibration"].value == pytest.approx(mean, abs=1e-5)
    assert alert.expected["vibration"].lower == pytest.approx(mean - reach, abs=1e-5)
    assert alert.expected["vibration"].upper == pytest.approx(mean + reach, abs=1e-5)
    assert alert.contributions == (Contribution("vibration", 1.0),)
    assert alert.reason == "vibration 9.7 mm/s is above its expected 1.47–3.721 (100 % of the score)"  # noqa: RUF001
    assert alert.score >= 1.0
    assert alert.score == pytest.approx(alert.raw_score / alert.threshold, rel=1e-8)
    assert 0.9 < alert.confidence < 1.0
    assert (alert.model_name, alert.model_version) == ("light", "1")
    assert states(found) == [("ok", "alerting")]


def test_a_point_alert_ends() -> None:
    """After ten usual readings it is cleared, and the device is ok again."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(200)), batch(usual(1, 200, vibration=9.7)))
    found = events(pipe, batch(usual(12, 201)))
    (alert,) = alerts(found)
    assert (alert.event, alert.seq, alert.reason) == ("clear", 2, "back to normal for 10 readings")
    assert alert.ended_at == alert.updated_at == START + 210 * SECOND
    assert alert.score < 1.0 <= alert.peak_score
    assert states(found) == [("alerting", "ok")]


def test_a_range_alert_needs_no_warm_up() -> None:
    """The first reading beyond a limit raises; the limits are what was expected."""
    (alert,) = alerts(events(pipeline(channels=LIMITS), batch(usual(1, flow=85.0))))
    assert (alert.event, alert.kind, alert.severity, alert.score) == ("raise", "range", "critical", 2.0)
    assert alert.reason == "flow 85 l/s is above its limit 60 l/s"
    assert alert.expected == {"flow": Expected(None, 10.0, 60.0)}
    assert alert.contributions == (Contribution("flow", 1.0),)


def test_a_held_value_stays_out_of_range() -> None:
    """With a topic for each channel, the others' readings do not end an alert."""
    pipe = pipeline(channels=LIMITS)
    readings = [
        Reading({name: 85.0 if name == "flow" else 2.0}, START + k * SECOND, "d1")
        for k in range(60)
        for name in ("flow", "vibration")
    ]
    assert [alert.event for alert in alerts(events(pipe, batch(readings)))] == ["raise"]


def test_a_stuck_alert_explains_itself() -> None:
    """It names the value, for how long, and what was usual; it ends when the value moves."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(200)))
    found = alerts(events(pipe, batch(usual(38, 200, flow=44.5) + usual(12, 238))))
    raised, cleared = (alert for alert in found if alert.kind == "stuck")
    assert raised.reason == "flow has been exactly 44.5 l/s for 37 readings; more than 1 in a row is unusual"
    assert (raised.event, raised.score, raised.raw_score, raised.threshold) == ("raise", 1.0, 36.0, 36.0)
    assert raised.started_at == START + 236 * SECOND
    assert raised.contributions[0].channel == "flow"
    assert cleared.event == "clear"


def test_silence_begins_and_ends() -> None:
    """A tick raises it, the next reading ends it; it began with the last reading before."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(150)))
    last = START + 149 * SECOND
    assert events(pipe, *(Tick(last + k * SECOND) for k in range(5))) == []
    found = events(pipe, *(Tick(last + k * SECOND) for k in range(5, 9)))
    (raised,) = alerts(found)
    identity = pipe.streams["s"].devices.last_identity(0)[1]
    assert (raised.event, raised.kind, raised.score) == ("raise", "silence", 1.0)
    assert raised.id == alert_id(("s", "d1", "silence"), last, identity)
    assert (raised.started_at, raised.updated_at) == (last, last + 5 * SECOND)
    assert raised.reason == "no reading for 5 s; one came at least every 1 s before"
    assert (raised.raw_score, raised.threshold) == (5.0, 5.0)
    assert raised.confidence == pytest.approx(149 / 150)
    assert states(found) == [("ok", "silent")]

    found = events(pipe, batch(usual(2, 160)))
    (cleared,) = alerts(found)
    assert (cleared.event, cleared.reason, cleared.id) == ("clear", "speaks again", raised.id)
    assert (cleared.score, cleared.raw_score) == (0.0, 0.0)
    assert cleared.ended_at == START + 160 * SECOND
    assert states(found) == [("silent", "ok")]


def test_a_device_whose_readings_are_all_late_is_not_silent() -> None:
    """Whoever is heard is not silent: the next tick ends it, though no reading is taken in."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(150)))
    at = START + 160 * SECOND
    (raised,) = alerts(events(pipe, Tick(at)))
    late = usual(1)[0]._replace(arrival=at + SECOND)
    assert events(pipe, batch([late])) == []
    found = events(pipe, Tick(at + 2 * SECOND), Tick(at + 3 * SECOND))
    (cleared,) = alerts(found)
    assert (cleared.event, cleared.reason, cleared.id) == ("clear", "speaks again", raised.id)
    assert (cleared.score, cleared.raw_score, cleared.ended_at) == (0.0, 0.0, at + 2 * SECOND)
    assert states(found) == [("silent", "ok")]
    assert not pipe.streams["s"].devices.table["open"][0]


def test_silence_is_not_our_deafness() -> None:
    """Time in which nobody could hear does not count, and silence after it does."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(150)))
    last = START + 149 * SECOND
    back = last + 600 * SECOND
    assert events(pipe, Gap(last, back), Tick(back), Tick(back + 4 * SECOND)) == []
    assert [alert.event for alert in alerts(events(pipe, Tick(back + 5 * SECOND)))] == ["raise"]


def test_a_gap_before_the_last_reading_is_no_excuse() -> None:
    """What piled up meanwhile may arrive before the gap is recorded: silence counts from then on."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(150)))
    back = START + 750 * SECOND
    piled = [reading._replace(arrival=back - SECOND) for reading in usual(600, 150)]
    assert events(pipe, batch(piled), Gap(START + 149 * SECOND, back), Tick(back + SECOND)) == []
    found = events(pipe, Tick(back + 60 * SECOND))
    assert [alert.kind for alert in alerts(found)] == ["silence"]


def test_a_new_device_is_not_silent() -> None:
    """Until its cadence is known, nothing is expected of it."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch(usual(20)))
    assert events(pipe, Tick(START + 10_000 * SECOND)) == []
    events(pipe, batch(usual(1, 20)))
    assert len(alerts(events(pipe, Tick(START + 10_000 * SECOND)))) == 1


def test_silence_can_be_left_out() -> None:
    """Where it is not judged, no tick raises anything."""
    pipe = pipeline(channels=LIMITS, silence_at_least=None)
    assert alerts(events(pipe, batch(usual(150)), Tick(START + 10**6 * SECOND))) == []


def test_the_states_of_a_device() -> None:
    """Warming up with the first reading, ok with the first score, and nothing in between."""
    found = events(pipeline(), batch(usual(150)))
    assert states(found) == [(None, "warming_up"), ("warming_up", "ok")]
    warm, ok = (event for event in found if isinstance(event, DeviceStateChanged))
    assert (warm.score, warm.updated_at) == (None, START)
    assert (ok.score, ok.updated_at) == (0.0, START + 100 * SECOND)


def test_silent_wins_over_alerting() -> None:
    """A device with an open alert that falls silent is silent; both are listed."""
    pipe = pipeline(channels=LIMITS)
    events(pipe, batch([*usual(150), *usual(1, 150, flow=85.0)]))
    found = events(pipe, Tick(START + 160 * SECOND))
    state = found[-1]
    assert isinstance(state, DeviceStateChanged)
    assert (state.state, state.severity) == ("silent", "critical")
    assert {active.kind for active in state.active} >= {"range", "silence"}


def test_a_new_channel_is_told_and_keeps_the_past() -> None:
    """A device that reports something new keeps its window; the event stands where it happened."""
    pipe = pipeline()
    events(pipe, batch(usual(150)))
    odd = usual(1, 150, vibration=50.0)
    wider = [reading._replace(values={**reading.values, "amps": 1.0}) for reading in usual(2, 151)]
    found = events(pipe, batch([*odd, *wider]))
    assert [type(event) for event in found] == [AlertChanged, DeviceStateChanged, ChannelAdded]
    assert found[-1] == ChannelAdded("s", "d1", "amps", START + 151 * SECOND)
    assert pipe.streams["s"].channels_of("d1") == ("amps", "flow", "vibration")
    layout = pipe.streams["s"].layouts[-1]
    assert layout.table["length"][0] == 64
    assert layout.table["known"][0].tolist() == [2, 64, 64]


def test_undeclared_channels_are_not_looked_at() -> None:
    """Where channels are declared they are all there is."""
    pipe = pipeline(channels=LIMITS)
    assert not any(isinstance(event, ChannelAdded) for event in events(pipe, batch(usual(120, amps=1.0))))
    assert pipe.streams["s"].channels_of("d1") == ("vibration", "flow")


def test_a_model_waits_for_its_channels() -> None:
    """Devices that lack a channel of the model warm up; nothing breaks, and the others are scored."""
    pipe = pipeline(Distance, window=4)
    readings = [Reading({"b": float(k)}, START + k * SECOND, "poor") for k in range(9)]
    readings += [Reading({"a": float(k), "b": 1.0}, START + k * SECOND, "rich") for k in range(9)]
    counts = pipe.process(batch(readings))["s"].counts
    assert counts == Counts(scored=5, warming_up=13)


def test_held_values_complete_a_row() -> None:
    """With a topic for each channel, a model scores as soon as the values of all are recent."""
    pipe = pipeline(WithoutLags, window=8)
    readings = [
        Reading({name: 1.0 + k % 3}, START + k * SECOND + c, "d1")
        for k in range(20)
        for c, name in enumerate("ab")
    ]
    assert pipe.process(batch(readings))["s"].counts == Counts(scored=32, warming_up=8)
    late = [Reading({"a": 1.0}, START + 26 * SECOND, "d1")]  # b is older than five of its intervals
    assert pipe.process(batch(late))["s"].counts == Counts(warming_up=1)


def test_held_back_alerts_are_told_once() -> None:
    """Below the least severity the policy raises nothing and says so."""
    pipe = pipeline(channels=LIMITS, policy=AlertPolicy(min_severity="critical"))
    found = events(pipe, batch(usual(3, flow=70.0)))
    assert alerts(found) == []
    assert [event for event in found if isinstance(event, AlertSuppressed)] == [
        AlertSuppressed("s", "d1", "range", "min_severity")
    ]


def test_held_back_silence_is_told_once_each_time() -> None:
    """Silence that is held back is over with the next reading, and told again the next time."""
    pipe = pipeline(channels=LIMITS, policy=AlertPolicy(min_severity="critical"))
    events(pipe, batch(usual(150)))
    quiet = [Tick(START + 155 * SECOND), Tick(START + 156 * SECOND)]
    again = [Tick(START + 165 * SECOND), Tick(START + 166 * SECOND)]
    told = AlertSuppressed("s", "d1", "silence", "min_severity")
    assert events(pipe, *quiet) == [told]
    assert events(pipe, batch(usual(10, 150))) == []
    assert events(pipe, *again) == [told]


def test_another_model_takes_over() -> None:
    """It is told, and what the old one learned is dropped: an online detector warms up again."""
    pipe = pipeline()
    events(pipe, batch(usual(150)))
    assert events(pipe, ModelSet(START, "s", "live", "light")) == [
        ModelReplaced(START, "s", "live", "light", "1")
    ]
    counts = pipe.process(batch(usual(150, 150)))["s"].counts
    assert counts == Counts(scored=50, warming_up=100)


class Elsewhere(Distance):
    """Needs a channel that no device here has."""

    channels = ("pressure",)


@pytest.mark.parametrize("takes_over", [Light, Elsewhere])
def test_an_alert_ends_when_its_device_is_no_longer_scored(takes_over: Callable[[], Detector]) -> None:
    """A model that says nothing of a device does not hold its alert open for ever."""
    pipe = Pipeline([StreamSpec("s", channels=LIMITS)], Light, lambda _: takes_over())
    events(pipe, batch(usual(200)), batch(usual(1, 200, vibration=9.7)))
    assert alerts(events(pipe, ModelSet(START, "s", "live", "x"), batch(usual(9, 201)))) == []
    found = events(pipe, batch(usual(3, 210)))
    (alert,) = alerts(found)
    assert (alert.event, alert.seq, alert.reason) == ("clear", 2, "no longer scored for 10 readings")
    assert (alert.score, alert.raw_score, alert.confidence, alert.contributions) == (0.0, 0.0, 0.0, ())
    assert alert.ended_at == START + 210 * SECOND
    assert states(found) == [("alerting", "ok")]
    json.dumps(asdict(replace(alert, tags={})), allow_nan=False)


def test_without_a_score_nothing_ends_that_has_not_begun() -> None:
    """Readings without a score are no evidence against the anomalies before them."""
    pipe = pipeline(WithoutLags, window=8, channels={"a": Limits(), "b": Limits()})
    readings = [Reading({"a": 1.0 + k % 3, "b": 1.0 + k % 2}, START + k * SECOND, "d1") for k in range(30)]
    events(pipe, batch(readings))
    first = Reading({"a": 1e6, "b": 1.0}, START + 30 * SECOND, "d1")
    unknown = [Reading({"a": float("nan")}, START + k * SECOND, "d1") for k in range(100, 104)]
    second = Reading({"a": 2e6, "b": 1.0}, START + 104 * SECOND, "d1")
    outcome = pipe.process(batch([first, *unknown, second]))["s"]
    assert outcome.counts == Counts(scored=2, warming_up=4)  # what is held is too old
    found = alerts(outcome.events)
    assert [(alert.event, alert.kind) for alert in found] == [("raise", "point")]


def test_a_start_changes_nothing() -> None:
    """It only says which configuration judges what follows."""
    assert pipeline().process(Started(START, "abc")) == {}


def test_an_empty_batch_changes_nothing() -> None:
    """No readings, no events, no error."""
    pipe = pipeline()
    assert events(pipe, batch([])) == []
    assert len(pipe.streams["s"].devices) == 0


@given(steps=stories)
@settings(max_examples=40, deadline=None)
def test_every_alert_explains_itself(steps: list[tuple[Any, ...]]) -> None:
    """Shares are positive, fall and sum to 1; scores are bounded; every alert has a sentence."""
    pipe, story = pipeline(Distance, channels={"a": Limits("V", 0.0, 30.0), "b": Limits()}, window=5), Story()
    played = story.play([("run", 30), *steps])
    for record in played:
        for alert in alerts(events(pipe, batch([record]) if isinstance(record, Reading) else record)):
            shares = [contribution.share for contribution in alert.contributions]
            assert shares == sorted(shares, reverse=True)
            assert all(share > 0 for share in shares)
            assert sum(shares) == pytest.approx(1.0 if shares else 0.0)
            assert shares or alert.event == "clear" or alert.kind in {"silence", "data_quality"}
            assert alert.reason
            assert 0.0 <= alert.score <= 1000.0
            assert alert.event == "clear" or alert.score >= 1.0
            assert 0.0 <= alert.confidence <= 1.0
            assert alert.started_at <= alert.updated_at
