"""From a model's own number to a score that means the same for every model.

0 is the most usual reading of the training data, 1.0 exactly the threshold, and between and beyond
them the score is a straight line. The verdict is taken on the score, so rounding must not carry a
reading over the threshold: `score >= 1` holds exactly where `raw >= threshold`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.scoring.detector import MAX_SCORE, SIGNIFICANT_DIGITS, significant

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBABILITIES = (*(percent / 100 for percent in range(100)), 0.995, 0.999, 1.0)
"""Where the normal raw scores are kept: enough for a confidence, small enough for a manifest."""

BELOW_ONE = 1.0 - 10.0**-SIGNIFICANT_DIGITS
"""The largest score that is no anomaly."""

STEP = 1e-6
"""How far above training scores that are all equal the threshold stands, relative to them."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A straight line through two raw scores, and the distribution of the normal ones.

    Attributes:
        usual: Raw score of the most usual reading; maps to 0.
        threshold: Raw score that maps to 1.0; above `usual`.
        quantiles: Raw scores of the normal training rows at `PROBABILITIES`, ascending.
        normal: Number of these rows.

    Example:
        >>> calibration = Calibration.fit(np.arange(1000.0), contamination=0.1)
        >>> calibration.threshold
        899.1
        >>> calibration.score(np.array([0.0, 899.0, 899.1, 1798.2])).round(3).tolist()
        [0.0, 1.0, 1.0, 2.0]
        >>> round(calibration.confidence(450.0), 2)
        0.5
    """

    usual: float
    threshold: float
    quantiles: tuple[float, ...]
    normal: int

    @classmethod
    def fit(cls, raw: NDArray[np.float64], contamination: float) -> Calibration:
        """Calibrate on the raw scores of the training rows.

        The threshold is their (1 - contamination) quantile. Where so many scores are equal that
        more than this share would reach it, it moves up to the next score, or above them all.

        Args:
            raw: Finite raw scores, at least two, (n,).
            contamination: Share of outliers assumed among them, 0 < contamination <= 0.5.
        """
        raw = significant(raw)
        threshold = float(significant(np.quantile(raw, [1.0 - contamination]))[0])
        if np.count_nonzero(raw >= threshold) > math.ceil(contamination * len(raw)):
            beyond = raw[raw > threshold]
            threshold = float(beyond.min()) if beyond.size else threshold + STEP * max(1.0, abs(threshold))
        normal = raw[raw < threshold]
        quantiles = np.quantile(normal, PROBABILITIES)
        return cls(
            usual=float(raw.min()),
            threshold=threshold,
            quantiles=tuple(quantiles.tolist()),
            normal=len(normal),
        )

    def score(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores from 0 to `MAX_SCORE`, rounded to 9 digits; NaN stays NaN, (n,)."""
        with np.errstate(over="ignore"):
            line = (raw - self.usual) / (self.threshold - self.usual)
        score = significant(np.clip(line, 0.0, MAX_SCORE))
        # the quotient is below 1 where raw is below the threshold, but rounding may lift it there
        return np.where(raw < self.threshold, np.minimum(score, BELOW_ONE), score)

    def confidence(self, raw: float) -> float:
        """Return the probability that a normal reading scores lower: conformal, never exactly 1.

        The share of the normal training rows below `raw`, interpolated between the quantiles, times
        n / (n + 1): the reading itself counts as one that is not below.
        """
        if math.isnan(raw):
            return math.nan
        place = bisect_left(self.quantiles, raw)
        if place == 0:
            return 0.0
        if place == len(self.quantiles):
            share = 1.0
        else:
            low, high = self.quantiles[place - 1], self.quantiles[place]
            part = (raw - low) / (high - low)
            share = PROBABILITIES[place - 1] + part * (PROBABILITIES[place] - PROBABILITIES[place - 1])
        return share * self.normal / (self.normal + 1)
