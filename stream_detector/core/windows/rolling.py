"""Rolling windows: the last N readings of every device, in one array.

A device owns a row, a row owns a ring of values for each channel. A walk goes through a batch in
arrival order; for each reading it first writes down what was known before it (mean, deviation,
previous value, lagged values) and then appends it. Sums are kept current by Welford's update with
replacement (B. P. Welford, Technometrics 1962), so a mean costs the same for N = 8 and N = 8192.
When nearly all of the variance leaves with one value, they are taken anew: else what a spike of 1e9
rounded away would stay for ever, and a line that became flat would never have deviation 0.

The ring holds float32(value - offset), the offset being the channel's first value, so that large
counters keep their digits. A channel that a reading does not report (NaN) takes part neither in
the sums nor in the "previous value".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.devices.table import Column
from stream_detector.core.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

LARGEST = float(np.finfo(np.float32).max)
"""What is farther from the offset is kept as this, so that no sum becomes infinite."""

CANCELLED = 1e-6
"""Where so little of a sum of squares is left, too many of its digits are rounding."""

HOLD_CADENCES = 5.0
"""A channel's last value counts as current for so many of its usual intervals."""


def columns(window: int) -> Mapping[str, Column]:
    """Return the arrays of a window of `window` readings (2 or more)."""
    return {
        "ring": Column(np.float32, (window,), per_channel=True),
        "offset": Column(np.float64, per_channel=True),
        "mean": Column(np.float64, per_channel=True),
        "m2": Column(np.float64, per_channel=True),
        "known": Column(np.int32, per_channel=True),  # values of this channel in the ring
        "last": Column(np.float64, per_channel=True, fill=np.nan),
        "last_ts": Column(np.int64, per_channel=True),
        "interval": Column(np.float64, per_channel=True),  # smoothed time between two values, µs
        "length": Column(np.int32),  # readings in the ring
        "head": Column(np.int32),  # where the next one goes
    }


