"""Memory as values: whoever stores the devices and restores them, here or elsewhere, changes no event."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.devices.table import Column
from stream_detector.core.events import AlertChanged, DeviceStateChanged
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import Acknowledged, Forgotten, Gap, ModelSet, Readings, Tick
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.core.stream import Stream
from stream_detector.detectors.light import Light
from tests.core.replaying import SCENES, STORY, batches, fresh, meant, process, scene, states
from tests.core.strategies import DETECTORS, SECOND, SLOW, START, Distance, Reading, batch, stories

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from stream_detector.core.devices.snapshot import DeviceState, OpenAlert
    from stream_detector.core.events import CoreEvent
    from stream_detector.core.records import Record
    from stream_detector.core.scoring.detector import Detector

QUICK = [name for name in DETECTORS if name not in SLOW]


def moved(pipeline: Pipeline, new: Pipeline, last_model: ModelSet | None, order: random.Random) -> Pipeline:
    """Return a new pipeline with all memory of another one, restored in some order."""
    found = list(states(pipeline).values())
    order.shuffle(found)
    if last_model is not None:
        new.process(last_model)
    for state in found:
        new.streams["s"].restore(state)
    return new


@pytest.mark.parametrize("detector", QUICK)
@given(**STORY, places=st.sets(st.integers(0, 60), max_size=3), order=st.randoms(use_true_random=False))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_restart_changes_no_event(detector: str, **story: Any) -> None:
    """Any story goes on in another process as if nothing had happened, and leaves equal memory."""
    the_law_holds_over_restarts(detector, **story)


@pytest.mark.parametrize("detector", sorted(SLOW))
@given(**STORY, places=st.sets(st.integers(0, 60), max_size=3), order=st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nor_does_it_with_the_slower_detectors(detector: str, **story: Any) -> None:
    """The same, with fewer stories."""
    the_law_holds_over_restarts(detector, **story)


def the_law_holds_over_restarts(
    detector: str,
    *,
    steps: list[tuple[Any, ...]],
    cut: Callable[[int], bool],
    setting: dict[str, Any],
    places: set[int],
    order: random.Random,
) -> None:
    """Play a story in one go, and with restarts before some records (and at the end)."""
    whole, story = scene(detector, **setting)
    here = copy.deepcopy(whole)
    records = batches(story.play(steps), cut)
    spec = {name: value for name, value in setting.items() if name != "cold"}
    expected = process(whole, records)

    last_model = None
    events, scores = [], []
    for i, record in enumerate(records):
        if i in places:
            here = moved(here, fresh(detector, **spec), last_model, order)
        if isinstance(record, ModelSet):
            last_model = record
        found = process(here, [record])
        events += found[0]
        scores += found[2]
    here = moved(here, fresh(detector, **spec), last_model, order)

    assert events == expected[0]
    assert scores == expected[2]
    assert states(here) == states(whole)
    assert here.streams["s"].census() == whole.streams["s"].census()
    reminded = here.streams["s"].open_alerts()
    assert {(alert.device, alert.kind): alert for alert in reminded} == {
        (alert.device, alert.kind): alert for alert in whole.streams["s"].open_alerts()
    }
    assert whole.streams["s"].reconcile(reminded) == 0
    assert states(here) == states(whole)


@pytest.mark.parametrize("detector", QUICK)
@given(**STORY)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_touched_names_the_devices_that_changed(
    detector: str, steps: list[tuple[Any, ...]], cut: Callable[[int], bool], setting: dict[str, Any]
) -> None:
    """Readings touch whom they come from, a tick exactly those whose memory is not as before."""
    pipeline, story = scene(detector, **setting)
    stream = pipeline.streams["s"]
    for record in batches(story.play(steps), cut):
        before, names_before = states(pipeline), list(stream.devices.names)
        outcomes = pipeline.process(meant(pipeline, record))
        touched = outcomes["s"].touched.tolist() if outcomes else []
        assert len(set(touched)) == len(touched)
        names = {stream.devices.names[slot] for slot in touched}
        changed = {name for name, state in states(pipeline).items() if before.get(name) != state}
        match record:
            case Readings():
                assert names == set(record.devices)
                assert changed <= names
            case Tick() | Acknowledged():
                assert names == changed
            case Forgotten():
                assert {names_before[slot] for slot in touched} == before.keys() - states(pipeline).keys()
            case _:
                assert not names


@pytest.mark.parametrize("detector", QUICK)
@given(steps=stories, setting=SCENES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ticks_that_touch_nothing_need_not_have_been(
    detector: str, steps: list[tuple[Any, ...]], setting: dict[str, Any]
) -> None:
    """Where they are left out, as in a journal, the rest gives equal events and leaves equal memory."""
    live, story = scene(detector, **setting)
    replayed = copy.deepcopy(live)
    records = story.play([each for step in steps for each in (step, ("quiet", 2))])
    events: list[CoreEvent] = []
    journal: list[Record] = []
    for record in batches(records, lambda _: False):
        outcomes = live.process(record)
        events += [event for outcome in outcomes.values() for event in outcome.events]
        if not isinstance(record, Tick) or outcomes["s"].touched.size:
            journal.append(record)
    found = [event for record in journal for out in replayed.process(record).values() for event in out.events]
    assert found == events
    assert states(replayed) == states(live)


class Shell:
    """Keeps idle devices elsewhere, as their states and what they missed, until their next reading."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.stream = pipeline.streams["s"]
        self.away: dict[str, tuple[DeviceState, list[Gap]]] = {}

    def evict(self, limit: int) -> None:
        """Let go of the devices that can be missed."""
        for slot in self.stream.idle_devices(limit):
            self.away[self.stream.devices.names[slot]] = self.stream.state_of(slot), []
            self.stream.forget(slot)

    def process(self, record: Record) -> list[CoreEvent]:
        """Bring back whom a record needs, and take it in."""
        if isinstance(record, Gap):
            for _, missed in self.away.values():
                missed.append(record)
        if isinstance(record, Readings):
            self.fetch(record.devices)
        if isinstance(record, Forgotten):
            self.fetch([record.device])
        return process(self.pipeline, [record])[0]

    def fetch(self, devices: Sequence[str]) -> None:
        """Bring devices back."""
        for state, missed in [self.away.pop(name) for name in dict.fromkeys(devices) if name in self.away]:
            slot = self.stream.restore(state)
            for gap in missed:
                self.stream.miss(gap.start, gap.stop, np.array([slot]))


