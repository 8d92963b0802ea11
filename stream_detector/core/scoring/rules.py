"""Rules that need no model: a value is out of its range or stuck, a device is silent.

All three score as observed / allowed, so 1.0 is the limit here too. What is allowed is configured
for the range and learned for the others, from each device's own habit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.devices.pauses import KNOWN, STEADY
from stream_detector.core.devices.registry import NEVER
from stream_detector.core.devices.table import Column
from stream_detector.core.kernel import kernel
from stream_detector.core.scoring.detector import MAX_SCORE, significant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Arrays

STUCK_COLUMNS: Mapping[str, Column] = {
    "value": Column(np.float64, per_channel=True, fill=np.nan),
    "repeats": Column(np.int64, per_channel=True),  # how often the value came again
    "longest": Column(np.int64, per_channel=True),  # most repeats seen while that was usual
    "changes": Column(np.int64, per_channel=True),
}

STUCK_FACTOR = 4.0
STUCK_AT_LEAST = 30.0
STUCK_CHANGES = 20
"""A channel that has changed less often may well be a setpoint or a switch."""


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


class StuckState(NamedTuple):
    """The arrays of `STUCK_COLUMNS`, (devices, channels)."""

    value: NDArray[np.float64]
    repeats: NDArray[np.int64]
    longest: NDArray[np.int64]
    changes: NDArray[np.int64]


class Stuck(NamedTuple):
    """How stuck values are, and what is usual at that moment; (n, channels) unless said.

    Attributes:
        score: Repeats / allowed repeats; 0 while the channel is not judged.
        worst: The highest score of each reading, (n,).
        longest: Most repeats that were usual.
        changes: How often the channel has changed.
    """

    score: NDArray[np.float64]
    worst: NDArray[np.float64]
    longest: NDArray[np.int64]
    changes: NDArray[np.int64]

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Stuck:
        """Return what is said of values that nobody judges."""
        nothing = np.zeros(shape, dtype=np.int64)
        return cls(np.zeros(shape), np.zeros(shape[0]), nothing, nothing)


def stuck(state: StuckState, rows: NDArray[np.int32], values: NDArray[np.float64]) -> Stuck:
    """Count how often values come again, in arrival order.

    Allowed are four times the most repeats that this channel showed before, at least 30; a channel
    is judged once it has changed 20 times.

    Args:
        state: Changed in place.
        rows: The device's row of each reading, (n,).
        values: (n, channels); NaN: not reported, the channel stays as stuck as it was.
    """
    out = Stuck(
        score=np.zeros(values.shape),
        worst=np.zeros(len(values)),
        longest=np.empty(values.shape, dtype=np.int64),
        changes=np.empty(values.shape, dtype=np.int64),
    )
    _stuck(rows, values, state, out)
    return out


def allowed_repeats(longest: int) -> float:
    """Return how often a value may come again before it counts as stuck."""
    return max(STUCK_AT_LEAST, STUCK_FACTOR * longest)


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
def _stuck(rows: NDArray[np.int32], values: NDArray[np.float64], state: StuckState, out: Stuck) -> None:
    last, repeats, longest, changes = state.value, state.repeats, state.longest, state.changes
    score, worst, longest_then, changes_then = out.score, out.worst, out.longest, out.changes
    n, channels = values.shape
    for i in range(n):
        r = rows[i]
        for c in range(channels):
            x = values[i, c]
            allowed = max(STUCK_AT_LEAST, STUCK_FACTOR * longest[r, c])
            if x == last[r, c]:
                repeats[r, c] += 1
            elif not np.isnan(x):
                # What was judged stuck is not learned as usual.
                if repeats[r, c] < allowed or changes[r, c] < STUCK_CHANGES:
                    longest[r, c] = max(longest[r, c], repeats[r, c])
                if not np.isnan(last[r, c]):
                    changes[r, c] += 1
                repeats[r, c] = 0
                last[r, c] = x
            if changes[r, c] >= STUCK_CHANGES:
                # A quotient of whole numbers has no digits that need rounding.
                score[i, c] = min(repeats[r, c] / allowed, MAX_SCORE)
                worst[i] = max(worst[i], score[i, c])
            longest_then[i, c] = longest[r, c]
            changes_then[i, c] = changes[r, c]
