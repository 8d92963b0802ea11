"""Rules that need no model: a value is out of its range, a device is silent; stuck values have `stuck.py`.

All three score as observed / allowed, so 1.0 is the limit here too. What is allowed is configured
for the range and learned for the others, from each device's own habit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.pauses import KNOWN, STEADY
from stream_detector.core.devices.registry import NEVER
from stream_detector.core.scoring.detector import MAX_SCORE, significant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Arrays


def beyond(
    values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far values lie out of their allowed range: 1.0 on the limit, (n, channels).

    With both limits the distance from the middle counts, in halves of the range; with one limit,
    1 + the excess in units of that limit. Values inside, and channels without limits, get 0.

    Args:
        values: (n, channels); NaN gives 0.
        low: Smallest allowed value, -inf where there is none, (channels,).
        high: Largest allowed value, inf where there is none, (channels,).
    """
    out = np.zeros(values.shape)
    row, column = np.nonzero((values < low) | (values > high))
    if not row.size:
        return out
    x, low, high = values[row, column], low[column], high[column]
    with np.errstate(invalid="ignore", over="ignore"):
        both = np.isfinite(low) & np.isfinite(high) & (high > low)
        half = np.where(both, (high - low) / 2, 1.0)
        from_middle = np.abs(x - (high + low) / 2) / half
        limit = np.where(x < low, low, high)
        excess = 1.0 + np.abs(x - limit) / np.where(limit == 0, 1.0, np.abs(limit))
    # A value a hair beyond the limit may round to a score below 1.
    out[row, column] = _rounded(np.fmax(np.where(both, from_middle, excess), 1.0))
    return out


def silent(state: Arrays, size: int, at: int, at_least: int) -> NDArray[np.float64]:
    """Return quiet time / allowed quiet time of each device at an instant, (size,).

    What is allowed is learned from the device's pauses (`stream_detector.core.devices.pauses`); one of which
    too few are known gets 0.

    Args:
        state: Arrays of `stream_detector.core.devices.registry.COLUMNS`.
        size: Number of slots in use.
        at: Service clock, µs.
        at_least: Quiet time that is always allowed, µs.
    """
    heard = state["heard"][:size]
    known = (state["arrivals"][:size] >= KNOWN) & (heard != NEVER)
    quiet = at - heard[known] - state["unheard"][:size][known]
    learned = state["allowed"][:size][known]
    # Of a device that an older version knew, only its cadence is known until it speaks.
    learned = np.where(learned > 0, learned, STEADY * state["cadence"][:size][known])
    allowed = allowed_quiet(learned, at_least)
    out = np.zeros(size)
    out[known] = quiet / allowed
    over = out >= 1.0
    out[over] = _rounded(out[over])
    return out


def allowed_quiet(allowed: NDArray[np.float64], at_least: int) -> NDArray[np.float64]:
    """Return how long devices that may pause for so long may say nothing, µs; `at_least` always."""
    return np.maximum(float(at_least), allowed)


def _rounded(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores as they are compared and stored: rounded and bounded, like a model's."""
    return np.minimum(significant(score), MAX_SCORE)
