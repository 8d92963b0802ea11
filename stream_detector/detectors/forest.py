"""The isolation forest, compiled: PyOD's score of a row in microseconds instead of milliseconds.

Every tree is laid out as a complete binary tree in heap order, the children of node i at 2i + 1 and
2i + 2, so a step down is arithmetic and one comparison. A leaf that ends early is continued by
nodes that always go left. Scikit-learn compares float32 values with float64 thresholds; rounding a
threshold down to float32 gives the same answer for every float32 value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 64  # rows that stay in the first-level cache while one tree after the other passes
MAX_DEPTH = 12  # PyOD's default of 256 samples a tree gives 8; 12 is 4096 samples


@dataclass(frozen=True, slots=True)
class Forest:
    """A fitted isolation forest as arrays.

    Attributes:
        features: Column that a node compares, (trees, 2**depth - 1) uint32; unsigned, because numba
            tests every signed index for being negative, which doubles the time.
        thresholds: A row goes left where its value is not greater, the same shape, float32.
        lengths: Path length at each end, (trees, 2**depth), float64.
        scale: Sum of path lengths of an average row: trees times the average of one tree.
        offset: Scikit-learn's offset, which stands between the score and PyOD's raw score.
        columns: Columns of a row.
    """

    features: NDArray[np.uint32]
    thresholds: NDArray[np.float32]
    lengths: NDArray[np.float64]
    scale: float
    offset: float
    columns: int

    def raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return PyOD's raw scores; NaN where a row holds a NaN, (n,).

        Args:
            rows: Scaled feature rows within the range of float32, (n, columns).
        """
        out = np.empty(len(rows))
        walk(
            rows.astype(np.float32, order="C"),
            self.features,
            self.thresholds,
            self.lengths,
            self.scale,
            self.offset,
            out,
        )
        out[np.isnan(rows).any(axis=1)] = np.nan
        return out


@kernel
def walk(
    rows: NDArray[np.float32],
    features: NDArray[np.uint32],
    thresholds: NDArray[np.float32],
    lengths: NDArray[np.float64],
    scale: float,
    offset: float,
    out: NDArray[np.float64],
) -> None:
    """Write the raw score of each row to `out`, (n,).

    A row's path lengths are added in the order of the trees, whatever the block, so a score does
    not depend on the other rows.
    """
    trees, inner = features.shape
    depth = 0
    while 2**depth <= inner:
        depth += 1
    ends = np.uint32(inner)
    nodes = np.empty(BLOCK, dtype=np.uint32)  # where each row of the block stands in the tree
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        sums = out[start : start + BLOCK]
        sums[:] = 0.0
        for tree in range(trees):
            feature, threshold, length = features[tree], thresholds[tree], lengths[tree]
            nodes[:] = 0
            for _ in range(depth):  # all rows go one level down: steps that do not wait for each other
                for i in range(len(block)):
                    node = nodes[i]
                    right = block[i, feature[node]] > threshold[node]
                    nodes[i] = np.uint32(2) * node + np.uint32(1) + np.uint32(right)
            for i in range(len(block)):
                sums[i] += length[nodes[i] - ends]
        for i in range(len(block)):
            sums[i] = 2.0 ** (-sums[i] / scale) + offset


def compile_forest(estimator: Any, columns: int) -> Forest:
    """Turn a fitted `pyod.models.iforest.IForest` into arrays.

    The trees are checked before they are used, because a file can hold any numbers: a node that
    points outside its tree would make scikit-learn's own code read foreign memory.

    Args:
        estimator: The fitted estimator.
        columns: Columns of the rows it will get.

    Raises:
        ValueError: The estimator holds no sound forest, or one deeper than `MAX_DEPTH`.
    """
    forest = estimator.detector_
    nodes = [_nodes(tree.tree_, columns) for tree in forest.estimators_]
    depth = max(int(levels.max()) for *_, levels in nodes)
    if depth > MAX_DEPTH:
        raise ValueError(f"a tree is {depth} levels deep, at most {MAX_DEPTH} are supported")
    inner = 2**depth - 1
    features = np.zeros((len(nodes), inner), dtype=np.uint32)
    thresholds = np.full((len(nodes), inner), np.inf, dtype=np.float32)
    lengths = np.zeros((len(nodes), inner + 1))
    for index, ((left, right, feature, threshold, samples, levels), names) in enumerate(
        zip(nodes, forest.estimators_features_, strict=True)
    ):
        places = np.zeros(len(left), dtype=np.int64)  # of each node, in heap order
        for node in range(len(left)):
            place = places[node]
            if left[node] < 0:
                for _ in range(depth - levels[node]):
                    place = 2 * place + 1
                lengths[index, place - inner] = levels[node] + _average_path(samples[node])
            else:
                places[left[node]], places[right[node]] = 2 * place + 1, 2 * place + 2
                features[index, place] = names[feature[node]]
                thresholds[index, place] = _down(threshold[node])
    if features.max() >= columns:
        raise ValueError(f"a tree compares a column that is not one of {columns}")
    return Forest(
        features=features,
        thresholds=thresholds,
        lengths=lengths,
        scale=len(nodes) * _average_path(int(forest._max_samples)),  # noqa: SLF001 - the only place it stands
        offset=float(forest.offset_),
        columns=columns,
    )


def _nodes(tree: Any, columns: int) -> tuple[NDArray[Any], ...]:
    """Return a tree's arrays and its nodes' levels; refuse anything that is no tree.

    Scikit-learn numbers the nodes depth first, so a child always comes after its parent. With each
    node but the root named as a child exactly once, that makes a tree.
    """
    left, right = tree.children_left, tree.children_right
    split = left >= 0
    children = np.concatenate((left[split], right[split]))
    parents = np.concatenate((np.flatnonzero(split),) * 2)
    sound = (
        np.array_equal(np.sort(children), np.arange(1, len(left)))
        and bool((children > parents).all())
        and bool((left[~split] == right[~split]).all())
        and bool((tree.feature[split] >= 0).all())
        and bool((tree.feature[split] < columns).all())
        and bool((tree.n_node_samples > 0).all())
    )
    if not sound:
        raise ValueError("a tree's nodes point outside the tree")
    levels = np.zeros(len(left), dtype=np.int64)
    for node in np.flatnonzero(split):
        levels[left[node]] = levels[right[node]] = levels[node] + 1
    return left, right, tree.feature, tree.threshold, tree.n_node_samples, levels


def _down(threshold: float) -> np.float32:
    """Return the largest float32 that is not above the threshold."""
    nearest = np.float32(threshold)
    return nearest if nearest <= threshold else np.nextafter(nearest, np.float32(-np.inf))


def _average_path(samples: int) -> float:
    """Return the average path length in an isolation tree of so many samples (Liu et al. 2008)."""
    if samples <= 1:
        return 0.0
    if samples == 2:  # noqa: PLR2004 - two samples are parted by one split
        return 1.0
    return float(2.0 * (np.log(samples - 1.0) + np.euler_gamma) - 2.0 * (samples - 1.0) / samples)
