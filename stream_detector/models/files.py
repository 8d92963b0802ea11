"""A bundle's two files, read once and without trusting what stands in their place.

What is hashed, checked and loaded later are the bytes read here: nobody looks at the disk again, so
exchanging a file after the check changes nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_detector.errors import BundleError
from stream_detector.models.refusals import refused

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
MODEL = "model.skops"
MAX_MANIFEST_BYTES = 1_000_000
MAX_MODEL_BYTES = 64_000_000
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Files:
    """A bundle's bytes.

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
        BundleError: A file is missing, is no file, is too large or cannot be read.
    """
    folder = folder.absolute()  # its last two names are checked
    manifest = _read(folder, MANIFEST, MAX_MANIFEST_BYTES)
    model = _read(folder, MODEL, MAX_MODEL_BYTES)
    return Files(
        folder, manifest, model, hashlib.sha256(hashlib.sha256(manifest).digest() + model).hexdigest()
    )


def _read(folder: Path, name: str, limit: int) -> bytes:
    try:
        # no link is followed, and a pipe that nobody writes to is not waited for
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)  # of what was opened, whatever stands there by now
            if not stat.S_ISREG(status.st_mode):
                raise _no_file(folder, name)
            content = b"" if status.st_size > limit else _read_open(handle, limit + 1)
        finally:
            os.close(handle)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"bundle {folder} has no file {name}; train the model again, or copy the whole folder.",
            reason="missing",
        ) from error
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket
            raise _no_file(folder, name) from error
        raise BundleError(
            f"bundle {folder} cannot be read: {name}: {error.strerror}; check the permissions.",
            reason="unreadable",
        ) from error
    if max(status.st_size, len(content)) > limit:
        raise BundleError(
            f"bundle {folder} is refused: {name} is larger than {limit:,} bytes; train on fewer rows.",
            reason="too_large",
        )
    return content


def _read_open(handle: int, limit: int) -> bytes:
    with os.fdopen(handle, "rb", closefd=False) as file:
        return file.read(limit)


def _no_file(folder: Path, name: str) -> BundleError:
    return refused(folder, f"{name} is a link, folder, pipe or device, not a file", "not_a_file")
