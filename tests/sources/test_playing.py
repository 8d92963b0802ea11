"""A recording is played with few ticks, and gives the events that it gives with all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.events import AlertChanged
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import NO_SEQ, Readings, Tick
from stream_detector.core.spec import StreamSpec
from stream_detector.detectors.light import Light
from stream_detector.sources import playing
from stream_detector.sources.recordings import Recording
from tests.core.strategies import SECOND, START

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_detector.core.events import CoreEvent
    from stream_detector.core.records import Record

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["d1", "d1", "d1", "d2", "d3"]),
        st.sampled_from([0, 0.25, 1, 1, 1, 2, 5, 30, 400, 7200]),  # s since the row before
        st.sampled_from([1.0, 2.0, 2.0, 3.0]),
    ),
    min_size=1,
    max_size=60,
)
POLICIES = st.builds(
    AlertPolicy,
    cooldown=st.sampled_from([0, 60 * SECOND, 3600 * SECOND]),
    min_severity=st.sampled_from(["warning", "critical"]),
    critical_from=st.sampled_from([1.0, 2.0, 30.0]),
    update_every=st.sampled_from([0, 60 * SECOND]),
)


def recording(rows: list[tuple[str, float, float]]) -> Recording:
    """Return rows as a recording; each device has said something 25 times before, a second apart."""
    habit = [(device, 1 / 3, 2.0) for _ in range(25) for device in ("d1", "d2", "d3")]
    every = [*habit, *rows]
    return Recording(
        devices=[device for device, _, _ in every],
        ts=START + (np.cumsum([pause for _, pause, _ in every]) * SECOND).astype(np.int64),
        seq=np.full(len(every), NO_SEQ, dtype=np.int64),
        channels=("a",),
        values=np.array([[value] for _, _, value in every]),
    )


def pipeline(**spec: Any) -> Pipeline:
    """Return a pipeline with one stream that has seen nothing."""
    return Pipeline([StreamSpec("s", window=4, **spec)], Light, lambda _: Light())


def events(pipe: Pipeline, records: Iterable[Record]) -> list[CoreEvent]:
    """Return what records give, without what a cut into batches may change."""
    found = [event for record in records for event in pipe.process(record)["s"].events]
    return [replace(event, received_at=0) if isinstance(event, AlertChanged) else event for event in found]


@given(
    rows=ROWS, policy=POLICIES, lateness=st.sampled_from([0, 3 * SECOND]), batch=st.sampled_from([1, 7, 900])
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_events_are_those_with_all_ticks(
    rows: list[tuple[str, float, float]], policy: AlertPolicy, lateness: int, batch: int
) -> None:
    """Silences are raised, updated, held back, ended and raised again at the same instants."""
    spec = {"policy": policy, "lateness": lateness, "silence_at_least": 3 * SECOND}
    recorded, plain, few = recording(rows), pipeline(**spec), pipeline(**spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playing, "BATCH", batch)
        played = events(few, playing.play(recorded, few.streams["s"]))
    assert played == events(plain, recorded.records("s"))


def test_without_a_silence_there_is_no_tick() -> None:
    """A sparse recording is one batch, although a second and more passes between all of its rows."""
    rows = [("d1", 300.0, float(k % 3)) for k in range(400)]
    quiet = Recording(
        devices=[device for device, _, _ in rows],
        ts=START + (np.cumsum([pause for _, pause, _ in rows]) * SECOND).astype(np.int64),
        seq=np.full(len(rows), NO_SEQ, dtype=np.int64),
        channels=("a",),
        values=np.array([[value] for _, _, value in rows]),
    )
    pipe = pipeline()
    records = list(playing.play(quiet, pipe.streams["s"]))
    assert [len(record) for record in records if isinstance(record, Readings)] == [400]


def test_a_long_silence_takes_few_ticks() -> None:
    """Only those at which its alert is raised, or has grown enough to be published again."""
    rows = [("d2", 1.0, 2.0) for _ in range(5000)]
    pipe = pipeline()
    ticks = 0
    for record in playing.play(recording(rows), pipe.streams["s"]):
        ticks += isinstance(record, Tick)
        pipe.process(record)
    assert {alert.device for alert in pipe.streams["s"].open_alerts()} == {"d1", "d3"}
    assert ticks < 100
