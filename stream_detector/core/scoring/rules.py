"""Rules that need no model: a value is out of its range, a device is silent; stuck values have `stuck.py`.

All three score as observed / allowed, so 1.0 is the limit here too. What is allowed is configured
for the range and learned for the others, from each device's own habit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.devices.acceptance import LATELY
from stream_detector.core.devices.pauses import KNOWN, STEADY
from stream_detector.core.devices.registry import NEVER
from stream_detector.core.devices.table import Column
from stream_detector.core.kernel import kernel
from stream_detector.core.scoring.detector import MAX_SCORE, significant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Arrays


WITHIN_COLUMNS: Mapping[str, Column] = {
    "within_mean": Column(np.float64, per_channel=True),  # of values within the limits
    "within_variance": Column(np.float64, per_channel=True),
    "within_seen": Column(np.int64, per_channel=True),
}

MOSTLY = LATELY // 2 + 1
"""So many late ones among a device's last readings say that it is hardly judged any more."""

WITHIN = 256
"""How a channel varies within its limits is known from about so many of its last values there."""
NEAR, LEAST_NEAR, MOST_NEAR = 3.0, 0.01, 0.1
"""A value is near a limit within three standard deviations, taken as 1 to 10 % of the range."""


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


class WithinState(NamedTuple):
    """The arrays of `WITHIN_COLUMNS`, (devices, channels)."""

    within_mean: NDArray[np.float64]
    within_variance: NDArray[np.float64]
    within_seen: NDArray[np.int64]


def within(
    state: WithinState,
    rows: NDArray[np.int32],
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how much values vary within their limits: standard deviations just after each reading.

    What is beyond the limits is left out: an excursion would make all that comes after it look usual.

    Args:
        state: Changed in place.
        rows: The device's row of each reading, (n,).
        values: (n, channels), NaN where not reported.
        low: Smallest allowed value, -inf where there is none, (channels,).
        high: Largest allowed value, inf where there is none, (channels,).
    """
    out = np.empty(values.shape)
    _within(rows, values, low, high, state, out)
    return out


def near(
    values: NDArray[np.float64],
    deviation: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which values are inside their limits, but so little that the next may be out again.

    Args:
        values: (channels,).
        deviation: What `within` says of them.
        low: Smallest allowed value, -inf where there is none.
        high: Largest allowed value, inf where there is none.
    """
    lowest = np.where(np.isfinite(low), np.abs(low), 0.0)
    highest = np.where(np.isfinite(high), np.abs(high), 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        both = np.isfinite(low) & np.isfinite(high)
        size = np.where(both, high - low, np.maximum(lowest, highest))
        # A limit of 0 says nothing of what is much.
        usual = NEAR * deviation
        margin = np.where(size > 0, np.clip(usual, LEAST_NEAR * size, MOST_NEAR * size), usual)
        inside = (values >= low) & (values <= high)
        found: NDArray[np.bool_] = inside & (np.fmin(values - low, high - values) < margin)
    return found


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


@kernel
def _within(
    rows: NDArray[np.int32],
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    state: WithinState,
    out: NDArray[np.float64],
) -> None:
    mean, variance, seen = state.within_mean, state.within_variance, state.within_seen
    n, channels = values.shape
    for i in range(n):
        r = rows[i]
        for c in range(channels):
            x = values[i, c]
            if low[c] <= x <= high[c] and np.isfinite(x):
                seen[r, c] += 1
                share = 1.0 / min(seen[r, c], WITHIN)
                step = x - mean[r, c]
                mean[r, c] += share * step
                variance[r, c] = (1.0 - share) * (variance[r, c] + share * step * step)
            out[i, c] = np.sqrt(variance[r, c])
