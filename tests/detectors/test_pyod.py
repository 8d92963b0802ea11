"""Claims about every fitted detector: one promise, whatever stands behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.devices.table import Table
from stream_detector.detectors.pyod import KINDS, FittedModel
from stream_detector.models.training import DETECTORS
from tests.models.examples import CHANNELS, FEATURES, feature_rows, trained

if TYPE_CHECKING:
    from stream_detector.core.scoring.detector import Detector, Verdicts

NO_SLOTS = np.zeros(0, dtype=np.int32)
NO_VALUES = np.zeros((0, 3))


def judge(model: FittedModel, rows: np.ndarray) -> Verdicts:
    """Score rows as the pipeline does, which sees nothing but the promise."""
    detector: Detector = model
    return detector.score(Table({}), NO_SLOTS, NO_VALUES, rows, np.arange(len(rows)))


@pytest.fixture(params=sorted(KINDS))
def model(request: pytest.FixtureRequest) -> FittedModel:
    """Return a fitted model of each kind."""
    return trained(request.param).model


def strange_rows() -> np.ndarray:
    """Return rows like the training rows, far ones, holed ones and endless ones."""
    rows = feature_rows(200, seed=1)
    rows[::7] += np.random.default_rng(2).normal(size=(29, 6)) * 1e5
    rows[3, 2] = np.nan
    rows[4] = np.nan
    rows[5] = 1e308
    rows[6, 1] = np.inf
    rows[8, 0] = -np.inf
    return rows


def test_every_detector_can_be_trained_and_loaded() -> None:
    """The two tables name the same detectors."""
    assert set(DETECTORS) == set(KINDS)


@pytest.mark.parametrize("cuts", [[], [1], [17, 18, 120], list(range(1, 200))])
def test_a_batch_can_be_cut_anywhere(model: FittedModel, cuts: list[int]) -> None:
    """The bits of raw scores, scores and verdicts do not depend on the other rows of the call."""
    rows = strange_rows()
    whole = judge(model, rows)
    parts = [judge(model, part) for part in np.split(rows, cuts)]
    for name in ("raw", "score", "anomalous"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(joined, getattr(whole, name), equal_nan=name != "anomalous"), name


def test_scores_are_finite_or_not_there(model: FittedModel) -> None:
    """A row with a NaN has no score; every other, however far, has one from 0 to 1000."""
    rows = strange_rows()
    verdicts = judge(model, rows)
    holed = np.isnan(rows).any(axis=1)
    assert np.isnan(verdicts.raw[holed]).all()
    assert not verdicts.anomalous[holed].any()
    assert np.isfinite(verdicts.raw[~holed]).all()
    assert ((verdicts.score[~holed] >= 0.0) & (verdicts.score[~holed] <= 1000.0)).all()
    assert np.array_equal(verdicts.anomalous[~holed], verdicts.raw[~holed] >= model.threshold)


def test_usual_readings_are_normal_and_far_ones_are_not(model: FittedModel) -> None:
    """Fresh data of the same machine stays below the threshold but for a few, a jump does not."""
    assert judge(model, feature_rows(500, seed=5)).anomalous.mean() < 0.1
    assert judge(model, feature_rows(50, seed=5) + 30.0 * model.scale).anomalous.all()


def test_the_strangest_channel_has_the_largest_share(model: FittedModel) -> None:
    """A reading with one strange channel blames that channel; shares are never negative."""
    for channel in range(len(CHANNELS)):
        rows = np.tile(model.medians, (2, 1))
        rows[:, channel :: len(CHANNELS)] += 8.0 * model.scale[channel :: len(CHANNELS)]
        shares = judge(model, rows).shares(1)
        assert shares.shape == (len(CHANNELS),)
        assert (shares >= 0.0).all()
        assert shares.argmax() == channel
        # without its strange channel this row is the median row
        drop = model.raw(rows)[1] - model.raw(model.medians[None])[0]
        assert shares[channel] == pytest.approx(drop)


def test_without_a_drop_the_distance_is_shared() -> None:
    """Where the score does not tell the channels apart, their distance from usual does."""
    fitted = trained("hbos").model
    flat = replace(fitted, estimate=lambda rows: np.zeros(len(rows)))
    row = flat.medians.copy()
    row[1] += 3.0 * flat.scale[1]
    row[4] -= 5.0 * flat.scale[4]  # the same channel's mean
    row[2] += flat.scale[2]
    assert flat.shares(row) == pytest.approx([0.0, 5.0, 1.0])


def test_a_fitted_model_has_no_state(model: FittedModel) -> None:
    """It asks for no arrays, and says what it needs."""
    assert dict(model.columns()) == {}
    assert model.raise_after == (3, 5)
    assert (model.channels, model.features, model.window) == (CHANNELS, FEATURES, 64)
    empty = judge(model, np.zeros((0, 6)))
    assert len(empty.raw) == len(empty.score) == len(empty.anomalous) == 0


def test_confidence_is_the_calibrations(model: FittedModel) -> None:
    """The strangest reading is nearly certain, the most usual one is not."""
    verdicts = judge(model, np.stack((model.medians, model.medians + 40.0 * model.scale)))
    assert 0.0 <= verdicts.confidence(0) < 0.9
    assert verdicts.confidence(1) == pytest.approx(392 / 393)
