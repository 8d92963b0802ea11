"""Fit a detector to feature rows: scale, fit, calibrate, and keep what a bundle needs.

Calibration uses the scores that PyOD keeps from fitting, not the fitted model's scores of its own
training rows: for a nearest-neighbour detector every training row would be its own neighbour.
"""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.scoring.calibration import Calibration
from stream_detector.core.scoring.detector import significant
from stream_detector.detectors.pyod import KINDS, FittedModel, import_library
from stream_detector.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

MIN_ROWS = 50
OCSVM_ROWS = 5000  # its time grows with the square of the rows: 5000 take seconds, 50,000 minutes
PROBES = 16
FAR = 10.0  # standard deviations: the two probes that look like no training row


@dataclass(frozen=True, slots=True)
class Summary:
    """What training did, for a person.

    Attributes:
        rows: Rows given.
        dropped: Of these, without a number in every column.
        used: Of the rest, given to the detector.
        threshold: The raw score that maps to 1.0.
        anomalous: Share of the rows used that reach it.
        notes: Sentences about what is worth knowing.
    """

    rows: int
    dropped: int
    used: int
    threshold: float
    anomalous: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A fitted model in memory, and what `stream_detector.models.bundle.save` writes.

    Attributes:
        model: Ready to score; its version is empty.
        content: The estimator as skops bytes.
        contamination: Share of outliers assumed in the training rows.
        probes: Feature rows that a loaded bundle must score as `probe_raw`, (16, columns).
        probe_raw: Their raw scores, (16,).
        summary: For a person.
    """

    model: FittedModel
    content: bytes
    contamination: float
    probes: NDArray[np.float64]
    probe_raw: NDArray[np.float64]
    summary: Summary


def _iforest(rows: NDArray[np.float64], contamination: float, seed: int) -> Any:  # noqa: ARG001
    return _class("iforest")(n_estimators=100, contamination=contamination, random_state=seed, n_jobs=1)


def _pca(rows: NDArray[np.float64], contamination: float, seed: int) -> Any:
    """Keep as many components as there are: PyOD divides by the variance of each, 0 for the rest."""
    rank = int(np.linalg.matrix_rank(rows))
    return _class("pca")(n_components=rank, contamination=contamination, random_state=seed)


def _other_instances(detector: str) -> Callable[[NDArray[np.float64], float, int], Any]:
    """Return the factory of KNN or LOF; why a ball tree: `stream_detector.detectors.pyod._plant`."""
    return lambda _rows, contamination, _seed: _class(detector)(
        algorithm="ball_tree", contamination=contamination
    )


def _plain(detector: str) -> Callable[[NDArray[np.float64], float, int], Any]:
    return lambda _rows, contamination, _seed: _class(detector)(contamination=contamination)


def _class(detector: str) -> Any:
    return KINDS[detector].load_class()


DETECTORS: Mapping[str, Callable[[NDArray[np.float64], float, int], Any]] = {
    "iforest": _iforest,
    "hbos": _plain("hbos"),
    "knn": _other_instances("knn"),
    "pca": _pca,
    "lof": _other_instances("lof"),
    "ocsvm": _plain("ocsvm"),
    "ecod": _plain("ecod"),
}
"""(scaled rows, contamination, seed) -> an estimator with PyOD's defaults, not fitted."""


