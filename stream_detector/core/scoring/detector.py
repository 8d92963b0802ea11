"""The promise every detector keeps.

There are two kinds, and one promise for both. An online detector (the baseline) learns each device
by itself: it owns arrays with one row a device and reads and writes them in arrival order. A fitted
model (a bundle) has no state: it gets feature rows and returns numbers. Either way one call scores
a batch, and cutting the batch differently gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Column, Table

MAX_SCORE = 1000.0
SIGNIFICANT_DIGITS = 9
SMALLEST = 1e-290
"""What is closer to 0 is 0: its rounding factor would not be finite."""


@dataclass(frozen=True, slots=True)
class ChannelVerdicts:
    """What a detector that judges each channel by itself says of n readings; all (n, channels).

    Attributes:
        score: 1.0 is the threshold; NaN where the reading does not carry the channel, or it is too early.
        anomalous: Unusual by what was healthy; true only where ``score >= 1``.
        accepted: With this reading, what was unusual has become the channel's new normal.
        seen: What the view that says most has looked at, ...
        lower: ... and the band in which that was expected; NaN where nothing can be said.
        upper: Its other end.
        view: Which view that is, by its place in `Verdicts.views`.
    """

    score: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    seen: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    view: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a detector says of a batch of n readings.

    Attributes:
        raw: The detector's own number, higher is more anomalous; NaN where it cannot say yet, (n,).
        score: Calibrated: 1.0 is the threshold, 0 the most usual; NaN as in `raw`, (n,).
        anomalous: The verdict; true only where ``score >= 1``, (n,) bool.
        confidence: For reading i, the probability that a normal reading would score lower.
        shares: For reading i, how much each channel added, (channels,), each >= 0; any sum.
        by_channel: The verdict on each channel; None: the detector judges the device as a whole.
        views: The names of what is looked at, for `by_channel`.
    """

    raw: NDArray[np.float64]
    score: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    confidence: Callable[[int], float]
    shares: Callable[[int], NDArray[np.float64]]
    by_channel: ChannelVerdicts | None = None
    views: tuple[str, ...] = ("value",)


class Detector(Protocol):
    """Scores readings; learns from them, or was fitted before.

    Attributes:
        name: Of a built-in detector, such as ``default``, or the bundle's.
        version: The bundle's version; the code's for a built-in detector.
        threshold: The raw number that maps to score 1.0.
        channels: The channels it must have, in its order; None: any, each by itself.
        features: Names from `stream_detector.core.windows.features.FEATURES`, the blocks of its rows.
        raise_after: Its own N and M: raise at N anomalous readings of the last M.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - the class docstring says it
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def threshold(self) -> float: ...  # noqa: D102
    @property
    def channels(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def features(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def raise_after(self) -> tuple[int, int]: ...  # noqa: D102

    def columns(self) -> Mapping[str, Column]:
        """Return the arrays that hold what it learned of each device; empty: it has no state."""
        ...

    def score(
        self,
        learned: Table,
        slots: NDArray[np.int32],
        values: NDArray[np.float64],
        rows: NDArray[np.float64],
        ts: NDArray[np.int64],
    ) -> Verdicts:
        """Score a batch in arrival order, and learn from it.

        Args:
            learned: Holds the arrays that `columns` asked for, (devices, ...), changed in place.
            slots: Row of `learned` of each reading, (n,).
            values: Channel values, NaN where not reported, (n, channels).
            rows: Feature rows, (n, len(features) * channels); NaN rows get NaN.
            ts: Event time, µs, (n,).
        """
        ...


def significant(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to 9 significant digits, so that the last bits of a sum never decide an alert."""
    out = np.array(values, dtype=np.float64)
    out[np.abs(out) < SMALLEST] = 0.0
    mask = np.isfinite(out) & (out != 0)
    if mask.any():
        part = out[mask]
        scale = 10.0 ** (SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(np.abs(part))))
        out[mask] = np.round(part * scale) / scale
    return out
