"""Claims about HBOS from its tables: it is PyOD's HBOS."""

from __future__ import annotations

import numpy as np
import pytest
from pyod.models.hbos import HBOS

from stream_detector.detectors.hbos import Hbos


@pytest.mark.parametrize(("bins", "tol"), [(3, 0.5), (10, 0.5), (10, 0.01)])
def test_it_is_pyods_answer(bins: int, tol: float) -> None:
    """To the last bit: at every edge, a hair beside it, at the end of the tolerance, and far outside."""
    generator = np.random.default_rng(7)
    train = np.column_stack((
        generator.normal(size=300),
        generator.integers(0, 3, size=300),
        np.zeros(300),
    ))  # fmt: skip
    estimator = HBOS(n_bins=bins, tol=tol).fit(train)
    edges = estimator.bin_edges_
    slack = np.diff(edges, axis=0)[0] * tol
    near = np.concatenate((edges, edges[:1] - slack, edges[-1:] + slack, 9.0 * edges))
    rows = np.concatenate(
        (near, np.nextafter(near, -9.0), np.nextafter(near, 9.0), generator.normal(size=(200, 3)))
    )
    assert np.array_equal(Hbos.of(estimator, 3).raw(rows), estimator.decision_function(rows))