@pytest.mark.parametrize("detector", QUICK)
@given(
    **STORY,
    moments=st.dictionaries(st.integers(0, 60), st.integers(1, 4), max_size=8),
    silence=st.sampled_from([3 * SECOND, None, None]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nobody_notices_when_an_idle_device_is_away(
    detector: str,
    steps: list[tuple[Any, ...]],
    cut: Callable[[int], bool],
    setting: dict[str, Any],
    moments: dict[int, int],
    silence: int | None,
) -> None:
    """Idle devices may be forgotten at any moment, and restored before their next reading."""
    pipeline, story = scene(detector, **setting, silence=silence)
    shell = Shell(copy.deepcopy(pipeline))
    records = batches(story.play(steps), cut)
    expected = process(pipeline, records)[0]
    events = []
    for i, record in enumerate(records):
        if i in moments:
            shell.evict(moments[i])
        events += shell.process(record)
    shell.fetch(list(shell.away))
    assert events == expected
    assert states(shell.pipeline) == states(pipeline)


LIMITS = {"a": Limits("bar", 0.0, 20.0), "b": Limits()}
POLICY = AlertPolicy(clear_after=3, cooldown=5 * SECOND)


def pump(detector: Callable[[], Detector] = Light, **spec: Any) -> Pipeline:
    """Return a pipeline for pumps."""
    spec = {"channels": LIMITS, "window": 8, "policy": POLICY, **spec}
    return Pipeline([StreamSpec("s", **spec)], detector, lambda _: detector())


def usual(count: int, start: int = 0, device: str = "d1", **fixed: float) -> list[Reading]:
    """Return readings of a device, one a second, all within the limits."""
    return [
        Reading({"a": 10.0 + (7 * k % 13) / 10, "b": 5.0 + 11 * k % 5, **fixed}, START + k * SECOND, device)
        for k in range(start, start + count)
    ]


def events(pipeline: Pipeline, *records: Record) -> list[CoreEvent]:
    """Return what records give, one list."""
    return process(pipeline, records)[0]


def alerts(found: Sequence[CoreEvent]) -> list[tuple[str, str, int]]:
    """Return event, kind and number of the alerts among events."""
    return [(event.event, event.kind, event.seq) for event in found if isinstance(event, AlertChanged)]


def of(pipeline: Pipeline, device: str = "d1") -> DeviceState:
    """Return the state of a device."""
    return states(pipeline)[device]


def cell(pipeline: Pipeline, name: str, device: str = "d1") -> Any:
    """Return a device's cell in one of the tables of its layout."""
    layout, row = pipeline.streams["s"].place_of(device) or pytest.fail(f"{device} has no layout")
    return next(table[name][row] for _, table in layout.tables() if name in table.arrays)


def test_a_state_is_a_value() -> None:
    """Neither later readings nor the device's end change it."""
    pipeline = pump()
    events(pipeline, batch([*usual(120), *usual(1, 120, a=30.0)]))
    state = of(pipeline)
    assert set(state.tracks) == {"range", "point"}
    before = copy.deepcopy(state)
    events(pipeline, batch([*usual(2, 121, a=90.0), *usual(5, 123)]))
    pipeline.streams["s"].forget(0)
    assert state == before
    other = pump()
    other.streams["s"].restore(state)
    events(other, batch(usual(5, 123)))
    assert state == before


def test_devices_of_a_layout_share_its_description() -> None:
    """It is one object, so who stores it may look it up by identity; it names every cell but slots."""
    pipeline = pump()
    events(pipeline, batch([*usual(3), *usual(3, device="d2")]))
    first, second = of(pipeline), of(pipeline, "d2")
    assert first.layout is second.layout
    assert first.layout.channels == ("a", "b")
    assert first.layout.detector == ("light", "1")
    named = {(cell.table, cell.name): (cell.dtype, cell.shape) for cell in first.layout.cells}
    assert named["device", "newest"] == ("<i8", ())
    assert named["layout", "ring"] == ("<f4", (2, 8))
    assert ("device", "row") not in named
    size = sum(np.dtype(cell.dtype).itemsize * int(np.prod(cell.shape)) for cell in first.layout.cells)
    assert size == len(first.row)


def test_a_restored_device_takes_the_place_of_the_one_that_is_there() -> None:
    """There is never a device twice, and the others stay as they are."""
    pipeline = pump()
    events(pipeline, batch([*usual(30), *usual(30, device="d2")]))
    then, other = of(pipeline), of(pipeline, "d2")
    events(pipeline, batch(usual(9, 30, a=50.0)))
    pipeline.streams["s"].restore(then)
    assert states(pipeline) == {"d1": then, "d2": other}
    assert pipeline.streams["s"].open_alerts() == []


def test_a_forgotten_device_leaves_nothing() -> None:
    """Its name, tags, tracks and rows are gone, and the next device that gets them begins blank."""
    pipeline = pump()
    stream = pipeline.streams["s"]
    events(pipeline, batch([*usual(130), *usual(1, 130, a=30.0)]))
    assert (stream.devices.tags, len(stream.open_alerts())) == ({0: {"site": "north"}}, 2)
    stream.forget(0)
    events(pipeline, Gap(START, START + 999 * SECOND), Tick(START + 1000 * SECOND))
    assert (len(stream.devices), stream.devices.tags, stream.open_alerts()) == (0, {}, [])
    assert stream.census() == {"warming_up": 0, "ok": 0, "alerting": 0, "silent": 0}
    assert stream.devices.table["unheard"][0] == 0
    new = pump()
    for each in (pipeline, new):
        events(each, batch(usual(5, 200, device="d3")))
    assert states(pipeline) == states(new)
    assert stream.devices.names == ["d3"]
    assert stream.layouts[0].table.size == 1


def test_a_row_of_the_wrong_length_is_refused() -> None:
    """The sentence names the device and both lengths; nothing is changed."""
    pipeline = pump()
    events(pipeline, batch(usual(30)))
    state = of(pipeline)
    broken = replace(state, row=state.row[:-1])
    said = f"^the row of device 'd1' has {len(state.row) - 1} bytes, its layout says {len(state.row)}; it is"
    with pytest.raises(ValueError, match=said):
        pipeline.streams["s"].restore(broken)
    assert states(pipeline) == {"d1": state}


class OtherVersion(Light):
    """The next version of a detector."""

    version = "2"


class OtherColumns(Light):
    """Learns something in another shape under the same name, which it should not."""

    def columns(self) -> Mapping[str, Column]:
        """Return one column of another shape."""
        return {**super().columns(), "usual": Column(np.int64, (64,))}


@pytest.mark.parametrize("detector", [OtherVersion, OtherColumns, Distance])
def test_another_detector_learns_anew(detector: Callable[[], Detector]) -> None:
    """Windows, cadence and identities are kept; what was learned is not, not even in part."""
    before, after = pump(), pump(detector)
    events(before, batch(usual(150)))
    after.streams["s"].restore(of(before))
    assert cell(after, "length") == 8
    assert after.process(batch(usual(1, 149)))["s"].counts.duplicate == 1
    for name in detector().columns():
        assert not cell(after, name).any()


def test_the_same_detector_set_anew_learns_anew() -> None:
    """As it does for the devices that were there when it was set."""
    pipeline = pump()
    stream = pipeline.streams["s"]
    events(pipeline, batch([*usual(150), *usual(150, device="d2")]))
    away = of(pipeline)
    stream.forget(stream.devices.slot_of["d1"])
    events(pipeline, ModelSet(START + 150 * SECOND, "s", "live", "light"))
    stream.restore(away)
    assert not cell(pipeline, "seen", "d1").any()
    assert not cell(pipeline, "seen", "d2").any()
    assert cell(pipeline, "length", "d1") == 8


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"window": 16}, id="another window"),
        pytest.param({"channels": {**LIMITS, "c": Limits()}}, id="another channel"),
    ],
)
def test_another_layout_begins_anew(changed: dict[str, Any]) -> None:
    """Windows and what was learned on them are blank; open alerts and identities are kept."""
    before, after = pump(), pump(**changed)
    events(before, batch([*usual(150), *usual(1, 150, a=30.0)]))
    after.streams["s"].restore(of(before))
    assert after.streams["s"].channels_of("d1") == tuple(changed.get("channels", LIMITS))
    assert cell(after, "length") == 0
    assert not cell(after, "seen").any()
    assert after.streams["s"].open_alerts() == before.streams["s"].open_alerts()
    found = events(after, batch(usual(4, 150)))
    assert ("clear", "range", 2) in alerts(found)


