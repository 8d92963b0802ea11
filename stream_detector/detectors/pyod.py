"""Fitted PyOD detectors behind the promise that every detector keeps.

A fitted model is scaler, estimator and calibration; it has no state. PyOD is trusted with neither
the input nor the output: rows with a NaN never reach it, values are kept in a range in which
nothing overflows, and raw scores are made finite. This module does not import PyOD: an estimator is
handed over, and where it can be computed without PyOD's own code, it is.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stream_detector.core.scoring.detector import Verdicts, significant
from stream_detector.detectors.ecod import Ecod
from stream_detector.detectors.forest import compile_forest
from stream_detector.detectors.hbos import Hbos
from stream_detector.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Column, Table
    from stream_detector.core.scoring.calibration import Calibration

    Scorer: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SCALED_LIMIT = 1e9  # standard deviations; beyond, all is equally strange, and squares stay finite
RAW_LIMIT = 1e300  # stands for infinity: JSON has none


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted detector that scores feature rows; implements `core.scoring.detector.Detector`.

    Attributes:
        name: The bundle's name.
        version: The bundle's version.
        sha256: Over the bundle's files; empty for a model that was never saved.
        detector: A key of `KINDS`.
        channels: The channels it needs, in its order.
        features: Names of its features; column k * channels + c is feature k of channel c.
        window: Readings a feature looks back.
        calibration: Raw score to score.
        mean: Of each column in the training rows, (columns,).
        scale: Standard deviation of each column; 1 where it was constant, (columns,).
        medians: Of each column in the training rows, (columns,).
        estimate: Scaled rows without NaN (n, columns) -> the estimator's raw scores (n,).
        warnings: Sentences for the operator, such as a library of another version.
    """

    name: str
    version: str
    sha256: str
    detector: str
    channels: tuple[str, ...]
    features: tuple[str, ...]
    window: int
    calibration: Calibration
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    medians: NDArray[np.float64]
    estimate: Scorer
    warnings: tuple[str, ...] = ()

    @property
    def threshold(self) -> float:
        """The raw score that maps to 1.0."""
        return self.calibration.threshold

    @property
    def raise_after(self) -> tuple[int, int]:
        """Three anomalous readings of the last five: a frozen model errs on single readings."""
        return (3, 5)

    def columns(self) -> Mapping[str, Column]:
        """Return no arrays: it has no state."""
        return {}

    def score(
        self,
        learned: Table,  # noqa: ARG002 - stateless
        slots: NDArray[np.int32],  # noqa: ARG002
        values: NDArray[np.float64],  # noqa: ARG002
        rows: NDArray[np.float64],
        ts: NDArray[np.int64],  # noqa: ARG002
    ) -> Verdicts:
        """Score a batch; see `Detector.score`."""
        raw = significant(self.raw(rows))
        score = self.calibration.score(raw)
        return Verdicts(
            raw=raw,
            score=score,
            anomalous=score >= 1.0,
            confidence=lambda i: self.calibration.confidence(float(raw[i])),
            shares=lambda i: self.shares(rows[i]),
        )

    def raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return finite raw scores, unrounded; NaN for a row that holds a NaN, (n,).

        Args:
            rows: Feature rows, not scaled, (n, columns).
        """
        raw = np.full(len(rows), np.nan)
        complete = ~np.isnan(rows).any(axis=1)
        if complete.any():
            raw[complete] = np.clip(self.estimate(self.scaled(rows[complete])), -RAW_LIMIT, RAW_LIMIT)
        return raw

    def scaled(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows as the estimator knows them, in standard deviations, (n, columns)."""
        with np.errstate(over="ignore"):
            return np.clip((rows - self.mean) / self.scale, -SCALED_LIMIT, SCALED_LIMIT)

    def shares(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how much each channel adds to a row's raw score, (channels,), each >= 0.

        A channel's share is how far the score drops when its features are replaced by their
        training medians. Where no single channel lowers the score, it is the distance of its
        strangest feature from the median, in standard deviations.

        Args:
            row: One feature row, (columns,).
        """
        channels = len(self.channels)
        owner = np.arange(len(row)) % channels  # of each column
        replaced = np.where(owner == np.arange(channels)[:, None], self.medians, row)  # (channels, columns)
        raw = self.raw(np.concatenate((row[None], replaced)))
        drops = np.nan_to_num(np.maximum(raw[0] - raw[1:], 0.0))
        if drops.any():
            return np.asarray(drops)
        distance = np.nan_to_num(np.abs(self.scaled(row) - self.scaled(self.medians)))
        return np.asarray(distance.reshape(-1, channels).max(axis=0))


@dataclass(frozen=True, slots=True)
class Kind:
    """A PyOD detector that a bundle may hold.

    Attributes:
        path: Its class.
        trusted: Other types that its file may hold, beside plain values and arrays of numbers.
        slim: Remove from a fitted estimator what need not, or must not, stand in a file.
        width: Columns that a fitted estimator expects.
        scorer: (estimator, columns) -> the function that scores scaled rows. Raises ValueError
            for an estimator whose arrays do not fit each other: compiled code would not notice.
    """

    path: str
    trusted: tuple[str, ...]
    slim: Callable[[Any], None]
    width: Callable[[Any], int]
    scorer: Callable[[Any, int], Scorer]

    def load_class(self) -> Any:
        """Import the class."""
        module, _, name = self.path.rpartition(".")
        return getattr(import_library(module), name)


def import_library(module: str) -> ModuleType:
    """Import a module of PyOD, scikit-learn or skops, which are installed only where models are used.

    Raises:
        BundleError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BundleError(
            f"fitted models need {module.partition('.')[0]}, which is not installed: "
            "pip install 'stream-detector[models]'",
            reason="missing",
        ) from error


def _keep(estimator: Any) -> None:
    """Remove nothing."""


def _slim_knn(estimator: Any) -> None:
    """Remove the search tree: its raw indices in a file could point anywhere; it is built again."""
    estimator.tree_ = None
    estimator.neigh_._tree = None  # noqa: SLF001 - as in `_plant`


def _slim_lof(estimator: Any) -> None:
    """Remove the search tree, as for KNN."""
    estimator.detector_._tree = None  # noqa: SLF001


def _slim_ecod(estimator: Any) -> None:
    """Remove the tables of the last call, four times the training rows."""
    del estimator.O, estimator.U_l, estimator.U_r, estimator.U_skew


def _plant(search: Any) -> None:
    """Build the search tree of a nearest-neighbour estimator from its points.

    Always a tree: scikit-learn's brute-force search, its choice for more than 15 columns, multiplies
    matrices, and the last digits of a product depend on the other rows. Between rows that are almost
    equal these digits are all there is.
    """
    tree = import_library("sklearn.neighbors").BallTree
    if search._fit_method != "ball_tree" or search.effective_metric_ != "euclidean":  # noqa: SLF001
        raise ValueError("its search is not a Euclidean ball tree")
    search._tree = tree(search._fit_X, leaf_size=search.leaf_size)  # noqa: SLF001
    search.n_jobs = 1  # no threads, whatever the file says


def _score_forest(estimator: Any, columns: int) -> Scorer:
    return compile_forest(estimator, columns).raw


def _score_ecod(estimator: Any, columns: int) -> Scorer:  # noqa: ARG001
    return Ecod.of(estimator).raw


def _score_knn(estimator: Any, columns: int) -> Scorer:  # noqa: ARG001
    _plant(estimator.neigh_)
    return _own(estimator)


def _score_lof(estimator: Any, columns: int) -> Scorer:  # noqa: ARG001
    _plant(estimator.detector_)
    return _own(estimator)


def _score_hbos(estimator: Any, columns: int) -> Scorer:
    return Hbos.of(estimator, columns).raw


def _score_ocsvm(estimator: Any, columns: int) -> Scorer:
    """Check the kernel, since others take indices from the file, and the shapes: libsvm does neither."""
    machine = estimator.detector_
    if machine._impl != "one_class" or machine.kernel != "rbf":  # noqa: SLF001
        raise ValueError("it is not a one-class machine with an RBF kernel")
    count = len(machine.support_vectors_)
    # what scikit-learn hands to libsvm
    arrays = (machine.support_vectors_, machine.support_, machine._dual_coef_, machine._intercept_)
    shapes = [array.shape for array in arrays]
    sound = shapes == [(count, columns), (count,), (1, count), (1,)]
    if not sound or machine._n_support.tolist() != [count, count] or machine._sparse:  # noqa: SLF001
        raise ValueError("its support vectors do not fit each other")
    return _own(estimator)


def _score_pca(estimator: Any, columns: int) -> Scorer:  # noqa: ARG001
    return _own(estimator)


def _own(estimator: Any) -> Scorer:
    """Return PyOD's own function."""
    return lambda rows: np.asarray(estimator.decision_function(rows), dtype=np.float64)


KINDS: Mapping[str, Kind] = {
    "iforest": Kind(
        path="pyod.models.iforest.IForest",
        trusted=(
            "sklearn.ensemble._iforest.IsolationForest",
            "sklearn.tree._classes.ExtraTreeRegressor",
            "sklearn.tree._tree.Tree",
        ),
        slim=_keep,
        width=lambda it: int(it.detector_.n_features_in_),
        scorer=_score_forest,
    ),
    "hbos": Kind(
        path="pyod.models.hbos.HBOS",
        trusted=(),
        slim=_keep,
        width=lambda it: int(it.hist_.shape[1]),
        scorer=_score_hbos,
    ),
    "knn": Kind(
        path="pyod.models.knn.KNN",
        trusted=("sklearn.neighbors._unsupervised.NearestNeighbors",),
        slim=_slim_knn,
        width=lambda it: int(it.neigh_._fit_X.shape[1]),  # noqa: SLF001
        scorer=_score_knn,
    ),
    "pca": Kind(
        path="pyod.models.pca.PCA",
        trusted=("sklearn.decomposition._pca.PCA", "sklearn.preprocessing._data.StandardScaler"),
        slim=_keep,
        width=lambda it: int(it.components_.shape[1]),
        scorer=_score_pca,
    ),
    "lof": Kind(
        path="pyod.models.lof.LOF",
        trusted=("sklearn.neighbors._lof.LocalOutlierFactor",),
        slim=_slim_lof,
        width=lambda it: int(it.detector_._fit_X.shape[1]),  # noqa: SLF001
        scorer=_score_lof,
    ),
    "ocsvm": Kind(
        path="pyod.models.ocsvm.OCSVM",
        trusted=("sklearn.svm._classes.OneClassSVM",),
        slim=_keep,
        width=lambda it: int(it.detector_.support_vectors_.shape[1]),
        scorer=_score_ocsvm,
    ),
    "ecod": Kind(
        path="pyod.models.ecod.ECOD",
        trusted=(),
        slim=_slim_ecod,
        width=lambda it: int(it.X_train.shape[1]),
        scorer=_score_ecod,
    ),
}
"""Each is bit-equal however a batch is cut, which a test asserts of all of them."""
