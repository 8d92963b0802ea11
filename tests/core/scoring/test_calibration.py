"""Claims about the way from raw scores to scores and confidences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.core.scoring.calibration import Calibration
from stream_detector.core.scoring.detector import significant

RAW = st.one_of(
    st.floats(-1e12, 1e12).filter(lambda number: number == 0 or abs(number) > 1e-12),
    st.integers(-3, 3).map(float),  # many ties
)
CONTAMINATION = st.floats(0.001, 0.5)


@settings(deadline=None)
@given(training=st.lists(RAW, min_size=2, max_size=80), contamination=CONTAMINATION, raw=RAW)
def test_a_verdict_on_the_score_is_a_verdict_on_the_raw_score(
    training: list[float], contamination: float, raw: float
) -> None:
    """`score >= 1` holds exactly where `raw >= threshold`, next to the threshold too."""
    calibration = Calibration.fit(np.array(training), contamination)
    threshold = calibration.threshold
    near = [np.nextafter(threshold, -np.inf), threshold, np.nextafter(threshold, np.inf), raw]
    near += [*significant(np.array(training)), threshold * (1 - 1e-10), threshold * (1 + 1e-10)]
    scores = calibration.score(np.array(near))
    assert ((scores >= 1.0) == (np.array(near) >= threshold)).all()
    assert scores[1] == 1.0
    assert ((scores >= 0.0) & (scores <= 1000.0)).all()
    assert np.array_equal(scores, significant(scores))


@settings(deadline=None)
@given(training=st.lists(RAW, min_size=2, max_size=80), contamination=CONTAMINATION)
def test_no_more_training_rows_are_anomalous_than_assumed(
    training: list[float], contamination: float
) -> None:
    """The assumed share is kept (up to one row) even where many scores are equal."""
    raw = significant(np.array(training))
    calibration = Calibration.fit(raw, contamination)
    assert np.count_nonzero(raw >= calibration.threshold) <= np.ceil(contamination * len(raw))
    assert calibration.score(np.array([raw.min()]))[0] == 0.0


def test_without_ties_the_threshold_is_the_quantile() -> None:
    """0 is the smallest training score and 1.0 their (1 - contamination) quantile."""
    raw = significant(np.random.default_rng(1).normal(size=4001))
    calibration = Calibration.fit(raw, 0.03)
    assert calibration.threshold == pytest.approx(np.quantile(raw, 0.97), rel=1e-8)
    assert calibration.usual == pytest.approx(raw.min(), rel=1e-8)
    assert calibration.normal == np.count_nonzero(raw < calibration.threshold)


def test_equal_training_scores_still_part_usual_from_unusual() -> None:
    """A model that found all training rows alike calls the same normal and more an anomaly."""
    calibration = Calibration.fit(np.full(100, 7.0), 0.01)
    assert calibration.score(np.array([7.0, 6.0, 7.1])).tolist() == pytest.approx([0.0, 0.0, 1000.0])
    assert calibration.confidence(7.0) == 0.0
    assert calibration.confidence(7.1) == pytest.approx(100 / 101)


def test_not_a_number_stays_and_infinity_is_capped() -> None:
    """NaN has no score and no confidence; an endless raw score has the highest."""
    calibration = Calibration.fit(np.arange(100.0), 0.1)
    scores = calibration.score(np.array([np.nan, np.inf, 1e300, -np.inf]))
    assert np.isnan(scores[0])
    assert scores[1:].tolist() == [1000.0, 1000.0, 0.0]
    assert np.isnan(calibration.confidence(np.nan))


@settings(deadline=None)
@given(training=st.lists(RAW, min_size=2, max_size=200), contamination=CONTAMINATION, raws=st.lists(RAW))
def test_confidence_rises_with_the_raw_score_and_is_never_certain(
    training: list[float], contamination: float, raws: list[float]
) -> None:
    """It is monotone, from 0 to n / (n + 1)."""
    calibration = Calibration.fit(np.array(training), contamination)
    confidences = [calibration.confidence(raw) for raw in sorted(raws)]
    assert confidences == sorted(confidences)
    assert all(0.0 <= confidence < 1.0 for confidence in confidences)


def test_confidence_is_the_share_of_normal_rows_below() -> None:
    """On fresh normal data it is uniform: a confidence of 0.9 is exceeded by one reading of ten."""
    generator = np.random.default_rng(3)
    calibration = Calibration.fit(generator.gamma(2.0, size=20_000), 0.001)
    fresh = [calibration.confidence(raw) for raw in generator.gamma(2.0, size=5000)]
    for quantile in (0.1, 0.5, 0.9, 0.99):
        assert np.quantile(fresh, quantile) == pytest.approx(quantile, abs=0.02)
