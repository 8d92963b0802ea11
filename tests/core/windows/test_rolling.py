"""Windows and features against a plain reference that keeps everything and sums anew."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.devices.table import Table
from stream_detector.core.windows import features
from stream_detector.core.windows import rolling as windows
from stream_detector.core.windows.rolling import WindowState
from tests.core.strategies import SECOND

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PlainWindow:
    """One channel of one device: the values as they were stored, None where not reported."""

    def __init__(self, window: int) -> None:
        self.values: deque[float | None] = deque(maxlen=window)
        self.offset = self.last = float("nan")
        self.last_ts = 0
        self.interval = 0.0

    def known(self) -> NDArray[np.float64]:
        """Return the reported values."""
        return np.array([x for x in self.values if x is not None])

    def lagged(self, lag: int) -> float:
        """Return the value of so many readings ago."""
        value = self.values[-lag] if lag <= len(self.values) else None
        return float("nan") if value is None else value

    def held(self, x: float, ts: int) -> float:
        """Return the value, or the last one where it is recent."""
        if not np.isnan(x):
            return x
        return self.last if ts - self.last_ts <= 5 * self.interval else float("nan")

    def append(self, x: float, ts: int) -> None:
        """Keep a value as float32 beside the first one."""
        if np.isnan(x):
            self.values.append(None)
            return
        if np.isnan(self.last):
            self.offset = x
        else:
            weight = 1.0 if self.interval == 0 else 1 / 16
            self.interval += weight * (max(0, ts - self.last_ts) - self.interval)
        self.values.append(float(np.float32(x - self.offset)) + self.offset)
        self.last, self.last_ts = x, ts


def table(window: int, channels: int, devices: int = 1) -> Table:
    """Return an empty table of windows."""
    out = Table(windows.columns(window), channels)
    for _ in range(devices):
        out.add()
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [2, 3, 8])
def test_what_was_known_before_each_reading(window: int, seed: int) -> None:
    """Mean, deviation, previous, held and lagged values are those of a window that keeps everything."""
    random = np.random.default_rng(seed)
    n, devices, channels, lags = 400, 3, 2, (1, 2)
    rows = random.integers(0, devices, n).astype(np.int32)
    values = random.normal(50.0, 5.0, (n, channels))
    values[random.random((n, channels)) < 0.3] = np.nan
    ts = np.cumsum(random.choice([0, SECOND, 9 * SECOND], n, p=[0.1, 0.8, 0.1]))
    state = table(window, channels, devices)
    got = windows.walk(state.record(WindowState), rows, values, ts, lags)

    plain = [[PlainWindow(window) for _ in range(channels)] for _ in range(devices)]
    for i, row in enumerate(rows):
        for c in range(channels):
            channel, x = plain[row][c], float(values[i, c])
            known = channel.known()
            expected = [
                known.mean() if known.size else np.nan,
                known.std() if known.size else np.nan,
                channel.last,
                channel.held(x, int(ts[i])),
                *(channel.lagged(lag) for lag in lags),
            ]
            found = [
                got.mean[i, c],
                got.deviation[i, c],
                got.previous[i, c],
                got.values[i, c],
                *got.lagged[i, :, c],
            ]
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-7)
            assert got.length[i] == len(channel.values)
            channel.append(x, int(ts[i]))
    for row in range(devices):
        kept = np.array([list(channel.values) for channel in plain[row]], dtype=np.float64)
        np.testing.assert_array_equal(windows.readings_of(state.record(WindowState), row), kept.T)


@pytest.mark.parametrize("base", [0.0, 1e12, -1e12])
def test_sums_do_not_drift(base: float) -> None:
    """After 1e5 replacements the sums are still those of the window, for large counters too."""
    n, window = 100_000, 60
    values = base + np.random.default_rng(1).normal(0.0, 1.0, (n, 1)).cumsum(axis=0)
    state = table(window, 1)
    walk = windows.walk(state.record(WindowState), np.zeros(n, dtype=np.int32), values, np.arange(n) * SECOND)
    for i in (window, n // 2, n - 1):
        assert walk.mean[i, 0] - base == pytest.approx(values[i - window : i, 0].mean() - base, abs=1e-3)
        assert walk.deviation[i, 0] == pytest.approx(values[i - window : i, 0].std(), rel=1e-4)
    kept = state["ring"][0, 0].astype(np.float64)
    assert state["mean"][0, 0] == pytest.approx(kept.mean(), rel=1e-12)
    assert state["m2"][0, 0] == pytest.approx(((kept - kept.mean()) ** 2).sum(), rel=1e-10)


@pytest.mark.parametrize("size", [1e9, 1e30, 1.7e308, -1.7e308])
def test_a_spike_leaves_no_trace(size: float) -> None:
    """Two windows after a huge value, mean and deviation are as if it had never been."""
    window = 16
    quiet = 20.0 + np.random.default_rng(2).normal(0.0, 1.0, (6 * window, 1))
    spiked = quiet.copy()
    spiked[window + 3] = size
    rows, ts = np.zeros(len(quiet), dtype=np.int32), np.arange(len(quiet)) * SECOND
    want = windows.walk(table(window, 1).record(WindowState), rows, quiet, ts)
    got = windows.walk(table(window, 1).record(WindowState), rows, spiked, ts)
    after = slice(3 * window + 4, None)
    np.testing.assert_allclose(got.mean[after], want.mean[after], rtol=1e-12)
    np.testing.assert_allclose(got.deviation[after], want.deviation[after], rtol=1e-9)
    assert np.isfinite(got.deviation[1:]).all()


@pytest.mark.parametrize("flat", [0.1, 1e7 + 0.3, -3e-5])
def test_a_line_that_became_flat_has_no_deviation(flat: float) -> None:
    """Once the last other value has left, the deviation is exactly 0, so no z-score explodes."""
    window = 7
    noise = np.random.default_rng(3).normal(0.0, 1.0, 40)
    values = np.concatenate((noise, np.full(3 * window, flat)))[:, None]
    walk = windows.walk(
        table(window, 1).record(WindowState),
        np.zeros(len(values), dtype=np.int32),
        values,
        np.arange(len(values)),
    )
    after = slice(40 + window, None)
    assert (walk.deviation[after] == 0.0).all()
    assert len(set(walk.mean[after, 0])) == 1
    assert (walk.deviation[window : 40 + window - 1] > 0.0).all()


def test_a_window_can_be_empty_of_a_channel() -> None:
    """A channel that is silent for a whole window has no mean, and starts anew without a residue."""
    values = np.array([[1e9]] * 3 + [[np.nan]] * 5 + [[1.0]])
    walk = windows.walk(table(3, 1).record(WindowState), np.zeros(9, dtype=np.int32), values, np.arange(9))
    assert np.isnan(walk.mean[6:, 0]).all()
    assert np.isnan(walk.deviation[6:, 0]).all()


def test_feature_rows() -> None:
    """Rows are blocks of columns by feature, in the model's order of channels, of before the reading."""
    values = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]])
    names = ("value", "mean", "deviation", "z", "difference", "lag_2")
    rows = features.of_history(names, np.zeros(3, dtype=np.int32), values, np.arange(3), window=2)
    assert np.isnan(rows[:2]).all()  # the window is not full before them
    #                       value       mean        deviation  z          difference  lag_2
    assert rows[2].tolist() == [5.0, 10.0, 2.0, 10.0, 1.0, 0.0, 3.0, 0.0, 2.0, 0.0, 1.0, 10.0]


