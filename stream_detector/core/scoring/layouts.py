"""Layouts: the devices of a stream that report the same channels, with arrays of their own.

A layout runs everything that looks at values: windows, feature rows, the detector and the rules.
What it finds for a part of a batch is kept until the alert machine has asked for what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.table import Table
from stream_detector.core.scoring import rules
from stream_detector.core.spec import Limits
from stream_detector.core.windows import features
from stream_detector.core.windows import rolling as windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.scoring.detector import Detector, Verdicts


@dataclass(frozen=True, slots=True)
class Part:
    """What a layout found for m readings of a batch.

    Attributes:
        layout: The layout.
        rows: The device's row in the layout's table, (m,).
        values: The readings as they came, NaN where not reported, (m, channels).
        walk: What was known before each, and the values held.
        verdicts: Of the detector; None where it needs channels that the layout lacks.
        beyond: Out of the allowed range, 1.0 is the limit, (m, channels).
        stuck: How stuck the values are.
    """

    layout: Layout
    rows: NDArray[np.int32]
    values: NDArray[np.float64]
    walk: windows.Walk
    verdicts: Verdicts | None
    beyond: NDArray[np.float64]
    stuck: rules.Stuck


class Layout:
    """One set of channels.

    Args:
        channels: Their names, in the order of the columns.
        window: Readings in a window.
        limits: What is known of channels, by name.
        detector: What scores them.
        watch_stuck: Whether values that do not move are judged.
    """

    def __init__(
        self,
        channels: tuple[str, ...],
        window: int,
        limits: Mapping[str, Limits],
        detector: Detector,
        *,
        watch_stuck: bool,
    ) -> None:
        self.channels = channels
        self.place = {name: place for place, name in enumerate(channels)}
        self.window = window
        self.limits = [limits.get(name, Limits()) for name in channels]
        self.low = np.array([-np.inf if limit.low is None else limit.low for limit in self.limits])
        self.high = np.array([np.inf if limit.high is None else limit.high for limit in self.limits])
        self.limited = bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())
        self.watch_stuck = watch_stuck
        self.detector = detector
        columns = {**windows.columns(window), **rules.STUCK_COLUMNS, **detector.columns()}
        self.table = Table(columns, len(channels))
        self.wanted = self._positions(detector)

    def use(self, detector: Detector) -> None:
        """Score with another detector from now on; what the old one learned is dropped."""
        self.table.replace(detector.columns(), drop=tuple(self.detector.columns()))
        self.detector = detector
        self.wanted = self._positions(detector)

    def process(self, rows: NDArray[np.int32], values: NDArray[np.float64], ts: NDArray[np.int64]) -> Part:
        """Take readings in, in arrival order.

        Args:
            rows: The device's row of each, (m,).
            values: (m, channels), NaN where not reported.
            ts: Event time, µs, (m,).
        """
        state = self.table.arrays
        walk = windows.walk(state, rows, values, ts, features.lags_of(self.detector.features))
        beyond = rules.beyond(walk.values, self.low, self.high) if self.limited else np.zeros(values.shape)
        return Part(
            layout=self,
            rows=rows,
            values=values,
            walk=walk,
            verdicts=self._score(rows, values, walk),
            beyond=beyond,
            stuck=rules.stuck(state, rows, values) if self.watch_stuck else rules.Stuck.none(values.shape),
        )

    def _score(
        self, rows: NDArray[np.int32], values: NDArray[np.float64], walk: windows.Walk
    ) -> Verdicts | None:
        detector = self.detector
        if detector.channels is None:  # each channel by itself: only what was really reported counts
            return detector.score(self.table.arrays, rows, values, np.empty((len(rows), 0)))
        if self.wanted is None:
            return None
        table = features.rows(detector.features, walk, self.wanted, self.window)
        return detector.score(self.table.arrays, rows, walk.values[:, self.wanted], table)

    def _positions(self, detector: Detector) -> NDArray[np.int64] | None:
        """Return where the detector's channels stand here, or None where one is missing."""
        names = self.channels if detector.channels is None else detector.channels
        if any(name not in self.place for name in names):
            return None
        return np.array([self.place[name] for name in names], dtype=np.int64)