def test_learned_channels_are_kept() -> None:
    """A device comes back to the layout of its own channels, in whatever order devices come."""
    before, after = pump(channels={}), pump(channels={})
    events(before, batch([*usual(20), *usual(20, device="d2", c=1.0)]))
    for name in ("d2", "d1"):
        after.streams["s"].restore(of(before, name))
    assert after.streams["s"].channels_of("d2") == ("a", "b", "c")
    assert states(after) == states(before)


def test_cells_that_are_new_or_gone() -> None:
    """A version of the code with other cells takes those that it knows and begins blank with the rest."""
    before, after = pump(), pump()
    events(before, batch(usual(30)))
    state = of(before)
    unknown = [
        replace(each, name="gone") if each.name in {"heard", "changes"} else each
        for each in state.layout.cells
    ]
    after.streams["s"].restore(replace(state, layout=replace(state.layout, cells=tuple(unknown))))
    table = after.streams["s"].devices.table
    assert table["accepted"][0] == 30
    assert table["heard"][0] == Stream(StreamSpec("x"), Light()).devices.table.columns["heard"].fill
    assert cell(after, "length") == 8
    assert cell(after, "longest").tolist() == cell(before, "longest").tolist()
    assert cell(after, "changes").tolist() == [0, 0]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_reading_may_be_a_relapse(restarted: bool) -> None:  # noqa: FBT001
    """An alert is remembered for as long as a reading that is not too late can open it again."""
    pipeline = pump(lateness=4 * SECOND)
    events(pipeline, batch([*usual(30), *usual(1, 30, a=30.0), *usual(3, 31)]))  # over at 33
    events(pipeline, batch(usual(9, 34)), Tick(START + 42 * SECOND))
    if restarted:
        state, pipeline = of(pipeline), pump(lateness=4 * SECOND)
        pipeline.streams["s"].restore(state)
    late = usual(1, 38, a=31.0)[0]._replace(values={"a": 31.0})
    assert alerts(events(pipeline, batch([late]))) == [("raise", "range", 3)]


