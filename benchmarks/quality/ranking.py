"""How well a continuous score ranks rows: the volume under the surface of precision and recall (VUS-PR).

Labels of anomalies in time are never exact to the row. So around each labelled run a margin counts in part,
falling off like a square root, and the area under the curve of precision and recall is averaged over all
widths of the margin, up to the series' own period. Paparrizos et al.: Volume Under the Surface: A New
Accuracy Evaluation Measure for Time-Series Anomaly Detection, PVLDB 15(11), 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLDS = 250
LAGS = 400
SHORTEST_PERIOD, LONGEST_PERIOD = 3, 300
PERIOD = 125
"""Of a series that shows none."""
ROWS_FOR_PERIOD = 20_000


def period(values: NDArray[np.float64]) -> int:
    """Return the lag of the highest peak of a series' autocorrelation, 125 where there is none in reach."""
    x = values[:ROWS_FOR_PERIOD] - values[:ROWS_FOR_PERIOD].mean()
    n = len(x)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), size)[: min(n, LAGS + 1)]
    if not correlation[0] > 0:
        return PERIOD
    lags = (correlation / correlation[0])[SHORTEST_PERIOD:]
    peaks = np.flatnonzero((lags[1:-1] > lags[:-2]) & (lags[1:-1] > lags[2:])) + 1
    if not len(peaks):
        return PERIOD
    best = int(peaks[np.argmax(lags[peaks])])
    return best + SHORTEST_PERIOD if SHORTEST_PERIOD <= best <= LONGEST_PERIOD else PERIOD


def vus_pr(label: NDArray[np.int64], score: NDArray[np.float64], widest: int) -> float:
    """Return the volume under the surface of precision and recall.

    Args:
        label: 1 for rows of an anomaly, (n,); at least one of them, and not all.
        score: Higher is more anomalous, (n,).
        widest: Margin up to which is averaged, rows.
    """
    n, positive = len(label), int(label.sum())
    order = np.argsort(-score, kind="stable")
    descending = score[order]
    thresholds = descending[np.linspace(0, n - 1, THRESHOLDS).astype(int)]
    predicted = np.searchsorted(-descending, -thresholds, side="right")  # rows that reach each threshold
    runs = _runs(label)
    counted = np.zeros(n, dtype=np.bool_)  # the widest margins: nothing outside can be right
    for first, last in _with_margin(runs, widest, n):
        counted[first : last + 1] = True
    positives, areas = label[order] > 0, []
    for width in range(widest + 1):
        in_order = np.where(counted, _soft(label, runs, width), 0.0)[order]
        hit = np.cumsum(in_order)[predicted - 1]
        margin = np.cumsum(np.where(positives, 0.0, in_order))[predicted - 1]
        # The size that recall is of lies between the labels and the labels with the margin that was found;
        # a run of which no row was found takes its share off.
        recall = np.minimum(hit / (positive + margin / 2), 1) * _found(
            _with_margin(runs, width, n), score, thresholds
        )
        areas.append(float((np.diff(recall, prepend=0.0) * hit / predicted).sum()))
    return sum(areas) / len(areas)


def _soft(label: NDArray[np.int64], runs: list[tuple[int, int]], width: int) -> NDArray[np.float64]:
    """Return labels with margins: half of `width` on either side, falling off like a square root."""
    soft, n, half = label.astype(np.float64), len(label), width // 2
    for first, last in runs:
        after = np.arange(last + 1, min(last + half + 1, n))
        soft[after] += np.sqrt(1 - (after - last) / max(width, 1))
        before = np.arange(max(first - half, 0), first)
        soft[before] += np.sqrt(1 - (first - before) / max(width, 1))
    return np.minimum(soft, 1.0)


def _runs(label: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return first and last row of each run of ones."""
    edges = np.diff(np.concatenate(([0], label, [0])))
    return list(
        zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True)
    )


def _with_margin(runs: list[tuple[int, int]], width: int, n: int) -> list[tuple[int, int]]:
    """Return the runs with half of `width` on either side; those that then touch are one."""
    half, wide = width // 2, []
    for first, last in runs:
        if wide and first - half <= wide[-1][1] + half:
            wide[-1][1] = last
        else:
            wide.append([first, last])
    return [(max(first - half, 0), min(last + half, n - 1)) for first, last in wide]


def _found(
    runs: list[tuple[int, int]], score: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return for each threshold the share of the runs in which a row reaches it."""
    highest = np.sort([score[first : last + 1].max() for first, last in runs])
    return 1 - np.searchsorted(highest, thresholds, side="left") / len(runs)
