"""A detector at work in a layout: where its channels stand there, and what it has learned of each device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.table import Table
from stream_detector.core.windows import features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.scoring.detector import Detector, Verdicts
    from stream_detector.core.windows.rolling import Walk


class Scorer:
    """One detector in one layout.

    Args:
        detector: The detector.
        channels: Those of the layout, in the order of its columns.
        window: Readings in a window.

    Attributes:
        learned: What the detector has learned, a row a device; rows are those of the layout.
        places: Where the detector's channels stand in the layout; None: one is missing, and it cannot score.
        lags: How many readings back it looks.
    """

    def __init__(self, detector: Detector, channels: tuple[str, ...], window: int) -> None:
        self.detector = detector
        self.learned = Table(detector.columns(), len(channels))
        self.places = _places(detector, channels)
        self.lags = features.lags_of(detector.features)
        self._window = window

    def score(
        self, rows: NDArray[np.int32], values: NDArray[np.float64], ts: NDArray[np.int64], walk: Walk
    ) -> Verdicts:
        """Score readings in arrival order, and learn from them; `places` must not be None.

        Args:
            rows: The device's row of each, (m,).
            values: As they came, NaN where not reported, (m, channels).
            ts: Event time, µs, (m,).
            walk: What was known before each, with the lags that are wanted.
        """
        detector = self.detector
        if detector.channels is None or self.places is None:  # only what was really reported counts
            return detector.score(self.learned, rows, values, np.empty((len(rows), 0)), ts)
        table = features.rows(detector.features, walk, self.places, self._window)
        return detector.score(self.learned, rows, walk.values[:, self.places], table, ts)


def _places(detector: Detector, channels: tuple[str, ...]) -> NDArray[np.int64] | None:
    names = channels if detector.channels is None else detector.channels
    if any(name not in channels for name in names):
        return None
    return np.array([channels.index(name) for name in names], dtype=np.int64)
