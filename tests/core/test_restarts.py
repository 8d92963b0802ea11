"""The law over restarts: whoever stores the devices and restores them, anywhere, changes no event."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_detector.core.records import Acknowledged, Forgotten, Gap, ModelSet, Readings, Tick
from tests.core.replaying import SCENES, STORY, batches, fresh, meant, process, scene, states
from tests.core.strategies import DETECTORS, SECOND, SLOW, stories

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.events import CoreEvent
    from stream_detector.core.pipeline import Pipeline
    from stream_detector.core.records import Record

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
