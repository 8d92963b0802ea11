"""The law: however a stream of records is cut into batches, the events are equal."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.core.replaying import STORY, batches, process, scene
from tests.core.strategies import DETECTORS, SLOW, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.core.pipeline import Pipeline


def memory(pipeline: Pipeline) -> dict[str, Any]:
    """Return all that a pipeline remembers, arrays as their bytes."""
    out: dict[str, Any] = {}
    for stream in pipeline.streams.values():
        tables = {"devices": stream.devices.table}
        for layout in stream.layouts:
            tables |= {f"{k} {layout.channels}": table for k, (_, table) in enumerate(layout.tables())}
        for name, table in tables.items():
            out |= {f"{name} {key}": array[: table.size].tobytes() for key, array in table.arrays.items()}
            out[f"{name} free"] = (table.size, tuple(table._free))
        out["names"] = (stream.devices.slot_of, stream.devices.names, stream.devices.tags)
        out["alerts"] = (stream._alerts._tracks, stream._alerts._states._published)
    return out


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
    detector: str, *, steps: list[tuple[Any, ...]], cut: Callable[[int], bool], setting: dict[str, Any]
) -> None:
    """Play a story whole and cut, and compare everything."""
    past, story = scene(detector, **setting)
    records = story.play(steps)

    whole, parts = past, copy.deepcopy(past)
    events, counts, scores = process(whole, batches(records, lambda _: False))
    cut_events, cut_counts, cut_scores = process(parts, batches(records, cut))

    assert cut_events == events
    assert cut_counts == counts
    assert cut_scores == scores
    assert memory(parts) == memory(whole)
    assert counts.scored + counts.warming_up + counts.late + counts.duplicate == sum(
        isinstance(record, Reading) for record in records
    )
