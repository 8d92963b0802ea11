"""Model bundles: a folder `<models_dir>/<name>/<version>/` with `manifest.json` and `model.skops`.

A file can run code (pickle), name foreign types, or hold numbers that make compiled code read
foreign memory. So a bundle is looked at in steps, the cheap and harmless first:

    files.read          regular files, not too large
    manifest.parse      legal in all its parts, and written for these very bytes
    estimator           nothing but what skops writes, by a list of types in our code
    trial               a process with limits loads it and scores with it, and lives
    verify              this process does the same, and the probes give the scores they gave

The trial is what survives a crash, a hang and a hog. It replaces no check here: a process that has
come under a file's command says what the file wants.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.scoring.calibration import Calibration
from stream_detector.detectors.pyod import KINDS, RAW_LIMIT, FittedModel, Kind
from stream_detector.errors import BundleError
from stream_detector.models import estimator, manifest, trial
from stream_detector.models.files import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_MODEL_BYTES,
    MODEL,
    Files,
    latest,
    read,
    versions,
)
from stream_detector.models.manifest import CalibrationPart, Manifest
from stream_detector.models.refusals import REASONS, refused, refusing

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from stream_detector.models.training import TrainedModel

__all__ = ["REASONS", "admit", "latest", "load", "read", "save", "verify", "versions"]

TOLERANCE = 1e-9  # of a probe's raw score; libraries of other versions sum in another order
LIBRARIES = ("numpy", "scikit-learn", "pyod", "skops")


def load(folder: Path) -> FittedModel:
    """Load a bundle.

    Args:
        folder: `<models_dir>/<name>/<version>`.

    Raises:
        BundleError: It is refused.
    """
    return admit(read(folder))


def admit(files: Files, stopped: threading.Event | None = None) -> FittedModel:
    """Make a model of a bundle's bytes after they have stood their trial in a process of its own.

    Args:
        files: The bytes.
        stopped: Ends the trial early, with a refusal.

    Raises:
        BundleError: They are refused.
    """
    trial.hold(files, _examine(files).detector, stopped)
    return verify(files)


def verify(files: Files) -> FittedModel:
    """Make a model of a bundle's bytes, or refuse them, with no process to die instead of this one.

    Raises:
        BundleError: They are refused.
    """
    described = _examine(files)
    kind = KINDS[described.detector]
    fitted = estimator.load(files, kind)
    model = _model(files, described, kind, fitted)
    _probe(files, described, model, fitted)
    return model


def _examine(files: Files) -> Manifest:
    """Return the manifest after all checks that build nothing of what the files hold."""
    described = manifest.parse(files)
    estimator.check(files, KINDS[described.detector])
    return described


def save(trained: TrainedModel, models_dir: Path) -> Path:
    """Write a bundle under the next version and return its folder.

    It appears in one step: its bytes are verified, written and synced in a hidden folder beside the
    other versions, then renamed.

    Raises:
        BundleError: The name is none, or the bundle would be refused, for instance as too large.
    """
    parent = models_dir / trained.model.name
    try:
        while True:
            version = int(max(versions(models_dir, trained.model.name), key=int, default="0")) + 1
            content = _describe(trained, str(version)).model_dump_json(by_alias=True, indent=1).encode()
            files = Files(parent / str(version), content, trained.content, sha256="")
            for name, size, limit in (
                (MANIFEST, len(files.manifest), MAX_MANIFEST_BYTES),
                (MODEL, len(files.model), MAX_MODEL_BYTES),
            ):
                if size > limit:
                    raise refused(files.folder, f"{name} is larger than {limit:,} bytes", "too_large")
            verify(files)
            if _publish(files):
                return files.folder
    except OSError as error:
        raise BundleError(
            f"bundles cannot be written to {parent}: {error.strerror}; check permissions and disk space.",
            reason="unreadable",
        ) from error


def _publish(files: Files) -> bool:
    """Write a bundle's files; return False where its folder has come to exist meanwhile."""
    parent = files.folder.parent
    with _hidden_folder(parent) as folder:
        _write(folder / MODEL, files.model)
        _write(folder / MANIFEST, files.manifest)
        _sync(folder)
        try:
            folder.rename(files.folder)
        except OSError:
            if files.folder.exists():
                return False
            raise
    _sync(parent)
    return True


