"""The detector `light` against a plain version, and what it promises to a person."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.devices.table import Table
from stream_detector.detectors.light import THRESHOLD, Light

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.scoring.detector import Verdicts

NAN = float("nan")


@dataclass
class Prototype:
    """A value that stands for others, and when one of them came last."""

    value: float
    visited: int


@dataclass
class PlainChannel:
    """One channel of one device, as the header of the module describes it."""

    count: int = 0
    first: float = 0.0
    prototypes: list[Prototype] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)  # everything so far, for the range
    record: float = 0.0
    record_at: int = 0

    def read(self, value: float) -> tuple[float, bool]:
        """Take a value in; return its novelty (NaN: not known) and whether it is anomalous."""
        t, self.count = self.count - 40, self.count + 1
        if t < 0:
            return NAN, False
        if t == 0:
            self.first = value
        largest = float(np.finfo(np.float32).max)
        x = float(np.float32(max(-largest, min(largest, value - self.first))))
        distance = self._distance(x)
        is_new = not self.prototypes or distance > 1 / 32
        novelty, anomalous = NAN, False
        if t >= 60:
            novelty = math.log10(1 + 20 * distance) * t / (t + 300) if is_new else 0.0
            if novelty > self.record * max(0.0, 1 - (t - self.record_at) / 200):
                self.record, self.record_at = novelty, t
                anomalous = novelty >= 0.21
        self._learn(x, t, is_new=is_new)
        return novelty, anomalous

    def _nearest(self, x: float) -> Prototype:
        return min(self.prototypes, key=lambda prototype: abs(x - prototype.value))

    def _distance(self, x: float) -> float:
        """Return the distance to the nearest prototype in units of the range, at most 1000."""
        if not self.prototypes:
            return 0.0
        distance = abs(x - self._nearest(x).value)
        span = max(self.inside) - min(self.inside)
        return 0.0 if distance == 0 else 1000.0 if distance >= 1000 * span else distance / span

    def _learn(self, x: float, t: int, *, is_new: bool) -> None:
        self.inside.append(x)
        if not is_new:
            self._nearest(x).visited = t
        elif len(self.prototypes) < 64:
            self.prototypes.append(Prototype(x, t))
        else:
            oldest = min(self.prototypes, key=lambda prototype: prototype.visited)
            oldest.value, oldest.visited = x, t


def score(values: NDArray[np.float64], slots: NDArray[np.int32] | None = None) -> Verdicts:
    """Return what a new detector says of readings, (n, channels)."""
    slots = np.zeros(len(values), dtype=np.int32) if slots is None else slots
    table = Table(Light().columns(), values.shape[1])
    for _ in range(int(slots.max(initial=0)) + 1):
        table.add()
    return Light().score(table, slots, values, np.empty((len(values), 0)), np.arange(len(values)))


def series(kind: str, random: np.random.Generator) -> NDArray[np.float64]:
    """Return one channel of 700 readings."""
    n = 700
    noise = random.normal(0.0, 1.0, n)
    out: dict[str, NDArray[np.float64]] = {
        "noise": noise,
        "walk": 1e9 + noise.cumsum(),
        "spikes": noise + np.where(random.random(n) < 0.02, random.normal(0.0, 40.0, n), 0.0),
        "growth": 1.05 ** np.arange(n),  # every value is new: prototypes have to go
        "constant": np.where(np.arange(n) < 300, 7.0, 7.5),
        "holes": np.where(random.random(n) < 0.4, np.nan, noise),
        "huge": np.where(np.arange(n) % 97 == 96, 1.7e308, noise),
        "steps": (noise.round() // 2) * 3.0,
    }
    return out[kind]


@pytest.mark.parametrize("kind", ["noise", "walk", "spikes", "growth", "constant", "holes", "huge", "steps"])
def test_agrees_with_the_plain_version(kind: str) -> None:
    """The kernel gives the plain version's novelty and verdicts, devices and channels mixed."""
    random = np.random.default_rng(7)
    channels = np.stack([series(kind, random), series("spikes", random)], axis=1)
    slots = random.integers(0, 2, len(channels)).astype(np.int32)
    got = score(channels, slots)
    plain = [[PlainChannel() for _ in range(2)] for _ in range(2)]
    for i, slot in enumerate(slots):
        found = [
            (NAN, False) if np.isnan(x) else plain[slot][c].read(float(x)) for c, x in enumerate(channels[i])
        ]
        novelty = [each for each, _ in found]
        known = [each for each in novelty if not math.isnan(each)]
        assert got.raw[i] == pytest.approx(max(known) if known else NAN, rel=1e-12, nan_ok=True)
        assert got.shares(i).tolist() == pytest.approx(
            [0.0 if math.isnan(each) else each for each in novelty]
        )
        assert got.anomalous[i] == any(verdict for _, verdict in found)


