"""The manifest of a bundle: everything that is not the estimator.

It is plain numbers and names, yet all of them reach the hot thread: each is bounded here, since a
count of four hundred digits or a name with a line break is legal JSON.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stream_detector.core.scoring.calibration import PROBABILITIES
from stream_detector.core.windows import features
from stream_detector.detectors.pyod import KINDS
from stream_detector.models.files import MANIFEST, MODEL, NAME, VERSION
from stream_detector.models.refusals import brief, printable, refused

if TYPE_CHECKING:
    from stream_detector.errors import BundleError
    from stream_detector.models.files import Files

MAX_COUNT = 2**53  # up to here an integer and its float are the same
MAX_CHANNELS = 32
MAX_FEATURES = 256
MAX_WINDOW = 8192


def _one_line(name: str) -> str:
    """Refuse a channel's name that no reading can have, and that would break a line of a log."""
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs"} for character in name):
        raise ValueError("it holds a control or format character")
    return name


Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = tuple[Number, ...]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Channel = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_one_line)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]{1,40}$")]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, validate_by_name=True
    )


class CalibrationPart(_Part):
    """See `stream_detector.core.scoring.calibration.Calibration`."""

    usual: Number
    threshold: Number
    quantiles: Annotated[Numbers, Field(min_length=len(PROBABILITIES), max_length=len(PROBABILITIES))]
    normal: Count


class Manifest(_Part):
    """What a bundle says of itself.

    The probes are rows of the training data, some of the strangest among them: who must not see
    the data must not see the bundle.
    """

    # with an underscore, because a pydantic model has a method of that name
    schema_: Annotated[Literal["stream_detector.bundle/1"], Field(alias="schema")]
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    version: Annotated[str, Field(pattern=f"^{VERSION.pattern}$")]
    created: Annotated[str, Field(pattern=r"^[0-9TZ:.+-]{1,40}$")]
    detector: Word
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=MAX_CHANNELS)]
    features: Annotated[tuple[Word, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW)]
    contamination: Annotated[float, Field(gt=0.0, le=0.5)]
    mean: Numbers
    scale: tuple[Annotated[Number, Field(gt=0.0)], ...]
    medians: Numbers
    calibration: CalibrationPart
    rows_trained: Count
    libraries: Annotated[dict[Word, Word], Field(max_length=20)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    probes: Annotated[tuple[Numbers, ...], Field(min_length=1)]
    probe_raw: Numbers


def parse(files: Files) -> Manifest:
    """Return the manifest after checking that it is this bundle's.

    Raises:
        BundleError: It is not.
    """
    try:
        manifest = Manifest.model_validate_json(files.manifest)
        json.loads(files.manifest, object_pairs_hook=_unique)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise _refused(files, printable(f"{where[:200]}: {first['msg']}")) from error
    except ValueError as error:
        raise _refused(files, brief(error)) from error
    if files.folder.name != manifest.version or files.folder.parent.name != manifest.name:
        raise _refused(files, f"it says that it is version {manifest.version} of '{manifest.name}'")
    calibration = manifest.calibration
    normal = (calibration.usual, *calibration.quantiles)
    if normal != tuple(sorted(normal)) or normal[-1] >= calibration.threshold:
        raise _refused(files, "calibration: its numbers do not ascend")
    if manifest.detector not in KINDS:
        known = ", ".join(KINDS)
        raise _refused(files, f"detector '{manifest.detector}' is not one of {known}", "detector")
    _check_columns(files, manifest)
    if len(manifest.probe_raw) != len(manifest.probes):
        raise _refused(files, "probes and probe_raw differ in length")
    if len(set(manifest.probe_raw)) == 1:
        raise _refused(files, "all its probes have one score, so it tells nothing apart", "probe")
    if hashlib.sha256(files.model).hexdigest() != manifest.sha256:
        raise refused(files.folder, f"{MODEL} is not the file that {MANIFEST} was written for", "hash")
    return manifest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that has a key twice: every reader may choose another one of the two."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice")
    return found


def _check_columns(files: Files, manifest: Manifest) -> None:
    """Refuse columns that no reading can fill, or that are more or fewer than the numbers for them."""
    unknown = features.unknown(manifest.features, manifest.window)
    if unknown is not None:
        what = f"'{unknown}' is no feature of a window of {manifest.window} readings"
        raise _refused(files, what, "features")
    for key, names in (("channels", manifest.channels), ("features", manifest.features)):
        if len(set(names)) < len(names):
            raise _refused(files, f"{key} names one of them twice", "features")
    columns = len(manifest.channels) * len(manifest.features)
    for key, widths in {
        "mean": {len(manifest.mean)},
        "scale": {len(manifest.scale)},
        "medians": {len(manifest.medians)},
        "probes": {len(probe) for probe in manifest.probes},
    }.items():
        if widths != {columns}:
            raise _refused(files, f"{key} does not have the {columns} columns of its features", "features")


def _refused(files: Files, what: str, reason: str = "manifest") -> BundleError:
    return refused(files.folder, f"{MANIFEST}: {what}", reason)
