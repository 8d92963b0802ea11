"""The law: however a stream of records is cut into batches, the events are equal."""

from __future__ import annotations

import copy
from dataclasses import astuple, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_detector.core.alerts import AlertRules
from stream_detector.core.events import AlertChanged, Counts
from stream_detector.core.layouts import Limits
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.stream import StreamSpec
from tests.core.strategies import DETECTORS, SECOND, SLOW, Reading, Story, batch, cuts, stories

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_detector.core.events import CoreEvent, Severity
    from stream_detector.core.records import Record

DECLARED = {"a": Limits("mm/s", 0.0, 100.0), "b": Limits("°C", high=60.0), "c": Limits()}


@lru_cache
def warm(detector: str, *, declared: bool, lateness: int, min_severity: Severity) -> tuple[Pipeline, Story]:
    """Return a pipeline whose devices have a past, and the story so far."""
    spec = StreamSpec(
        name="s",
        channels=DECLARED if declared else {},
        window=5,
        lateness=lateness,
        rules=AlertRules(
            clear_after=3, cooldown=5 * SECOND, update_every=2 * SECOND, min_severity=min_severity
        ),
    )
    pipeline = Pipeline([spec], DETECTORS[detector], lambda _: DETECTORS[detector]())
    story = Story()
    play(pipeline, story.play([("run", 130)]), lambda _: False)
    return pipeline, story


def play(
    pipeline: Pipeline, records: Sequence[Reading | Record], cut: Callable[[int], bool]
) -> tuple[list[CoreEvent], Counts, list[float]]:
    """Process records with the readings between two others cut into batches; return what it gave."""
    events: list[CoreEvent] = []
    scores: list[float] = []
    counts = np.zeros(len(astuple(Counts())), dtype=np.int64)

    def process(record: Record) -> None:
        nonlocal counts
        for outcome in pipeline.process(record).values():
            events.extend(outcome.events)
            scores.extend(outcome.scores.tolist())
            counts += astuple(outcome.counts)

    pending: list[Reading] = []
    for i, record in enumerate(records):
        if pending and (cut(i) or not isinstance(record, Reading)):
            process(batch(pending))
            pending = []
        if isinstance(record, Reading):
            pending.append(record)
        else:
            process(record)
    if pending:
        process(batch(pending))
    return events, Counts(*counts.tolist()), scores


def comparable(event: CoreEvent) -> CoreEvent:
    """Return an event without what may differ."""
    return replace(event, received_at=0) if isinstance(event, AlertChanged) else event


def memory(pipeline: Pipeline) -> dict[str, Any]:
    """Return all that a pipeline remembers, arrays as their bytes."""
    out: dict[str, Any] = {}
    for stream in pipeline.streams.values():
        tables = {"devices": stream.devices.table}
        tables |= {f"layout {layout.channels}": layout.table for layout in stream.layouts}
        for name, table in tables.items():
            out |= {f"{name} {key}": array[: table.size].tobytes() for key, array in table.arrays.items()}
            out[f"{name} free"] = (table.size, tuple(table._free))
        out["names"] = (stream.devices.slot_of, stream.devices.names, stream.devices.tags)
        out["alerts"] = (stream._alerting._tracks, stream._alerting._told)
    return out


STORY = {
    "steps": stories,
    "cut": cuts(),
    "declared": st.booleans(),
    "lateness": st.sampled_from([0, 2 * SECOND]),
    "min_severity": st.sampled_from(["warning", "warning", "critical"]),
    "cold": st.booleans(),
}


@pytest.mark.parametrize("detector", [name for name in DETECTORS if name not in SLOW])
@given(**STORY)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_events_do_not_depend_on_the_cuts(detector: str, **story: Any) -> None:
    """Any story, cut anywhere, gives equal events, counts and scores, and leaves equal state."""
    the_law_holds(detector, **story)


@pytest.mark.parametrize("detector", sorted(SLOW))
@given(**STORY)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nor_do_they_with_the_slower_detectors(detector: str, **story: Any) -> None:
    """The same, with fewer stories."""
    the_law_holds(detector, **story)


def the_law_holds(
    detector: str,
    *,
    steps: list[tuple[Any, ...]],
    cut: Callable[[int], bool],
    declared: bool,
    lateness: int,
    min_severity: Severity,
    cold: bool,
) -> None:
    """Play a story whole and cut, and compare everything."""
    past, story = copy.deepcopy(
        warm(detector, declared=declared, lateness=lateness, min_severity=min_severity)
    )
    if cold:  # devices without a past; the stream has one
        for device in story.devices:
            device.name += "-new"
    records = story.play(steps)

    whole, parts = past, copy.deepcopy(past)
    events, counts, scores = play(whole, records, lambda _: False)
    cut_events, cut_counts, cut_scores = play(parts, records, cut)

    assert [comparable(event) for event in cut_events] == [comparable(event) for event in events]
    assert cut_counts == counts
    assert cut_scores == scores
    assert memory(parts) == memory(whole)
    assert counts.scored + counts.warming_up + counts.late + counts.duplicate == sum(
        isinstance(record, Reading) for record in records
    )
