"""NAB's score of detections, written from its definition.

A detection within a labelled window earns the more the earlier it is, and only the best of a window
counts; one outside costs, less so shortly after a window. 0 is a detector that never says anything, 100
one that is right at once each time. Lavin and Ahmad: Evaluating Real-time Anomaly Detection Algorithms -
the Numenta Anomaly Benchmark, ICMLA 2015.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PROBATION = 0.15
LONGEST_PROBATION = 750
FADES = 3.0
"""So many windows after a window a detection costs as much as anywhere."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a found window, a false detection and a missed window count."""

    found: float
    false: float
    missed: float


STANDARD = Profile(1.0, 0.11, 1.0)
LOW_FP = Profile(1.0, 0.22, 1.0)


class Truth:
    """What a detection on each row of a series is worth.

    Args:
        n: Rows.
        windows: First and last row of each, ascending, without overlap.

    Attributes:
        worth: Before a profile weighs it, (n,).
        window: In which window a row is, -1 for none, (n,).
        first: The first row that counts; those before are probation.
        windows: How many there are.
        open_windows: Those that can be found, as they end after the probation.
    """

    def __init__(self, n: int, windows: Sequence[tuple[int, int]]) -> None:
        self.first = math.ceil(min(math.floor(PROBATION * n), LONGEST_PROBATION))
        self.worth = np.full(n, -1.0)
        self.window = np.full(n, -1)
        self.windows = len(windows)
        self.open_windows = [k for k, (_, last) in enumerate(windows) if last >= self.first]
        for k, (first, last) in enumerate(windows):
            width = last - first + 1
            inside = np.arange(first, last + 1)
            self.worth[inside] = _sigmoid(-(last - inside + 1) / width) / _sigmoid(-1.0)
            self.window[inside] = k
            after = np.arange(last + 1, windows[k + 1][0] if k + 1 < len(windows) else n)
            if width > 1:
                away = (after - last) / (width - 1)
                self.worth[after] = np.where(away <= FADES, _sigmoid(np.minimum(away, FADES)), -1.0)

    def raw(self, detected: NDArray[np.bool_], profile: Profile) -> float:
        """Return the score of detections, (n,), not yet between 0 and 100."""
        rows = np.flatnonzero(detected)
        rows = rows[rows >= self.first]
        inside = self.window[rows] >= 0
        total = profile.false * float(self.worth[rows[~inside]].sum())
        best = {}
        for row in rows[inside].tolist():
            k = int(self.window[row])
            best[k] = max(best.get(k, 0.0), float(self.worth[row]))
        return total + sum(
            profile.found * best[k] if k in best else -profile.missed for k in self.open_windows
        )

    def steps(
        self, score: NDArray[np.float64], profile: Profile
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what each row adds to the raw score as a threshold falls to its score.

        Returns:
            The scores of the rows that count, descending, and what each adds, both (n - first,).
        """
        rows = np.argsort(-score[self.first :], kind="stable") + self.first
        window = self.window[rows]
        adds = np.where(window < 0, profile.false * self.worth[rows], 0.0)
        for k in self.open_windows:
            own = np.flatnonzero(window == k)
            best = np.maximum.accumulate(profile.found * self.worth[rows[own]])
            adds[own] = np.diff(best, prepend=-profile.missed)
        return score[rows], adds


def normalised(raw: float, truths: Sequence[Truth], profile: Profile) -> float:
    """Return a raw score between that of no detection, 0, and of the best, 100."""
    nothing = -profile.missed * sum(len(truth.open_windows) for truth in truths)
    best = profile.found * sum(truth.windows for truth in truths)
    return 100 * (raw - nothing) / (best - nothing)


def score(truths: Sequence[Truth], detected: Sequence[NDArray[np.bool_]], profile: Profile) -> float:
    """Return the score of detections in several series."""
    raw = sum(truth.raw(each, profile) for truth, each in zip(truths, detected, strict=True))
    return normalised(raw, truths, profile)


def best_threshold(truths: Sequence[Truth], scores: Sequence[NDArray[np.float64]], profile: Profile) -> float:
    """Return the one threshold for all series that gives the best score; infinite: better say nothing."""
    steps = [truth.steps(each, profile) for truth, each in zip(truths, scores, strict=True)]
    values = np.concatenate([value for value, _ in steps])
    order = np.argsort(-values, kind="stable")
    values, gained = values[order], np.cumsum(np.concatenate([adds for _, adds in steps])[order])
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # of those with one score
    best = last[np.argmax(gained[last])]
    return float(values[best]) if gained[best] > 0 else math.inf


def at_threshold(scores: Sequence[NDArray[np.float64]], threshold: float) -> list[NDArray[np.bool_]]:
    """Return the detections that a threshold makes: rows that reach it."""
    return [each >= threshold for each in scores]


def own_optimum(
    truths: Sequence[Truth], scores: Sequence[NDArray[np.float64]], profile: Profile, splits: int = 24
) -> float:
    """Return the score with a threshold of the corpus' own, not seen where it is judged.

    The series are split into halves at random, `splits` times, always the same; the best threshold of one
    half is judged on the other one, both ways. NaN of fewer than two series.
    """
    if len(truths) < 2:  # noqa: PLR2004 - a pair
        return math.nan
    rng = np.random.default_rng(0)
    found = []
    for _ in range(splits):
        order = rng.permutation(len(truths)).tolist()
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        for learn, judge in (halves, halves[::-1]):
            threshold = best_threshold([truths[i] for i in learn], [scores[i] for i in learn], profile)
            there = [truths[i] for i in judge]
            found.append(score(there, at_threshold([scores[i] for i in judge], threshold), profile))
    return float(np.mean(found))


def _sigmoid(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 2 / (1 + np.exp(5 * np.asarray(x, dtype=np.float64))) - 1