class WindowState(NamedTuple):
    """The arrays of `columns`: (devices, channels) unless said."""

    ring: NDArray[np.float32]  # (devices, channels, window)
    offset: NDArray[np.float64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    known: NDArray[np.int32]
    last: NDArray[np.float64]
    last_ts: NDArray[np.int64]
    interval: NDArray[np.float64]
    length: NDArray[np.int32]  # (devices,)
    head: NDArray[np.int32]  # (devices,)


class Walk(NamedTuple):
    """What was known of each reading's device just before it; all (n, channels) unless said.

    Attributes:
        values: The reading itself, with a channel's last value where it reported none and the last
            one is recent; NaN where there is nothing to hold.
        previous: The value before.
        mean: Mean of the window.
        deviation: Standard deviation of the window (of the population).
        length: Readings in the window, (n,).
        lags: How many readings back the lagged values are, (lags,).
        lagged: The values of so many readings ago, (n, lags, channels).
    """

    values: NDArray[np.float64]
    previous: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    length: NDArray[np.int32]
    lags: NDArray[np.int64]
    lagged: NDArray[np.float64]

    @classmethod
    def blank(cls, n: int, channels: int, lags: Sequence[int]) -> Walk:
        """Return a walk through n readings that nothing is known about yet."""
        return cls(
            values=np.empty((n, channels)),
            previous=np.empty((n, channels)),
            mean=np.empty((n, channels)),
            deviation=np.empty((n, channels)),
            length=np.empty(n, dtype=np.int32),
            lags=np.array(lags, dtype=np.int64),
            lagged=np.empty((n, len(lags), channels)),
        )


def walk(
    state: WindowState,
    rows: NDArray[np.int32],
    values: NDArray[np.float64],
    ts: NDArray[np.int64],
    lags: Sequence[int] = (),
) -> Walk:
    """Append a batch in arrival order and return what was known before each reading.

    Args:
        state: Changed in place.
        rows: The device's row of each reading, (n,).
        values: Channel values, NaN where not reported, (n, channels).
        ts: Event time, µs, (n,).
        lags: How many readings back the lagged values are wanted; each at most the window.
    """
    out = Walk.blank(len(values), values.shape[1], lags)
    _walk(rows, values, ts, state, out)
    return out


def readings_of(state: WindowState, row: int) -> NDArray[np.float64]:
    """Return a device's window, oldest first, (length, channels); NaN where not reported."""
    length, head = int(state.length[row]), int(state.head[row])
    capacity = state.ring.shape[2]
    order = (head - length + np.arange(length)) % capacity
    out: NDArray[np.float64] = state.ring[row][:, order].T.astype(np.float64) + state.offset[row]
    return out


@kernel
def _sums(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean and the sum of squared deviations of what is not NaN; 0, 0 for nothing."""
    count, first, total, squares = 0, 0.0, 0.0, 0.0
    for x in values:
        if not np.isnan(x):
            if count == 0:
                first = np.float64(x)
            count += 1
            total += np.float64(x) - first  # equal values sum to exactly 0
    mean = first + total / max(count, 1)
    for x in values:
        if not np.isnan(x):
            squares += (np.float64(x) - mean) ** 2
    return mean, squares


@kernel
def _walk(  # noqa: C901, PLR0912, PLR0915 - one pass over memory; in parts it takes more than twice as long
    rows: NDArray[np.int32],
    values: NDArray[np.float64],
    ts: NDArray[np.int64],
    state: WindowState,
    out: Walk,
) -> None:
    ring, offset, mean, m2, known = state.ring, state.offset, state.mean, state.m2, state.known
    last, last_ts, interval = state.last, state.last_ts, state.interval
    length, head = state.length, state.head
    out_values, out_previous, out_mean, out_deviation = out.values, out.previous, out.mean, out.deviation
    out_length, lags, out_lagged = out.length, out.lags, out.lagged
    n, channels = values.shape
    capacity = ring.shape[2]
    for i in range(n):
        r = rows[i]
        h = head[r]
        full = length[r] == capacity
        out_length[i] = length[r]
        for c in range(channels):
            # What was known before this reading.
            x = values[i, c]
            k = known[r, c]
            out_previous[i, c] = last[r, c]
            out_mean[i, c] = mean[r, c] + offset[r, c] if k > 0 else np.nan
            out_deviation[i, c] = np.sqrt(m2[r, c] / k) if k > 0 else np.nan
            for j in range(lags.shape[0]):
                lag = lags[j]
                if lag > length[r]:
                    out_lagged[i, j, c] = np.nan
                else:
                    out_lagged[i, j, c] = np.float64(ring[r, c, (h - lag) % capacity]) + offset[r, c]
            if np.isnan(x):
                held = ts[i] - last_ts[r, c] <= HOLD_CADENCES * interval[r, c]
                out_values[i, c] = last[r, c] if held else np.nan
            else:
                out_values[i, c] = x
            # The value that leaves the ring.
            if full:
                old = np.float64(ring[r, c, h])
                if not np.isnan(old):
                    k -= 1
                    before = mean[r, c]
                    mean[r, c] = before + (before - old) / max(k, 1)
                    leaving = (old - before) * (old - mean[r, c])
                    m2[r, c] -= leaving
                    if k == 0 or m2[r, c] < CANCELLED * leaving:
                        ring[r, c, h] = np.nan
                        mean[r, c], m2[r, c] = _sums(ring[r, c])
            # The value that enters it.
            if np.isnan(x):
                ring[r, c, h] = np.nan
            else:
                if np.isnan(last[r, c]):
                    offset[r, c] = x
                else:
                    gap = max(0, ts[i] - last_ts[r, c])
                    # The first interval as it is, later ones smoothed over about 16 values.
                    interval[r, c] += (gap - interval[r, c]) * (1.0 if interval[r, c] == 0.0 else 0.0625)
                new = np.float32(min(max(x - offset[r, c], -LARGEST), LARGEST))
                ring[r, c, h] = new
                k += 1
                before = mean[r, c]
                mean[r, c] = before + (np.float64(new) - before) / k
                m2[r, c] += (np.float64(new) - before) * (np.float64(new) - mean[r, c])
                last[r, c] = x
                last_ts[r, c] = ts[i]
            known[r, c] = k
        head[r] = (h + 1) % capacity
        if not full:
            length[r] += 1
