"""Feature rows: what a fitted model sees of a reading.

The table FEATURES names and orders the columns; a feature is one function from what was known
before the reading to one column a channel. Lag rows are the family ``lag_<k>``: the value of k
readings ago.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.table import Table
from stream_detector.core.windows import rolling as windows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.windows.rolling import Walk

LAG = re.compile(r"lag_([1-9]\d{0,3})")


def _z(walk: Walk) -> NDArray[np.float64]:
    away = walk.values - walk.mean
    # A channel that never moved has no deviation: whatever it does, it is 0 deviations away.
    still = np.where(np.isnan(away), np.nan, 0.0)
    return np.divide(away, walk.deviation, out=still, where=walk.deviation > 0)


FEATURES: Mapping[str, Callable[[Walk], NDArray[np.float64]]] = {
    "value": lambda walk: walk.values,
    "z": _z,
    "difference": lambda walk: walk.values - walk.previous,
    "mean": lambda walk: walk.mean,
    "deviation": lambda walk: walk.deviation,
}
"""Name -> (n, channels). NaN: not known yet."""

NEEDS_FULL_WINDOW = frozenset({"z", "mean", "deviation"})


def lags_of(features: Sequence[str]) -> tuple[int, ...]:
    """Return the lags that these features need.

    Example:
        >>> lags_of(("value", "lag_2", "lag_4"))
        (2, 4)
    """
    return tuple(int(match[1]) for name in features if (match := LAG.fullmatch(name)))


def unknown(features: Sequence[str], window: int) -> str | None:
    """Return the first name that is no feature of a window of that size, or None."""
    for name in features:
        match = LAG.fullmatch(name)
        if (match and int(match[1]) > window) or (not match and name not in FEATURES):
            return name
    return None


def rows(
    features: Sequence[str], walk: Walk, channels: NDArray[np.int64], window: int
) -> NDArray[np.float64]:
    """Return feature rows (n, features * channels): one block of columns a feature.

    Rows are NaN throughout while the window is too short for one of the features; what is known
    fits into a float32.

    Args:
        features: Names from `FEATURES`, or ``lag_<k>``.
        walk: What was known before each reading; with lagged values for these features.
        channels: Positions of the wanted channels, in the model's order.
        window: Readings that the window holds when full.
    """
    lags = walk.lags.tolist()
    with np.errstate(over="ignore"):
        blocks = [
            FEATURES[name](walk) if name in FEATURES else walk.lagged[:, lags.index(int(name[4:]))]
            for name in features
        ]
    out = np.concatenate([block[:, channels] for block in blocks], axis=1)
    np.clip(out, -windows.LARGEST, windows.LARGEST, out=out)
    if NEEDS_FULL_WINDOW.intersection(features):
        out[walk.length < window] = np.nan
    return out


def of_history(
    features: Sequence[str],
    devices: NDArray[np.int32],
    values: NDArray[np.float64],
    ts: NDArray[np.int64],
    window: int,
) -> NDArray[np.float64]:
    """Return the feature rows of a whole recording, as the live service would have seen them.

    Args:
        features: Names from `FEATURES`, or ``lag_<k>``.
        devices: Number of the device of each reading, 0 .. k - 1, (n,).
        values: Channel values, (n, channels).
        ts: Event time, µs, ascending within a device, (n,).
        window: Readings in a window.
    """
    table = Table(windows.columns(window), values.shape[1])
    for _ in range(int(devices.max(initial=-1)) + 1):
        table.add()
    walked = windows.walk(table.record(windows.WindowState), devices, values, ts, lags_of(features))
    return rows(features, walked, np.arange(values.shape[1]), window)
