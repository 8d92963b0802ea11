"""Examples: recordings of a made-up machine, and models trained on them once for all tests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.models.training import TrainedModel, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = ("vibration", "temperature", "current")
FEATURES = ("value", "mean")


def feature_rows(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return rows of six columns of very different size, two of them alike, (count, 6)."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, 3))
    means = 0.9 * values + 0.1 * generator.normal(size=(count, 3))
    return np.concatenate((values, means), axis=1) * [1.0, 1e-3, 1e4, 1.0, 1e-3, 1e4] + 7.0


@cache
def trained(detector: str, seed: int = 0) -> TrainedModel:
    """Return a model of 400 rows."""
    return train(
        feature_rows(400, seed),
        name="pumps",
        channels=CHANNELS,
        features=FEATURES,
        window=64,
        detector=detector,
        contamination=0.02,
    )
