"""Several detectors score a stream, each in a role, each with a memory of its own."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings

from stream_detector.core.events import AlertChanged, DeviceStateChanged, ModelReplaced
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import ROLES, ModelSet
from stream_detector.core.spec import StreamSpec
from tests.core.replaying import DECLARED, STORY, batches, process, scene, states
from tests.core.strategies import DETECTORS, SECOND, START, Reading, batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_detector.core.events import CoreEvent
    from stream_detector.core.records import Record, Role
    from stream_detector.core.stream import Stream

OTHERS: dict[Role, str] = {"beside": "distance", "shadow": "light"}


def with_roles(pipeline: Pipeline, others: dict[Role, str] = OTHERS) -> Pipeline:
    """Return a pipeline in which further detectors score beside the live one."""
    pipeline._model = lambda record: DETECTORS[record.name]()
    for role, name in others.items():
        pipeline.process(ModelSet(START, "s", role, name))
    return pipeline


def pump(others: dict[Role, str]) -> Pipeline:
    """Return a pipeline whose live detector is `light`."""
    spec = StreamSpec("s", channels=DECLARED, window=5)
    pipeline = Pipeline([spec], DETECTORS["light"], lambda record: DETECTORS[record.name]())
    return with_roles(pipeline, others)


def readings(*values: float, device: str = "d1") -> list[Reading]:
    """Return readings of one device, a second apart."""
    return [Reading({"a": value, "b": 20.0}, START + i * SECOND, device) for i, value in enumerate(values)]


USUAL = [50.0 + i % 4 for i in range(120)]


def points(events: Sequence[CoreEvent]) -> list[AlertChanged]:
    """Return the alerts that detectors have raised, changed or ended."""
    return [event for event in events if isinstance(event, AlertChanged) and event.kind == "point"]


@given(**STORY)
@example(  # a reading that brings a channel is not yet there when those before it have no score
    steps=[("spike", 2, 8.0), ("model",), ("run", 1), ("run", 1), ("run", 1), ("partial", 2, "a", None)],
    cut=lambda _: True,
    setting={"declared": False, "lateness": 0, "min_severity": "warning", "cold": False},
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_law_holds_for_several(
    steps: list[tuple[Any, ...]], cut: Callable[[int], bool], setting: dict[str, Any]
) -> None:
    """However a stream is cut, three detectors give equal events and are left with equal memory."""
    past, story = scene("light", **setting)
    with_roles(past)
    records: list[Record | Reading] = [_of_live(record) for record in story.play(steps)]
    whole, parts = past, copy.deepcopy(past)
    assert process(parts, batches(records, cut)) == process(whole, batches(records, lambda _: False))
    assert states(parts) == states(whole)


@given(**STORY)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_restored_device_goes_on_with_all_of_them(
    steps: list[tuple[Any, ...]], cut: Callable[[int], bool], setting: dict[str, Any]
) -> None:
    """Forgotten and put back in the middle, a device is scored by each as if it had never left."""
    del cut
    past, story = scene("light", **setting)
    with_roles(past)
    records = batches([_of_live(record) for record in story.play(steps)], lambda i: i % 3 == 0)
    stayed, left = past, copy.deepcopy(past)
    half = len(records) // 2
    assert process(left, records[:half]) == process(stayed, records[:half])
    stream: Stream = left.streams["s"]
    for state in states(left).values():
        stream.restore(state)
    assert process(left, records[half:]) == process(stayed, records[half:])
    assert states(left) == states(stayed)


def test_a_shadow_raises_nothing() -> None:
    """What it finds is there to be compared, in no event and no state."""
    alone, shadowed = pump({}), pump({"shadow": "distance"})
    given = batch(readings(*USUAL, 500.0, *USUAL))
    outcome = shadowed.process(given)["s"]
    assert outcome.events == alone.process(given)["s"].events
    assert np.nanmax(outcome.others["shadow"]) >= 1.0
    assert len(outcome.others["shadow"]) == len(given)


def test_one_beside_raises_and_is_named() -> None:
    """While the live one is still warming up; it sees the reading as a whole, so no channel holds it."""
    pipeline = pump({"beside": "distance"})
    events = pipeline.process(batch(readings(*USUAL[:20], 500.0, *USUAL[:20])))["s"].events
    raised, cleared = points(events)
    assert (raised.event, raised.model_name, raised.channels) == ("raise", "distance", ())
    assert (cleared.event, cleared.id) == ("clear", raised.id)


def test_the_one_that_scores_highest_leads() -> None:
    """Where several find an anomaly, score, explanation and name are those of one of them."""
    given = batch(readings(*USUAL, 500.0))
    alone, both = pump({}).process(given)["s"], pump({"beside": "distance"}).process(given)["s"]
    (live,), (leading,) = points(alone.events), points(both.events)
    assert both.others["beside"][-1] > live.score > 1.0
    assert (leading.model_name, leading.score) == ("distance", both.others["beside"][-1])
    assert (leading.id, leading.seq) == (live.id, live.seq)
    assert live.channels == ()  # `light` judges the device as a whole


def test_setting_one_leaves_the_others_memory_alone() -> None:
    """A new shadow learns from nothing; the live detector and the windows go on."""
    pipeline = pump({"shadow": "light"})
    pipeline.process(batch(readings(*USUAL)))
    layout, row = pipeline.streams["s"].place_of("d1") or pytest.fail("no layout")
    before = {role: scorer.learned["seen"][row].copy() for role, scorer in layout.scorers.items()}
    assert all(seen.any() for seen in before.values())
    (replaced,) = pipeline.process(ModelSet(START + 500 * SECOND, "s", "shadow", "light"))["s"].events
    assert replaced == ModelReplaced(START + 500 * SECOND, "s", "shadow", "light", "1")
    assert not layout.scorers["shadow"].learned["seen"][row].any()
    assert (layout.scorers["live"].learned["seen"][row] == before["live"]).all()
    assert layout.table["length"][row] == 5


def test_one_that_goes_leaves_nothing() -> None:
    """Without a name, nobody has the role any more; events are those of a stream that never had it."""
    alone, pipeline = pump({}), pump(OTHERS)
    for role in OTHERS:
        pipeline.process(ModelSet(START, "s", role, ""))
    given = batch(readings(*USUAL, 500.0))
    assert pipeline.process(given)["s"].events == alone.process(given)["s"].events
    assert states(pipeline) == states(alone)


def test_roles_score_in_the_order_of_the_table() -> None:
    """In whatever order they were set, so that a snapshot means the same everywhere."""
    one, other = (
        pump({"beside": "distance", "shadow": "light"}),
        pump({"shadow": "light", "beside": "distance"}),
    )
    for pipeline in (one, other):
        pipeline.process(batch(readings(*USUAL)))
        assert list(pipeline.streams["s"].detectors) == list(ROLES)
    assert states(one) == states(other)


def test_a_new_device_is_scored_by_all() -> None:
    """Also where it takes the row of one that was forgotten."""
    pipeline = pump({"shadow": "light"})
    stream = pipeline.streams["s"]
    pipeline.process(batch(readings(*USUAL)))
    stream.forget(stream.devices.slot_of["d1"])
    events = pipeline.process(batch(readings(*USUAL, device="d2")))["s"].events
    assert [event.state for event in events if isinstance(event, DeviceStateChanged)] == ["warming_up", "ok"]
    layout, row = stream.place_of("d2") or pytest.fail("no layout")
    assert layout.scorers["shadow"].learned["seen"][row].tolist()[:2] == [120, 120]


def _of_live(record: Record | Reading) -> Any:
    """Return a record of a story: its models are those of the live role, by a name that there is."""
    return replace(record, name="light") if isinstance(record, ModelSet) else record
