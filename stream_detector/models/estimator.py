"""From the bytes of `model.skops` to an estimator, by a list of types that stands in our code.

skops refuses types that it does not know, but it knows all of scikit-learn and every function of
numpy. A bundle needs a handful of types, so what else a file names is refused before skops builds
anything.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from stream_detector.detectors.pyod import import_library
from stream_detector.models.files import MODEL
from stream_detector.models.refusals import brief, printable, refused, refusing

if TYPE_CHECKING:
    from stream_detector.detectors.pyod import Kind
    from stream_detector.models.files import Files

MAX_UNPACKED_BYTES = 256_000_000
MAX_MEMBERS = 20_000
MAX_RATIO = 200  # unpacked to packed; arrays of numbers that differ stay far below
SMALL_BYTES = 16_000_000  # unpacked; up to here no ratio is too high
MAX_SCHEMA_BYTES = 4_000_000  # 1.8 of a forest; parsing takes up to 30 times as much
SCHEMA = "schema.json"
MEMBER = re.compile(r"schema\.json|[0-9]{1,20}\.npy")
DIRECTORY_ENTRY = b"PK\x01\x02"  # how an entry of a zip file's directory begins
ENCRYPTED = 0x1

PLAIN_TYPES = frozenset({
    "builtins.dict",
    "builtins.list",
    "builtins.str",
    "builtins.tuple",
    "numpy.float32",
    "numpy.float64",
    "numpy.int32",
    "numpy.int64",
    "numpy.ndarray",
})  # fmt: skip
LOADERS = frozenset({
    "DictNode",
    "JsonNode",
    "ListNode",
    "NdArrayNode",
    "ObjectNode",
    "TreeNode",
    "TupleNode",
    "TypeNode",
})  # fmt: skip


def check(files: Files, kind: Kind) -> None:
    """Look at the zip file's directory and its schema; nothing else is unpacked, nothing built.

    Raises:
        BundleError: It is too large, not as skops writes it, or names a type that is not on the list.
    """
    # counted before it is parsed: a directory of a million entries takes a gigabyte
    if files.model.count(DIRECTORY_ENTRY) > MAX_MEMBERS:
        raise refused(files.folder, f"{MODEL} has more than {MAX_MEMBERS:,} parts", "too_large")
    with (
        refusing(files.folder, f"{MODEL} is not a skops file", "archive"),
        zipfile.ZipFile(io.BytesIO(files.model)) as archive,
    ):
        _check_directory(files, archive.infolist())
        foreign = _foreign(json.loads(archive.read(SCHEMA)), kind)
    if foreign is not None:
        raise refused(files.folder, f"{MODEL} holds {foreign}", "untrusted_type")


def _check_directory(files: Files, members: list[zipfile.ZipInfo]) -> None:
    sizes: dict[str, int] = {}
    for member in members:
        packing = member.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        if not MEMBER.fullmatch(member.filename) or not packing or member.flag_bits & ENCRYPTED:
            raise refused(files.folder, f"{MODEL} has a part that skops does not write", "archive")
        if member.filename in sizes:
            raise refused(files.folder, f"{MODEL} has two parts of one name", "archive")
        sizes[member.filename] = member.file_size
    unpacked = sum(sizes.values())
    most = min(MAX_UNPACKED_BYTES, max(SMALL_BYTES, MAX_RATIO * len(files.model)))
    if unpacked > most or sizes.get(SCHEMA, 0) > MAX_SCHEMA_BYTES:
        raise refused(files.folder, f"{MODEL} unpacks to {unpacked:,} bytes, which is too much", "too_large")


def load(files: Files, kind: Kind) -> Any:
    """Load the estimator of a file that was checked: only of the wanted class.

    Raises:
        BundleError: It is refused.
    """
    with refusing(files.folder, f"{MODEL} cannot be read", "archive"):
        skops = import_library("skops.io")
        untrusted = import_library("skops.io.exceptions").UntrustedTypesFoundException
        wanted = kind.load_class()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other library versions: said by `bundle`
                estimator = skops.loads(files.model, trusted=[kind.path, *kind.trusted])
        except untrusted as error:
            raise refused(files.folder, f"{MODEL}: {brief(error)}", "untrusted_type") from error
    if type(estimator) is not wanted:
        what = f"{MODEL} holds a {type(estimator).__name__}, no {kind.path}"
        raise refused(files.folder, what, "untrusted_type")
    return estimator


def _foreign(schema: Any, kind: Kind) -> str | None:
    """Return what a file's schema names beyond the types and loaders of its kind, or None."""
    allowed = PLAIN_TYPES | {kind.path, *kind.trusted}
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if "__loader__" in part:
                name = f"{part.get('__module__')}.{part.get('__class__')}"
                if name not in allowed or part["__loader__"] not in LOADERS:
                    return f"a {printable(name[:200])}, which a {kind.path} does not need"
                if part["__loader__"] == "NdArrayNode" and part.get("type") != "numpy":
                    return "an array of objects"
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)
    return None