def test_only_features_of_the_window_wait_for_it() -> None:
    """Value, difference and lags are known as soon as their readings are there."""
    values = np.array([[1.0], [4.0], [9.0]])
    rows = features.of_history(
        ("value", "difference", "lag_1"), np.zeros(3, dtype=np.int32), values, np.arange(3), window=64
    )
    np.testing.assert_array_equal(rows, [[1.0, np.nan, np.nan], [4.0, 3.0, 1.0], [9.0, 5.0, 4.0]])


def test_every_feature_fits_into_a_float32() -> None:
    """Whatever a device sends, a row holds finite numbers within the range of float32, or NaN."""
    values = np.array([1.7e308, -1.7e308, 0.0, 5e-324, 1.7e308, 1.0, -1.7e308, 3.0])[:, None]
    names = (*features.FEATURES, "lag_1")
    rows = features.of_history(names, np.zeros(8, dtype=np.int32), values, np.arange(8), window=2)
    assert np.isfinite(rows[2:]).all()
    assert np.abs(rows[2:]).max() <= np.finfo(np.float32).max
    assert np.isnan(rows[:2]).all()


@pytest.mark.parametrize("name", ["lag_65", "lag_0", "lag_", "lag_12345", "median", "Value", ""])
def test_unknown_features_are_named(name: str) -> None:
    """A feature that does not exist, or looks back farther than the window, is named."""
    assert features.unknown(("value", name, "lag_64"), 64) == name


def test_known_features_are_known() -> None:
    """Everything in the table, and a lag as long as the window, is fine."""
    assert features.unknown((*features.FEATURES, "lag_1", "lag_64"), 64) is None
