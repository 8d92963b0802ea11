"""Model bundles: a folder `<models_dir>/<name>/<version>/` with `manifest.json` and `model.skops`.

A file can run code (pickle), name foreign types, or hold numbers that make compiled code read
foreign memory; so the bytes that were hashed are the bytes that are loaded, the allow-list is in
the code and not in the file, arrays are checked before they are used, and a bundle must reproduce
the scores that it had when it was trained. Every failure has one of the `REASONS`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import os
import platform
import re
import shutil
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream_detector.core import features
from stream_detector.core.calibration import PROBABILITIES, Calibration
from stream_detector.detectors.pyod import KINDS, FittedModel, Kind, import_library
from stream_detector.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.models.training import TrainedModel

REASONS = (
    "missing",  # no such folder or file, or PyOD is not installed
    "too_large",
    "manifest",  # not the manifest of this bundle
    "hash",  # model.skops is not the file that the manifest was written for
    "untrusted_type",  # the file holds a type that the detector does not need
    "detector",  # not known, or the estimator is not sound
    "features",  # unknown or named twice, or not those of its columns or of its stream
    "probe",  # it does not give the scores it had
    "not_finite",  # it gives no number
    "unreadable",  # no permission, or no skops file
)

MANIFEST = "manifest.json"
MODEL = "model.skops"
MAX_MANIFEST_BYTES = 1_000_000
MAX_MODEL_BYTES = 64_000_000
MAX_UNPACKED_BYTES = 256_000_000
MAX_MEMBERS = 20_000
TOLERANCE = 1e-9  # of a probe's raw score; libraries of other versions sum in another order
LIBRARIES = ("numpy", "scikit-learn", "pyod", "skops")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")

Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = tuple[Number, ...]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, validate_by_name=True
    )


class CalibrationPart(_Part):
    """See `stream_detector.core.calibration.Calibration`."""

    usual: Number
    threshold: Number
    quantiles: Annotated[Numbers, Field(min_length=len(PROBABILITIES), max_length=len(PROBABILITIES))]
    normal: Annotated[int, Field(ge=1)]


class Manifest(_Part):
    """What a bundle says of itself; everything that is not the estimator.

    The probes are rows of the training data, some of the strangest among them: who must not see
    the data must not see the bundle.
    """

    # with an underscore, because a pydantic model has a method of that name
    schema_: Annotated[Literal["stream_detector.bundle/1"], Field(alias="schema")]
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    version: Annotated[str, Field(pattern=f"^{VERSION.pattern}$")]
    created: str
    detector: str
    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    features: Annotated[tuple[str, ...], Field(min_length=1)]
    window: Annotated[int, Field(ge=1)]
    contamination: Annotated[float, Field(gt=0.0, le=0.5)]
    mean: Numbers
    scale: tuple[Annotated[Number, Field(gt=0.0)], ...]
    medians: Numbers
    calibration: CalibrationPart
    rows_trained: Annotated[int, Field(ge=1)]
    libraries: dict[str, str]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    probes: Annotated[tuple[Numbers, ...], Field(min_length=1)]
    probe_raw: Numbers


@dataclass(frozen=True, slots=True)
class Files:
    """A bundle's bytes, read once.

    Attributes:
        folder: Where they stood.
        manifest: Content of `manifest.json`.
        model: Content of `model.skops`.
        sha256: Over both: names this content.
    """

    folder: Path
    manifest: bytes
    model: bytes
    sha256: str


def versions(models_dir: Path, name: str) -> list[str]:
    """Return the versions that stand under a name, the lowest first; empty where there are none.

    Raises:
        BundleError: The name is none, or its folder cannot be listed.
    """
    if not NAME.fullmatch(name):
        raise BundleError(
            f"model name '{name}' is none: up to 40 of a-z, 0-9, _ and -, beginning with a letter or digit.",
            reason="missing",
        )
    try:
        found = [entry.name for entry in (models_dir / name).iterdir() if VERSION.fullmatch(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BundleError(
            f"bundles in {models_dir / name} cannot be listed: {error.strerror}; check the permissions.",
            reason="unreadable",
        ) from error
    return sorted(found, key=int)


def latest(models_dir: Path, name: str) -> Path:
    """Return the folder with the highest version.

    Raises:
        BundleError: There is none.
    """
    found = versions(models_dir, name)
    if not found:
        raise BundleError(
            f"there is no bundle in {models_dir / name}; train one, or check the model's name.",
            reason="missing",
        )
    return models_dir / name / found[-1]


def read(folder: Path) -> Files:
    """Read a bundle's files, which proves nothing about them.

    Raises:
        BundleError: A file is missing, too large or cannot be read.
    """
    folder = folder.absolute()  # its last two names are checked
    manifest = _read(folder, MANIFEST, MAX_MANIFEST_BYTES)
    model = _read(folder, MODEL, MAX_MODEL_BYTES)
    return Files(
        folder, manifest, model, hashlib.sha256(hashlib.sha256(manifest).digest() + model).hexdigest()
    )


def load(folder: Path) -> FittedModel:
    """Load a bundle.

    Args:
        folder: `<models_dir>/<name>/<version>`.

    Raises:
        BundleError: It is refused.
    """
    return verify(read(folder))


def verify(files: Files) -> FittedModel:
    """Make a model of a bundle's bytes, or refuse them.

    Raises:
        BundleError: They are refused.
    """
    manifest = _manifest(files)
    kind = KINDS[manifest.detector]
    estimator = _estimator(files, kind)
    model = _model(files, manifest, kind, estimator)
    _probe(files, manifest, model, estimator)
    return model


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
            manifest = _describe(trained, str(version)).model_dump_json(by_alias=True, indent=1).encode()
            files = Files(parent / str(version), manifest, trained.content, sha256="")
            if len(files.model) > MAX_MODEL_BYTES:
                raise _refused(files, f"{MODEL} is larger than {MAX_MODEL_BYTES:,} bytes", "too_large")
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


def _read(folder: Path, name: str, limit: int) -> bytes:
    path = folder / name
    try:
        if not path.is_file():  # also a pipe, which would be read for ever
            raise BundleError(
                f"bundle {folder} has no file {name}; train the model again, or copy the whole folder.",
                reason="missing",
            )
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise BundleError(
            f"bundle {folder} cannot be read: {name}: {error.strerror}; check the permissions.",
            reason="unreadable",
        ) from error
    if len(content) > limit:
        raise BundleError(
            f"bundle {folder} is refused: {name} is larger than {limit:,} bytes; train on fewer rows.",
            reason="too_large",
        )
    return content


def _manifest(files: Files) -> Manifest:
    """Parse the manifest and check that it is this bundle's, before anything else is looked at."""
    try:
        manifest = Manifest.model_validate_json(files.manifest)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise _refused(files, f"{MANIFEST}: {where}: {first['msg']}", "manifest") from error
    if files.folder.name != manifest.version or files.folder.parent.name != manifest.name:
        raise _refused(
            files, f"{MANIFEST} says that it is version {manifest.version} of '{manifest.name}'", "manifest"
        )
    calibration = manifest.calibration
    ascending = calibration.quantiles == tuple(sorted(calibration.quantiles))
    if calibration.usual >= calibration.threshold or not ascending:
        raise _refused(files, f"{MANIFEST}: calibration: its numbers do not ascend", "manifest")
    if manifest.detector not in KINDS:
        known = ", ".join(KINDS)
        raise _refused(files, f"{MANIFEST}: detector '{manifest.detector}' is not one of {known}", "detector")
    _check_columns(files, manifest)
    if len(manifest.probe_raw) != len(manifest.probes):
        raise _refused(files, f"{MANIFEST}: probes and probe_raw differ in length", "manifest")
    if hashlib.sha256(files.model).hexdigest() != manifest.sha256:
        raise _refused(files, f"{MODEL} is not the file that {MANIFEST} was written for", "hash")
    return manifest