def test_idle_devices_are_those_that_no_tick_can_reach() -> None:
    """Known ones may fall silent, open or beginning alerts may end: none of these is idle."""
    pipeline = pump(Distance)
    stream = pipeline.streams["s"]
    events(pipeline, batch(usual(21, device="known")))
    for k, name in enumerate(("first", "second", "third", "fourth")):
        events(pipeline, batch(usual(3, k, device=name)))
    events(pipeline, batch(usual(1, 30, device="open", a=99.0)))
    events(pipeline, batch(usual(9, device="begins")), batch(usual(1, 9, device="begins", b=300.0)))
    assert "point" in of(pipeline, "begins").tracks
    idle = [stream.devices.names[slot] for slot in stream.idle_devices(100)]
    assert idle == ["first", "second", "third", "fourth"]
    assert [stream.devices.names[slot] for slot in stream.idle_devices(2)] == ["first", "second"]


def test_without_silence_a_known_device_is_idle() -> None:
    """Nothing happens to it but by its own readings."""
    pipeline = pump(silence_at_least=None)
    events(pipeline, batch(usual(150)))
    assert pipeline.streams["s"].idle_devices(9) == [0]
    events(pipeline, batch(usual(1, 150, a=30.0)))
    assert pipeline.streams["s"].idle_devices(9) == []
    events(pipeline, batch(usual(20, 151)), Tick(START + 171 * SECOND))
    assert pipeline.streams["s"].idle_devices(9) == [0]