def test_scores_from_the_hundred_and_first_reading() -> None:
    """After 100 readings of a channel, not earlier and not later, it has a score."""
    verdicts = score(np.random.default_rng(0).normal(size=(120, 1)))
    assert np.isnan(verdicts.score[:100]).all()
    assert not np.isnan(verdicts.score[100:]).any()
    assert not verdicts.anomalous[:100].any()


def test_each_channel_warms_up_by_itself() -> None:
    """A channel that is not reported does not advance, and the one that is gives the score."""
    values = np.random.default_rng(0).normal(size=(140, 2))
    values[:60, 1] = np.nan
    verdicts = score(values)
    assert np.isnan(verdicts.raw[:100]).all()
    values[:, 1] = np.nan
    np.testing.assert_array_equal(score(values).raw, score(values[:, :1]).raw)
    assert verdicts.shares(139).tolist()[1] == 0.0


def test_a_flat_line_is_usual_and_its_first_change_is_not() -> None:
    """A channel that never moved scores 0; its first change is an alarm, a repeat of it is not."""
    values = np.full((300, 1), 21.5)
    values[200] = values[210] = 21.6
    verdicts = score(values)
    assert (np.delete(verdicts.score[100:], 100) == 0.0).all()
    assert np.flatnonzero(verdicts.anomalous).tolist() == [200]


def test_one_happening_is_one_alarm() -> None:
    """A level that stays is one alarm; a higher one is the next."""
    values = np.random.default_rng(1).normal(size=(600, 1))
    values[400:] += 40.0
    values[420:] += 400.0
    verdicts = score(values)
    assert np.flatnonzero(verdicts.anomalous[400:]).tolist() == [0, 20]


def test_a_record_fades() -> None:
    """What is as novel as an alarm 200 readings ago is an alarm again, sooner it is not."""
    values = np.tile([0.0, 1.0], 500)[:, None]
    values[400] = 100.0
    values[450] = 60.0  # novel, but less than the record allows
    values[700] = 30.0
    assert np.flatnonzero(score(values).anomalous).tolist() == [400, 700]


def test_the_largest_floats_give_finite_scores() -> None:
    """Whatever is sent, scores are numbers from 0 to 1000, then and afterwards."""
    values = np.random.default_rng(1).normal(size=(400, 1))
    values[200], values[300] = 1.7e308, -1.7e308
    verdicts = score(values)
    assert np.isfinite(verdicts.score[100:]).all()
    assert (verdicts.score[100:] <= 1000.0).all()
    assert (verdicts.score[[200, 300]] >= 1.0).all()


def test_an_anomaly_scores_at_least_one() -> None:
    """The verdict and the score agree, and the raw threshold is what maps to 1."""
    verdicts = score(np.random.default_rng(5).normal(size=(3000, 1)) ** 3)
    assert (verdicts.score[verdicts.anomalous] >= 1.0).all()
    assert verdicts.anomalous.sum() >= 2
    assert verdicts.score[150] == pytest.approx(verdicts.raw[150] / THRESHOLD, rel=1e-8)


def test_confidence_is_the_share_of_lower_scores() -> None:
    """An alarm scores higher than nearly all, a usual reading not; it is never exactly 1."""
    values = np.tile([0.0, 1.0], 500)[:, None]
    values[900] = 50.0
    verdicts = score(values)
    assert verdicts.confidence(900) == pytest.approx(800 / 801)
    assert verdicts.confidence(899) == 0.0
    assert np.isnan(verdicts.confidence(99))


@pytest.mark.parametrize("start", [100_000, 2**31 - 100, 2**40])
def test_it_learns_for_ever(start: int) -> None:
    """No number of readings is too large to count: the same follows on the 2**31st as on any other."""
    values = np.random.default_rng(3).normal(size=(900, 1))
    values[700] = 40.0
    table = Table(Light().columns(), 1)
    slots = np.full(len(values), table.add(), dtype=np.int32)
    table["seen"][:] = start
    table["record_at"][:] = table["visited"][:] = start - 40
    table["usual"][:, 0] = start
    verdicts = Light().score(table, slots, values, np.empty((len(values), 0)), np.arange(len(values)))
    assert table["seen"][0, 0] == start + 900
    assert verdicts.anomalous[700]
    assert not np.isnan(verdicts.score).any()
    assert 0.0 <= verdicts.confidence(899) < verdicts.confidence(700) < 1.0
    assert (table["usual"] >= 0).all()
    assert start - 40 <= table["visited"].min()


def test_no_channel_at_all_is_no_score() -> None:
    """Readings without channels are not known, not an error."""
    assert np.isnan(score(np.empty((3, 0))).score).all()