def _model(files: Files, described: Manifest, kind: Kind, fitted: Any) -> FittedModel:
    """Put the model together."""
    columns = len(described.channels) * len(described.features)
    # a crafted estimator lacks attributes, or they are not arrays
    with refusing(files.folder, f"{MODEL} holds no sound {described.detector}", "detector"):
        width = kind.width(fitted)
        if width != columns:
            raise refused(files.folder, f"{MODEL} expects {width} columns, {MANIFEST} {columns}", "features")
        estimate = kind.scorer(fitted, columns)
    return FittedModel(
        name=described.name,
        version=described.version,
        sha256=files.sha256,
        detector=described.detector,
        channels=described.channels,
        features=described.features,
        window=described.window,
        calibration=Calibration(**described.calibration.model_dump()),
        mean=np.array(described.mean),
        scale=np.array(described.scale),
        medians=np.array(described.medians),
        estimate=estimate,
        warnings=_other_versions(described),
    )


def _probe(files: Files, described: Manifest, model: FittedModel, fitted: Any) -> None:
    """Refuse a model that does not score as it did when it was trained.

    For the compiled forest PyOD's own answer is asked for too: two ways to one number.
    """
    rows = np.array(described.probes)
    expected = np.array(described.probe_raw)
    with refusing(files.folder, f"{MODEL} fails on a probe", "detector"):
        answers = [model.raw(rows)]
        if described.detector == "iforest":
            answers.append(np.asarray(fitted.decision_function(model.scaled(rows))))
    for raw in answers:
        if not (np.abs(raw) < RAW_LIMIT).all():
            raise refused(files.folder, f"{MODEL} gives a raw score that is no number", "not_finite")
        if not np.allclose(raw, expected, rtol=TOLERANCE, atol=TOLERANCE):
            worst = int(np.argmax(np.abs(raw - expected)))
            what = f"probe {worst} scores {raw[worst]:.9g}, not {expected[worst]:.9g} as trained"
            raise refused(files.folder, what, "probe")


def _other_versions(described: Manifest) -> tuple[str, ...]:
    """Return a sentence for each library whose version is not the one it was trained with."""
    here = _libraries()
    return tuple(
        f"model '{described.name}' version {described.version} was trained with {library} {version}, "
        f"here is {here.get(library, 'none')}; its probes still give the same scores."
        for library, version in described.libraries.items()
        if here.get(library) != version
    )


def _libraries() -> dict[str, str]:
    installed = {library: importlib.metadata.version(library) for library in LIBRARIES}
    return {"python": platform.python_version()} | installed


def _describe(trained: TrainedModel, version: str) -> Manifest:
    model = trained.model
    return Manifest(
        schema_="stream_detector.bundle/1",
        name=model.name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        detector=model.detector,
        channels=model.channels,
        features=model.features,
        window=model.window,
        contamination=trained.contamination,
        mean=tuple(model.mean.tolist()),
        scale=tuple(model.scale.tolist()),
        medians=tuple(model.medians.tolist()),
        calibration=CalibrationPart(
            usual=model.calibration.usual,
            threshold=model.calibration.threshold,
            quantiles=model.calibration.quantiles,
            normal=model.calibration.normal,
        ),
        rows_trained=trained.summary.used,
        libraries=_libraries(),
        sha256=hashlib.sha256(trained.content).hexdigest(),
        probes=tuple(tuple(probe) for probe in trained.probes.tolist()),
        probe_raw=tuple(trained.probe_raw.tolist()),
    )


@contextlib.contextmanager
def _hidden_folder(parent: Path) -> Iterator[Path]:
    """Make a folder beside the versions that `versions` does not see, and leave none behind."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    folder.chmod(parent.stat().st_mode & 0o777)  # readable for whom the others are
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
