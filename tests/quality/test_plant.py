"""The plant is the same for a seed, its faults are what they say, and it is played through the product."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.quality import plant
from benchmarks.quality.faults import FAULTS, KINDS, SHORTEST, inject, measure
from benchmarks.quality.product import alerts_of, play, recording_of
from stream_detector.core.events import AlertChanged, Contribution

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT = 1000


def wave(n: int = 3000) -> NDArray[np.float64]:
    """Return a noisy wave between about -1 and 1."""
    return np.sin(np.arange(n) / 30) + np.random.default_rng(0).normal(0, 0.02, n)


def with_fault(kind: str, seed: int = 3) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return a healthy course, the same with a fault at row 1000, and the fault's last row."""
    healthy = wave()
    x = healthy.copy()
    last = inject(np.random.default_rng(seed), x, healthy, kind, AT)
    return healthy, x, last


@pytest.mark.parametrize("name", plant.FAMILIES)
def test_a_family_is_the_same_for_a_seed(name: str) -> None:
    """So a figure can be looked into; another seed gives other readings."""
    once, again, other = plant.make(name, 7), plant.make(name, 7), plant.make(name, 8)
    assert once.watched == again.watched
    np.testing.assert_array_equal(once.recording.values, again.recording.values)
    np.testing.assert_array_equal(once.recording.ts, again.recording.ts)
    assert once.recording.values.shape != other.recording.values.shape or not np.array_equal(
        once.recording.values, other.recording.values
    )


@pytest.mark.parametrize("name", plant.FAMILIES)
def test_a_family_has_room_for_its_faults(name: str) -> None:
    """They come after the time for learning, end before the series does, and do not overlap."""
    made = plant.make(name, 1)
    assert np.isfinite(made.recording.values).all()
    end = made.recording.ts[-1] / 1e6
    by_device: dict[str, list[tuple[float, float]]] = {}
    for fault in made.watched.faults:
        assert fault.kind in KINDS
        assert made.watched.begin < fault.start <= fault.end <= end
        by_device.setdefault(fault.device, []).append((fault.start, fault.end))
    assert len(by_device) <= 3  # the others are never at fault
    assert len(made.rows) == 6
    for spans in by_device.values():
        apart = [start - before for (_, before), (start, _) in itertools.pairwise(spans)]
        assert all(gap > 100 * made.watched.interval for gap in apart), apart


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_changes_its_rows_and_no_others(kind: str) -> None:
    """All that is outside stays healthy, so an alert there is false."""
    healthy, x, last = with_fault(kind)
    changed = np.flatnonzero(healthy != x)
    assert changed.min() >= AT
    assert changed.max() <= last
    np.testing.assert_array_equal(x[last + 1 :], healthy[last + 1 :])


def test_faults_are_as_large_as_they_say() -> None:
    """Judged ones lie outside of all that was, hard ones inside."""
    healthy, _, _ = with_fault("spike")
    m = measure(healthy[:AT])
    for seed in range(8):
        for kind, beyond in (("spike", 0.6), ("shift", 0.4)):
            _, x, last = with_fault(kind, seed)
            part = x[AT : last + 1]
            up, down = part.min() - m.highest, m.lowest - part.max()
            assert max(up, down) == pytest.approx(beyond * m.range)
        for kind in ("context", "relation"):
            _, x, last = with_fault(kind, seed)
            assert m.lowest <= x[AT : last + 1].min()
            assert x[AT : last + 1].max() <= m.highest
    _, x, last = with_fault("stuck")
    assert np.ptp(x[AT : last + 1]) == 0
    _, x, last = with_fault("noise")
    assert np.std(np.diff(x[AT : last + 1])) > 4 * np.std(np.diff(healthy))


def test_a_fault_needs_a_past() -> None:
    """What another time was cannot be taken from nothing: an error of who plans it."""
    with pytest.raises(ValueError, match="less than 400 readings before it"):
        inject(np.random.default_rng(0), wave(), wave(), "context", SHORTEST - 1)


def test_a_shift_comes_twice_with_the_same_values() -> None:
    """What is told once and not again is found by it."""
    made = plant.make("conveyor", 1)
    first, second = [
        each for each in made.watched.faults if (each.device, each.kind) == ("conveyor-1", "shift")
    ]
    assert first.end - first.start == second.end - second.start
    rows = made.rows["conveyor-1"]
    ts = made.recording.ts[rows] / 1e6
    current = made.recording.values[rows, made.recording.channels.index("current")]
    parts = [current[(ts >= f.start) & (ts < f.end + made.watched.interval)] for f in (first, second)]
    np.testing.assert_array_equal(*parts)


def test_the_product_tells_a_gross_fault_row_by_row() -> None:
    """A value far outside is an alert at its row, not before it; a device beside it has none."""
    n = 600
    ts = 1_772_409_600_000_000 + np.arange(n) * 60_000_000
    good, bad = wave(n), wave(n)
    bad[500] = 40.0
    recording, rows = recording_of({"good": (ts, {"x": good}), "bad": (ts + 1_000_000, {"x": bad})})
    played = play(recording)
    assert [alert.device for alert in played.alerts if alert.spans[0][0] >= ts[450] / 1e6] == ["bad"]
    raised = np.flatnonzero(played.raised[rows["bad"]])
    assert 500 in raised
    assert played.open[rows["bad"]][500]
    assert not played.open[rows["bad"]][499]
    assert not played.open[rows["good"]][450:].any()
    assert played.score[rows["bad"]][500] >= 1.0
    assert np.nanmax(played.score[rows["good"]][450:]) < 1.0


def test_an_alert_that_is_raised_again_is_one_alert() -> None:
    """Its severity is the highest that it ever had, its channel and sentence the first."""
    told = [("raise", 10, "warning", "a"), ("update", 20, "critical", "b"), ("clear", 30, "warning", "b")]
    told += [("raise", 40, "warning", "b")]
    (alert,) = alerts_of([_event(*each) for each in told])
    assert alert.spans == [[10.0, 30.0], [40.0, float("inf")]]
    assert (alert.severity, alert.channel) == ("critical", "a")


def _event(event: str, at: int, severity: str, channel: str) -> AlertChanged:
    return AlertChanged(
        event=event,  # type: ignore[arg-type]
        id="1",
        seq=1,
        kind="point",
        stream="quality",
        device="pump-1",
        tags={},
        severity=severity,  # type: ignore[arg-type]
        score=2.0,
        peak_score=2.0,
        raw_score=2.0,
        threshold=1.0,
        confidence=0.9,
        started_at=at,
        updated_at=at * 1_000_000,
        ended_at=None,
        received_at=at,
        values={},
        expected={},
        contributions=(Contribution(channel, 1.0),),
        reason="",
        model_name="light",
        model_version="1",
    )
