"""ECOD for one row at a time, exactly as PyOD scores a row that comes alone, without its sorting.

PyOD's ECOD appends the rows of a call to the training rows and ranks all of them together, so a
row's score depends on the other rows of the call. Here each row is ranked alone: the answer is the
one that PyOD gives for a call with this row only.

Source: Li, Zhao, Hu, Botta, Ionescu, Chen: ECOD, IEEE TKDE 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLEARLY_SKEWED = 1e-9
"""Skewness that no rounding error brings about."""


@dataclass(frozen=True, slots=True)
class Ecod:
    """The training rows, prepared for ranking one more row.

    Attributes:
        train: Training rows, (m, columns).
        ascending: Each column sorted, (columns, m).
        surprise: Minus the logarithm of the share of m + 1 rows that k of them are, at k - 1.
        moments: Mean and second and third central sum of each column, (3, columns).
    """

    train: NDArray[np.float64]
    ascending: NDArray[np.float64]
    surprise: NDArray[np.float64]
    moments: NDArray[np.float64]

    @classmethod
    def of(cls, estimator: Any) -> Ecod:
        """Take the training rows out of a fitted `pyod.models.ecod.ECOD`."""
        train = np.ascontiguousarray(estimator.X_train, dtype=np.float64)
        total = len(train) + 1
        centred = train - train.mean(axis=0)
        return cls(
            train=train,
            ascending=np.sort(train, axis=0).T.copy(),
            surprise=-np.log(np.linspace(1.0 / total, 1.0, total)),
            moments=np.stack((train.mean(axis=0), (centred**2).sum(axis=0), (centred**3).sum(axis=0))),
        )

    def raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw scores, each as if its row came alone, (n,).

        Args:
            rows: Rows without NaN, (n, columns).
        """
        left = np.empty(rows.shape)  # how surprising it is to be so low
        right = np.empty(rows.shape)  # and so high
        for column, ascending in enumerate(self.ascending):
            values = rows[:, column]
            left[:, column] = self.surprise[np.searchsorted(ascending, values, side="right")]
            below = np.searchsorted(ascending, values, side="left")
            right[:, column] = self.surprise[len(ascending) - below]
        worst = np.maximum(left, right)
        # Only where a column together with the row is not skewed at all does PyOD add both tails.
        for index in np.flatnonzero(self._symmetric(rows).any(axis=1)):
            both = self._skewness(rows[index]) == 0.0
            worst[index, both] = left[index, both] + right[index, both]
        return np.asarray(worst.sum(axis=1))

    def _symmetric(self, rows: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return where a column with this row's value in it may have a skewness of 0, (n, columns).

        The sums of m + 1 values follow from those of m (Pébay 2008).
        """
        mean, second, third = self.moments
        known = len(self.train)
        total = known + 1
        delta = rows - mean
        third = third + delta**3 * known * (known - 1) / total**2 - 3.0 * delta * second / total
        second = second + delta**2 * known / total
        return np.asarray((second > 0.0) & (np.abs(third) * np.sqrt(total) <= CLEARLY_SKEWED * second**1.5))

    def _skewness(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sign of each column's skewness with this row, to the last bit as PyOD does it."""
        from scipy.stats import skew  # noqa: PLC0415 - 0.3 s, and only for this rare case

        values = np.concatenate((self.train, row[None]), axis=0)
        return np.asarray(np.sign(np.nan_to_num(skew(values, axis=0))))
