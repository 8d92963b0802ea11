"""Claims about training: what comes out, and what is refused in one sentence."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from stream_detector.detectors.pyod import KINDS
from stream_detector.errors import BundleError, ConfigurationError, DataError
from stream_detector.models import training
from stream_detector.models.training import TrainedModel, train
from tests.models.examples import CHANNELS, FEATURES, feature_rows, trained


def fit(rows: np.ndarray, **changes: Any) -> TrainedModel:
    """Train with usual arguments."""
    usual: dict[str, Any] = {
        "name": "pumps",
        "channels": CHANNELS,
        "features": FEATURES,
        "window": 64,
        "detector": "hbos",
        "contamination": 0.02,
    }
    return train(rows, **usual | changes)


@pytest.mark.parametrize("detector", sorted(KINDS))
def test_the_assumed_share_of_the_training_rows_is_anomalous(detector: str) -> None:
    """Contamination is the share that reaches the threshold, one row more or less."""
    summary = trained(detector).summary
    assert summary.anomalous == pytest.approx(0.02, abs=1 / 400)
    assert summary.rows == summary.used == 400
    assert summary.notes == ()


def test_a_training_row_is_not_its_own_neighbour() -> None:
    """KNN is calibrated on the distance to the fifth nearest other row."""
    rows = feature_rows(300)
    model = fit(rows, detector="knn", contamination=0.1).model
    scaled = model.scaled(rows)
    distances = np.sort(np.linalg.norm(scaled[:, None] - scaled[None], axis=2), axis=1)
    assert model.threshold == pytest.approx(np.quantile(distances[:, 5], 0.9), rel=1e-8)


def test_training_is_repeatable() -> None:
    """The same rows and seed give the same scores; another seed another forest."""
    rows = feature_rows(200)
    first, again, other = (fit(rows, detector="iforest", seed=seed).model.raw(rows) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_that_are_not_complete_are_dropped_and_counted() -> None:
    """A NaN or infinity anywhere drops the row."""
    rows = feature_rows(100)
    rows[3, 0], rows[4, 5], rows[5] = np.nan, np.inf, np.nan
    summary = fit(rows).summary
    assert (summary.rows, summary.dropped, summary.used) == (100, 3, 97)


@pytest.mark.parametrize("detector", sorted(KINDS))
def test_a_constant_column_is_named_and_harms_nobody(detector: str) -> None:
    """Its scale is 1, every detector still scores, and the summary says so."""
    rows = feature_rows(200)
    rows[:, 4] = 21.0
    result = fit(rows, detector=detector)
    assert result.model.scale[4] == 1.0
    assert np.isfinite(result.model.raw(rows)).all()
    assert result.summary.notes == (
        "constant in all rows, so any change of them is unusual: mean of temperature.",
    )


def test_a_support_vector_machine_learns_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time grows with the square of the rows; the summary says what was left out."""
    monkeypatch.setattr(training, "OCSVM_ROWS", 100)
    summary = fit(feature_rows(300), detector="ocsvm").summary
    assert summary.used == 100
    assert summary.notes == ("ocsvm learned from 100 rows chosen at random of 300.",)


@pytest.mark.parametrize(
    ("rows", "changes", "error", "sentence"),
    [
        (feature_rows(49), {}, DataError, "49 complete rows of 49, at least 50 are needed"),
        (np.full((80, 6), 4.0), {}, DataError, "rows that are all equal"),
        (feature_rows(80) * 1e300, {}, DataError, "squares overflow"),
        (feature_rows(80), {"contamination": 0.0}, ConfigurationError, "contamination 0.0"),
        (feature_rows(80), {"contamination": 0.51}, ConfigurationError, "at most 0.5"),
        (feature_rows(80), {"contamination": float("nan")}, ConfigurationError, "contamination nan"),
        (feature_rows(80), {"detector": "oracle"}, ConfigurationError, "known are iforest, hbos"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(
    rows: np.ndarray, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """The sentence names what came and what is legal."""
    with pytest.raises(error, match=sentence):
        fit(rows, **changes)


def test_without_the_libraries_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without fitted models needs none of them."""
    monkeypatch.setitem(sys.modules, "pyod.models.hbos", None)
    with pytest.raises(BundleError, match=r"pip install 'stream-detector\[models\]'") as caught:
        fit(feature_rows(80))
    assert caught.value.reason == "missing"
