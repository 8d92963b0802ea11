"""Claims about ECOD of single rows, against PyOD itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyod.models.ecod import ECOD

from stream_detector.detectors.ecod import Ecod

VALUES = st.one_of(
    st.integers(-2, 2).map(float),  # ties, symmetric columns, constant columns
    st.floats(-1e6, 1e6).filter(lambda number: number == 0 or abs(number) > 1e-6),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    """Return training rows and rows to score, of one to three columns."""
    columns = draw(st.integers(1, 3))
    row = st.lists(VALUES, min_size=columns, max_size=columns)
    return draw(st.lists(row, min_size=4, max_size=40)), draw(st.lists(row, min_size=1, max_size=5))


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, about a constant column
@settings(deadline=None, max_examples=150)
@given(tables=tables())
@example(tables=([[-1.0], [0.0], [1.0], [-2.0], [2.0]], [[0.0], [1.0]]))  # not skewed at all
@example(tables=([[3.0]] * 5, [[3.0], [4.0]]))  # constant
def test_the_raw_score_is_pyods_for_that_row_alone(
    tables: tuple[list[list[float]], list[list[float]]],
) -> None:
    """One call for many rows gives what PyOD gives in a call for each."""
    train, rows = np.array(tables[0]), np.array(tables[1])
    estimator = ECOD().fit(train)
    alone = np.concatenate([estimator.decision_function(row[None]) for row in rows])
    np.testing.assert_allclose(Ecod.of(estimator).raw(rows), alone, rtol=1e-9, atol=1e-9)
