"""Claims about the compiled isolation forest, against PyOD itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyod.models.iforest import IForest
from sklearn.tree._tree import Tree

from stream_detector.detectors.forest import MAX_DEPTH, compile_forest, walk

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fitted(seed: int, columns: int, decimals: int, **options: Any) -> tuple[IForest, np.random.Generator]:
    """Return a small forest fitted on rounded, so often equal, numbers."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(generator.integers(2, 400), columns)).round(decimals)
    return IForest(n_estimators=15, random_state=seed, **options).fit(rows), generator


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    columns=st.integers(1, 6),
    decimals=st.integers(0, 6),
    count=st.integers(1, 1000),
    max_features=st.sampled_from([1.0, 0.5]),
)
def test_the_raw_score_is_pyods(
    seed: int, columns: int, decimals: int, count: int, max_features: float
) -> None:
    """Whatever the forest and the rows, the number is PyOD's decision function."""
    estimator, generator = fitted(seed, columns, decimals, max_features=max_features)
    forest = compile_forest(estimator, columns)
    rows = generator.normal(scale=2.0, size=(count, columns)).round(decimals)
    np.testing.assert_allclose(forest.raw(rows), estimator.decision_function(rows), rtol=0, atol=1e-9)


def test_a_value_on_a_threshold_goes_where_scikit_learn_sends_it() -> None:
    """Values at, just above and just below each threshold, in float32 and float64, agree with PyOD."""
    estimator, _ = fitted(seed=5, columns=1, decimals=1)
    forest = compile_forest(estimator, 1)
    thresholds = np.concatenate([tree.tree_.threshold for tree in estimator.estimators_])
    single = thresholds.astype(np.float32)
    near = [single, np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))]
    rows = np.concatenate([thresholds, *(values.astype(np.float64) for values in near)])[:, None]
    np.testing.assert_allclose(forest.raw(rows), estimator.decision_function(rows), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 300), max_size=8), seed=st.integers(0, 5))
def test_a_batch_can_be_cut_anywhere(cuts: list[int], seed: int) -> None:
    """The bits of a score do not depend on the other rows of the call."""
    estimator, generator = fitted(seed, columns=3, decimals=2)
    forest = compile_forest(estimator, 3)
    rows = generator.normal(size=(300, 3))
    parts = np.split(rows, sorted(cuts))
    assert np.array_equal(np.concatenate([forest.raw(part) for part in parts]), forest.raw(rows))


def test_the_plain_function_gives_the_same_bits() -> None:
    """Compiled or not, the kernel is one function."""
    estimator, generator = fitted(seed=2, columns=4, decimals=3)
    forest = compile_forest(estimator, 4)
    rows = generator.normal(size=(70, 4))
    out = np.empty(70)
    plain: Any = walk
    plain.py_func(
        rows.astype(np.float32),
        forest.features,
        forest.thresholds,
        forest.lengths,
        forest.scale,
        forest.offset,
        out,
    )
    assert np.array_equal(out, forest.raw(rows))


def test_a_row_with_a_nan_has_no_score() -> None:
    """NaN in, NaN out, and the rows beside it keep theirs."""
    estimator, generator = fitted(seed=1, columns=2, decimals=2)
    forest = compile_forest(estimator, 2)
    rows = generator.normal(size=(5, 2))
    whole = forest.raw(rows)
    rows[3, 1] = np.nan
    holed = forest.raw(rows)
    assert np.isnan(holed[3])
    assert np.array_equal(np.delete(holed, 3), np.delete(whole, 3))


def far_child(nodes: NDArray[Any]) -> None:
    """Point far outside the tree."""
    nodes["left_child"][0] = 10**6


def loop(nodes: NDArray[Any]) -> None:
    """Point back to the root."""
    nodes["right_child"][nodes["left_child"] > 0] = 0


def far_column(nodes: NDArray[Any]) -> None:
    """Compare a column that no row has."""
    nodes["feature"][0] = 10**6


def no_samples(nodes: NDArray[Any]) -> None:
    """Hold leaves of less than nothing."""
    nodes["n_node_samples"][:] = -1


@pytest.mark.parametrize("damage", [far_child, loop, far_column, no_samples])
def test_a_tree_that_is_none_is_refused(damage: Any) -> None:
    """Crafted nodes, which crash scikit-learn's own walk, are found before any walk."""
    estimator, _ = fitted(seed=3, columns=2, decimals=3)
    tree = estimator.estimators_[4]
    state = tree.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    damage(state["nodes"])
    crafted = Tree(2, np.array([1], dtype=np.intp), 1)
    crafted.__setstate__(state)
    tree.tree_ = crafted
    with pytest.raises(ValueError, match="nodes point outside the tree"):
        compile_forest(estimator, 2)


def test_a_forest_too_deep_for_its_layout_is_refused() -> None:
    """Heap order doubles with every level, so there is a limit."""
    rows = np.random.default_rng(0).normal(size=(9000, 1))
    estimator = IForest(n_estimators=2, max_samples=9000, random_state=0).fit(rows)
    with pytest.raises(ValueError, match=f"at most {MAX_DEPTH}"):
        compile_forest(estimator, 1)