def _check_columns(files: Files, manifest: Manifest) -> None:
    """Refuse columns that no reading can fill, or that are more or fewer than the numbers for them."""
    unknown = features.unknown(manifest.features, manifest.window)
    if unknown is not None:
        what = f"'{unknown}' is no feature of a window of {manifest.window} readings"
        raise _refused(files, f"{MANIFEST}: {what}", "features")
    for key, names in (("channels", manifest.channels), ("features", manifest.features)):
        if len(set(names)) < len(names):
            raise _refused(files, f"{MANIFEST}: {key} names one of them twice", "features")
    columns = len(manifest.channels) * len(manifest.features)
    for key, widths in {
        "mean": {len(manifest.mean)},
        "scale": {len(manifest.scale)},
        "medians": {len(manifest.medians)},
        "probes": {len(probe) for probe in manifest.probes},
    }.items():
        if widths != {columns}:
            raise _refused(
                files, f"{MANIFEST}: {key} does not have the {columns} columns of its features", "features"
            )


def _estimator(files: Files, kind: Kind) -> Any:
    """Load the estimator: only types on the list, only of the manifest's class."""
    try:
        with zipfile.ZipFile(io.BytesIO(files.model)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise _refused(files, f"{MODEL} is not a skops file", "unreadable") from error
    if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise _refused(files, f"{MODEL} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes", "too_large")
    skops = import_library("skops.io")
    untrusted = import_library("skops.io.exceptions").UntrustedTypesFoundException
    wanted = kind.load_class()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other library versions: said by `_other_versions`
            estimator = skops.loads(files.model, trusted=[kind.path, *kind.trusted])
    except untrusted as error:
        raise _refused(files, f"{MODEL}: {_brief(error)}", "untrusted_type") from error
    except Exception as error:  # a damaged file fails anywhere in skops, in any way
        raise _refused(files, f"{MODEL} cannot be read: {_brief(error)}", "unreadable") from error
    if type(estimator) is not wanted:
        raise _refused(files, f"{MODEL} holds a {type(estimator).__name__}, no {kind.path}", "untrusted_type")
    return estimator


def _model(files: Files, manifest: Manifest, kind: Kind, estimator: Any) -> FittedModel:
    """Put the model together."""
    columns = len(manifest.channels) * len(manifest.features)
    try:
        width = kind.width(estimator)
        estimate = kind.scorer(estimator, columns) if width == columns else None
    except Exception as error:  # a crafted estimator lacks attributes, or they are not arrays
        raise _refused(
            files, f"{MODEL} holds no sound {manifest.detector}: {_brief(error)}", "detector"
        ) from error
    if estimate is None:
        raise _refused(files, f"{MODEL} expects {width} columns, {MANIFEST} {columns}", "features")
    return FittedModel(
        name=manifest.name,
        version=manifest.version,
        sha256=files.sha256,
        detector=manifest.detector,
        channels=manifest.channels,
        features=manifest.features,
        window=manifest.window,
        calibration=Calibration(**manifest.calibration.model_dump()),
        mean=np.array(manifest.mean),
        scale=np.array(manifest.scale),
        medians=np.array(manifest.medians),
        estimate=estimate,
        warnings=_other_versions(manifest),
    )


def _probe(files: Files, manifest: Manifest, model: FittedModel, estimator: Any) -> None:
    """Refuse a model that does not score as it did when it was trained.

    For the compiled forest PyOD's own answer is asked for too: two ways to one number.
    """
    rows = np.array(manifest.probes)
    expected = np.array(manifest.probe_raw)
    try:
        answers = [model.raw(rows)]
        if manifest.detector == "iforest":
            answers.append(np.asarray(estimator.decision_function(model.scaled(rows))))
    except Exception as error:  # whatever a crafted estimator does
        raise _refused(files, f"{MODEL} fails on a probe: {_brief(error)}", "detector") from error
    for raw in answers:
        if not np.isfinite(raw).all():
            raise _refused(files, f"{MODEL} gives a raw score that is no number", "not_finite")
        if not np.allclose(raw, expected, rtol=TOLERANCE, atol=TOLERANCE):
            worst = int(np.argmax(np.abs(raw - expected)))
            raise _refused(
                files, f"probe {worst} scores {raw[worst]:.9g}, not {expected[worst]:.9g} as trained", "probe"
            )


def _other_versions(manifest: Manifest) -> tuple[str, ...]:
    """Return a sentence for each library whose version is not the one it was trained with."""
    here = _libraries()
    return tuple(
        f"model '{manifest.name}' version {manifest.version} was trained with {library} {version}, "
        f"here is {here.get(library, 'none')}; its probes still give the same scores."
        for library, version in manifest.libraries.items()
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


def _refused(files: Files, what: str, reason: str) -> BundleError:
    return BundleError(
        f"bundle {files.folder} is refused: {what}; train the model again, or restore the folder.",
        reason=reason,
    )


def _brief(error: Exception) -> str:
    """Return an error's first line, which is all that fits into one sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