def test_devices_that_fall_silent_together_are_told_in_order() -> None:
    """By the time of their last reading, then by name: not by slots, which another process deals anew."""
    pipeline = pump()
    for name, start in (("z", 0), ("y", 1), ("x", 0)):
        events(pipeline, batch(usual(40, start, device=name)))
    found = events(pipeline, Tick(START + 100 * SECOND))
    assert [event.device for event in found if isinstance(event, AlertChanged)] == ["x", "z", "y"]


def test_silence_that_lasts_touches_nobody() -> None:
    """A device that is gone for ever is written down when its alert is told, not with every tick."""
    pipeline = pump()
    events(pipeline, batch(usual(40)))
    outcomes = [pipeline.process(Tick(START + k * SECOND))["s"] for k in range(40, 540)]
    told = [k for k, outcome in enumerate(outcomes) if outcome.events]
    assert [k for k, outcome in enumerate(outcomes) if outcome.touched.size] == told
    assert 3 <= len(told) <= 9
    assert alerts(outcomes[told[-1]].events) == [("update", "silence", len(told))]


def test_silence_that_is_held_back_is_raised_when_it_is_bad_enough() -> None:
    """Until then its ticks touch nobody; its alert begins with the last reading all the same."""
    pipeline = pump(policy=replace(POLICY, min_severity="critical"))
    events(pipeline, batch(usual(40)))  # one a second: 5 s of silence are a warning, 10 s critical
    outcomes = [pipeline.process(Tick(START + (39 + k) * SECOND))["s"] for k in range(12)]
    assert [k for k, outcome in enumerate(outcomes) if outcome.touched.size] == [5, 10]
    assert [alerts(outcome.events) for outcome in outcomes if outcome.events] == [
        [],
        [("raise", "silence", 1)],
    ]
    assert pipeline.streams["s"].open_alerts()[0].started_at == START + 39 * SECOND


def told(pipeline: Pipeline) -> list[OpenAlert]:
    """Return the alerts of a device that exceeds its limit."""
    events(pipeline, batch([*usual(30), *usual(1, 30, a=30.0)]))
    return pipeline.streams["s"].open_alerts()


def test_what_was_told_is_what_is_open() -> None:
    """An alert is listed as its last event told it."""
    pipeline = pump()
    (raised,) = told(pipeline)
    events(pipeline, batch(usual(1, 31, a=31.0)))  # worse, but not worth an update
    assert pipeline.streams["s"].open_alerts() == [raised]
    assert (raised.kind, raised.seq, raised.severity, raised.peak) == ("range", 1, "critical", 2.0)
    assert raised.started_at == raised.published_at == START + 30 * SECOND


def test_an_alert_that_is_open_only_for_others_is_taken_over() -> None:
    """It ends as usual, after so many normal readings, with the next number under its own id."""
    (raised,) = told(pump())
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
    (raised,) = told(pipeline)
    assert pipeline.streams["s"].reconcile([replace(raised, seq=7)]) == 1
    assert alerts(events(pipeline, batch(usual(3, 31)))) == [("clear", "range", 8)]


def test_an_alert_that_is_open_for_nobody_else_is_dropped() -> None:
    """No event says so, and what raised it does not raise it again."""
    pipeline = pump()
    told(pipeline)
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
    (raised,) = told(pipeline)
    stored = replace(raised, id="f" * 24)
    assert pipeline.streams["s"].reconcile([stored]) == 1
    assert pipeline.streams["s"].open_alerts() == [stored]
    assert of(pipeline).published == (("f" * 24, "critical", False),)


@pytest.mark.parametrize("kind", ["range", "silence"])
def test_an_alert_of_an_unknown_device_can_end(kind: Any) -> None:
    """Its device gets a blank slot; what it does next, or the next tick, ends the alert."""
    (raised,) = told(pump())
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


def test_a_stream_is_never_without_a_live_detector() -> None:
    """A detector beside it may go, the live one can only be replaced."""
    pipeline = pump()
    with pytest.raises(ValueError, match="stream s cannot be without a live detector"):
        pipeline.process(ModelSet(START, "s", "live", ""))
