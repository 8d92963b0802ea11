"""Plays stories into pipelines: what the tests of the law and of restored memory have in common."""

from __future__ import annotations

import copy
from dataclasses import astuple, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.events import AlertChanged, Counts
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import Acknowledged
from stream_detector.core.spec import Limits, StreamSpec
from tests.core.strategies import DETECTORS, SECOND, Reading, Story, batch, cuts, stories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.events import CoreEvent, Severity
    from stream_detector.core.records import Record

DECLARED = {"a": Limits("mm/s", 0.0, 100.0), "b": Limits("°C", high=60.0), "c": Limits()}

SCENES = st.fixed_dictionaries(
    {
        "declared": st.booleans(),
        "lateness": st.sampled_from([0, 2 * SECOND]),
        "min_severity": st.sampled_from(["warning", "warning", "critical"]),
        "cold": st.booleans(),
    }
)
"""How a stream is configured, and whether its devices have a past: arguments of `scene`."""
STORY = {"steps": stories, "cut": cuts(), "setting": SCENES}


def fresh(
    detector: str, *, declared: bool, lateness: int, min_severity: Severity, silence: int | None = 3 * SECOND
) -> Pipeline:
    """Return a pipeline that has seen nothing."""
    spec = StreamSpec(
        name="s",
        channels=DECLARED if declared else {},
        window=5,
        lateness=lateness,
        policy=AlertPolicy(
            clear_after=3, cooldown=5 * SECOND, update_every=2 * SECOND, min_severity=min_severity
        ),
        silence_at_least=silence,
    )
    return Pipeline([spec], DETECTORS[detector], lambda _: DETECTORS[detector]())


@lru_cache
def _warm(detector: str, **spec: Any) -> tuple[Pipeline, Story]:
    pipeline, story = fresh(detector, **spec), Story()
    process(pipeline, batches(story.play([("run", 130)]), lambda _: False))
    return pipeline, story


def scene(detector: str, *, cold: bool, **spec: Any) -> tuple[Pipeline, Story]:
    """Return a pipeline whose devices have a past, and the story so far.

    Where it is cold the devices of the story are new; the stream has a past all the same.
    """
    pipeline, story = copy.deepcopy(_warm(detector, **spec))
    if cold:
        for device in story.devices:
            device.name += "-new"
    return pipeline, story


def batches(records: Sequence[Reading | Record], cut: Callable[[int], bool]) -> list[Record]:
    """Return records with the readings between two others cut into batches."""
    out: list[Record] = []
    pending: list[Reading] = []
    for i, record in enumerate(records):
        if pending and (cut(i) or not isinstance(record, Reading)):
            out.append(batch(pending))
            pending = []
        if isinstance(record, Reading):
            pending.append(record)
        else:
            out.append(record)
    return [*out, batch(pending)] if pending else out


def process(pipeline: Pipeline, records: Iterable[Record]) -> tuple[list[CoreEvent], Counts, list[float]]:
    """Return what records give, in one."""
    events: list[CoreEvent] = []
    scores: list[float] = []
    counts = np.zeros(len(astuple(Counts())), dtype=np.int64)
    for record in records:
        for outcome in pipeline.process(meant(pipeline, record)).values():
            events.extend(comparable(event) for event in outcome.events)
            scores.extend(outcome.scores.tolist())
            counts += astuple(outcome.counts)
    return events, Counts(*counts.tolist()), scores


def meant(pipeline: Pipeline, record: Record) -> Record:
    """Return a record of a story as it would have come: who acknowledges has seen an alert's id."""
    if not isinstance(record, Acknowledged):
        return record
    ids = sorted(alert.id for alert in pipeline.streams["s"].open_alerts() if alert.device == record.device)
    return replace(record, id=ids[0]) if ids else record


def comparable(event: CoreEvent) -> CoreEvent:
    """Return an event without what may differ."""
    return replace(event, received_at=0) if isinstance(event, AlertChanged) else event


def states(pipeline: Pipeline) -> dict[str, DeviceState]:
    """Return the memory of all devices, by name."""
    stream = pipeline.streams["s"]
    return {name: stream.state_of(slot) for name, slot in stream.devices.slot_of.items()}
