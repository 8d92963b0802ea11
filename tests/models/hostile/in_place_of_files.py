"""What stands where a bundle's files should be."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from stream_detector.models import files
from tests.models.hostile.editing import Hostile

if TYPE_CHECKING:
    from pathlib import Path


def _no_manifest(folder: Path) -> None:
    (folder / files.MANIFEST).unlink()


def _no_model(folder: Path) -> None:
    (folder / files.MODEL).unlink()


def _file_as_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.touch()


def _manifest_is_a_link(folder: Path) -> None:
    _no_manifest(folder)
    (folder / files.MANIFEST).symlink_to("/etc/passwd")


def _model_is_a_link(folder: Path) -> None:
    path = folder / files.MODEL
    path.rename(folder / "elsewhere")
    path.symlink_to("elsewhere")


def _model_is_a_link_to_an_endless_device(folder: Path) -> None:
    _no_model(folder)
    (folder / files.MODEL).symlink_to("/dev/zero")


def _manifest_is_a_pipe(folder: Path) -> None:
    _no_manifest(folder)
    os.mkfifo(folder / files.MANIFEST)


def _model_is_a_pipe(folder: Path) -> None:
    _no_model(folder)
    os.mkfifo(folder / files.MODEL)


def _model_is_a_socket(folder: Path) -> None:
    _no_model(folder)
    os.mknod(folder / files.MODEL, stat.S_IFSOCK | 0o600)


def _model_is_a_folder(folder: Path) -> None:
    _no_model(folder)
    (folder / files.MODEL).mkdir()


def _unreadable(folder: Path) -> None:
    (folder / files.MODEL).chmod(0)


def _large_model(folder: Path) -> None:
    os.truncate(folder / files.MODEL, files.MAX_MODEL_BYTES + 1)


def _manifest_of_100_mb(folder: Path) -> None:
    os.truncate(folder / files.MANIFEST, 100_000_000)


CORPUS = [
    Hostile(_no_manifest, "missing"),
    Hostile(_no_model, "missing"),
    Hostile(_file_as_folder, "missing"),
    Hostile(_manifest_is_a_link, "not_a_file"),
    Hostile(_model_is_a_link, "not_a_file"),
    Hostile(_model_is_a_link_to_an_endless_device, "not_a_file"),
    Hostile(_manifest_is_a_pipe, "not_a_file"),
    Hostile(_model_is_a_pipe, "not_a_file"),
    Hostile(_model_is_a_socket, "not_a_file"),
    Hostile(_model_is_a_folder, "not_a_file"),
    Hostile(_unreadable, "unreadable"),
    Hostile(_large_model, "too_large"),
    Hostile(_manifest_of_100_mb, "too_large"),
]
