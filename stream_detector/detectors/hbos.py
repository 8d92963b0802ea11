"""HBOS from its tables: PyOD's answer without PyOD's loop.

PyOD compiles its loop anew in every process, which takes three seconds, and the loop trusts the
shapes of its tables. A table lookup a column needs neither.

Source: Goldstein, Dengel: Histogram-based Outlier Score, KI-2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Hbos:
    """Histograms, one a column.

    Attributes:
        edges: Edges of the bins, ascending, (columns, bins + 1).
        density: Logarithm of the density in each bin, (columns, bins).
        slack: How far outside the first and the last bin a value still belongs to it, (2, columns).
    """

    edges: NDArray[np.float64]
    density: NDArray[np.float64]
    slack: NDArray[np.float64]

    @classmethod
    def of(cls, estimator: Any, columns: int) -> Hbos:
        """Take the tables out of a fitted `pyod.models.hbos.HBOS`.

        Raises:
            ValueError: They do not fit each other, or are no numbers in order.
        """
        bins = estimator.n_bins
        histograms, edges = estimator.hist_, estimator.bin_edges_
        if histograms.shape != (bins, columns) or edges.shape != (bins + 1, columns):
            raise ValueError("its histograms do not fit its columns")
        density = np.log2(histograms + estimator.alpha)
        widths = np.diff(edges, axis=0)
        if not (np.isfinite(density).all() and np.isfinite(edges).all() and (widths >= 0.0).all()):
            raise ValueError("its histograms are not sound")
        return cls(
            edges=edges.T.copy(),
            density=density.T.copy(),
            slack=widths[[0, -1]] * float(estimator.tol),
        )

    def raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return PyOD's raw scores, (n,).

        Args:
            rows: Rows without NaN, (n, columns).
        """
        out = np.empty(rows.shape)
        last = self.density.shape[1]
        for column, (edges, density) in enumerate(zip(self.edges, self.density, strict=True)):
            values = rows[:, column]
            place = np.searchsorted(edges, values)  # 0: below the first bin; last + 1: above the last
            below = edges[0] - values > self.slack[0, column]
            above = values - edges[-1] > self.slack[1, column]
            found = density[np.clip(place - 1, 0, last - 1)]
            out[:, column] = np.where(below | above, density.min(), found)
        return np.asarray(-out.sum(axis=1))
