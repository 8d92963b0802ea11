"""A pump whose memory is looked at: a pipeline with one stream, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.events import AlertChanged
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.detectors.light import Light
from tests.core.replaying import process, states
from tests.core.strategies import SECOND, START, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.events import CoreEvent
    from stream_detector.core.records import Record
    from stream_detector.core.scoring.detector import Detector

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