def train(
    rows: NDArray[np.float64],
    *,
    name: str,
    channels: tuple[str, ...],
    features: tuple[str, ...],
    window: int,
    detector: str,
    contamination: float,
    seed: int = 0,
) -> TrainedModel:
    """Fit a detector.

    Args:
        rows: Feature rows, (n, len(features) * len(channels)); those with a NaN are dropped.
        name: The bundle's name to be.
        channels: Channel names in the order of the columns.
        features: Feature names in the order of the blocks.
        window: Readings a feature looks back.
        detector: A key of `DETECTORS`.
        contamination: Share of outliers assumed in the rows, 0 < contamination <= 0.5.
        seed: Makes training repeatable.

    Raises:
        ConfigurationError: The detector or the contamination cannot be meant like that.
        DataError: The rows are too few, or too large, or say nothing.
        BundleError: The libraries are not installed.
    """
    _check(detector, contamination)
    finite = rows[np.isfinite(rows).all(axis=1)]
    if len(finite) < MIN_ROWS:
        raise DataError(
            f"model '{name}' cannot be trained on {len(finite)} complete rows of {len(rows)}, "
            f"at least {MIN_ROWS} are needed; give it a longer recording."
        )
    notes: list[str] = []
    used = _sample(finite, detector, seed, notes)
    mean, scale = _scaling(used, name, _columns(channels, features), notes)
    scaled = (used - mean) / scale
    estimator = DETECTORS[detector](scaled, contamination, seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(scaled)
    notes.extend(str(warning.message) for warning in caught)
    KINDS[detector].slim(estimator)
    content: bytes = import_library("skops.io").dumps(estimator, compression=zipfile.ZIP_DEFLATED)
    training_raw = np.asarray(estimator.decision_scores_, dtype=np.float64)
    calibration = Calibration.fit(training_raw, contamination)
    medians = np.median(used, axis=0)
    model = FittedModel(
        name=name,
        version="",
        sha256="",
        detector=detector,
        channels=channels,
        features=features,
        window=window,
        calibration=calibration,
        mean=mean,
        scale=scale,
        medians=medians,
        estimate=KINDS[detector].scorer(estimator, used.shape[1]),
    )
    probes = _probes(used, training_raw, medians, scale)
    return TrainedModel(
        model=model,
        content=content,
        contamination=contamination,
        probes=probes,
        probe_raw=model.raw(probes),
        summary=Summary(
            rows=len(rows),
            dropped=len(rows) - len(finite),
            used=len(used),
            threshold=calibration.threshold,
            anomalous=float(np.mean(significant(training_raw) >= calibration.threshold)),
            notes=tuple(notes),
        ),
    )


def _check(detector: str, contamination: float) -> None:
    if detector not in DETECTORS:
        raise ConfigurationError(f"detector '{detector}' is not known; known are {', '.join(DETECTORS)}.")
    if not 0.0 < contamination <= 0.5:  # noqa: PLR2004 - more than half are no outliers
        raise ConfigurationError(
            f"contamination {contamination} is not a share of outliers; it must be above 0 and at most 0.5."
        )


def _sample(rows: NDArray[np.float64], detector: str, seed: int, notes: list[str]) -> NDArray[np.float64]:
    """Return the rows that the detector gets: a random part of them where all would take too long."""
    if detector != "ocsvm" or len(rows) <= OCSVM_ROWS:
        return rows
    notes.append(f"ocsvm learned from {OCSVM_ROWS} rows chosen at random of {len(rows)}.")
    chosen = np.random.default_rng(seed).choice(len(rows), OCSVM_ROWS, replace=False)
    return rows[np.sort(chosen)]


def _scaling(
    rows: NDArray[np.float64], name: str, columns: list[str], notes: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column, 1 for a constant one."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaler = import_library("sklearn.preprocessing").StandardScaler().fit(rows)
    mean, scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        raise DataError(f"model '{name}' cannot be trained on values so large that their squares overflow.")
    constant = [column for column, flat in zip(columns, np.ptp(rows, axis=0) == 0.0, strict=True) if flat]
    if len(constant) == len(columns):
        raise DataError(f"model '{name}' cannot be trained on rows that are all equal.")
    if constant:
        notes.append(f"constant in all rows, so any change of them is unusual: {', '.join(constant)}.")
    return mean, scale


def _columns(channels: tuple[str, ...], features: tuple[str, ...]) -> list[str]:
    return [f"{feature} of {channel}" for feature in features for channel in channels]


def _probes(
    rows: NDArray[np.float64],
    raw: NDArray[np.float64],
    medians: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return rows from the most usual to the strangest, and two far away on either side, (16, columns)."""
    chosen = np.argsort(raw, kind="stable")[np.linspace(0, len(raw) - 1, PROBES - 2).astype(int)]
    far = np.stack((medians - FAR * scale, medians + FAR * scale))
    return np.concatenate((rows[chosen], far))
