"""A copy of state_dir that a service can start from, made while one runs.

The database comes first and the history after it, so that what is moved between the two meanwhile is
copied twice, not left out; what the history has beyond the copied database is taken out again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_detector.errors import ConfigurationError, StateError, StorageError
from stream_detector.storage import facts
from stream_detector.storage.connection import (
    ADVICE,
    Connection,
    is_damage,
    open_to_read,
    reason_of,
    words_of,
)
from stream_detector.storage.schema import FILE, sync_folder
from stream_detector.storage.segments import FOLDER, segments

if TYPE_CHECKING:
    from pathlib import Path

INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What was copied.

    Attributes:
        position: Of the last record.
        segments: Files of the history.
        size: Bytes altogether.
        left_out: Damaged files of the history.
    """

    position: int
    segments: int
    size: int
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as one line."""
        found = f"{self.size / 1e6:.1f} MB, up to position {self.position}, {self.segments} files of history"
        return f"{found}; left out as damaged: {', '.join(self.left_out)}" if self.left_out else found


def backup(state_dir: Path, target: Path) -> BackupResult:
    """Copy what is kept, as it is at one moment.

    Args:
        state_dir: Of a service, running or not.
        target: A folder that does not exist yet, or is empty.

    Raises:
        ConfigurationError: The target has something in it.
        StateError: There is nothing to copy, or it cannot be read.
        StorageError: The target cannot be written.
    """
    if not (state_dir / FILE).exists():
        raise StateError(f"there is no {FILE} in {state_dir}; name the state_dir of a service that has run")
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise ConfigurationError(f"{target} is not empty; name a folder that is not there yet")
        return _copy(state_dir, target)
    except (sqlite3.Error, OSError) as error:
        reason = reason_of(error)
        words = f"{words_of(error)}): {ADVICE[reason]}, and empty the target"
        raise StorageError(f"{state_dir} cannot be copied to {target} ({words}", reason=reason) from error


def _copy(state_dir: Path, target: Path) -> BackupResult:
    _copy_database(state_dir / FILE, target / FILE)
    copy = open_to_read(target / FILE)
    try:
        head = facts.read(copy, facts.HEAD)
    finally:
        copy.close()
    position = int(head.split()[0]) if head else 0
    left_out = _copy_history(state_dir, target, position)
    if (state_dir / INSTANCE).exists():
        shutil.copyfile(state_dir / INSTANCE, target / INSTANCE)
        with (target / INSTANCE).open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(target)
    sync_folder(target.parent)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return BackupResult(position, len(segments(target)), size, tuple(left_out))


def _copy_history(state_dir: Path, target: Path, position: int) -> list[str]:
    """Copy the segments up to a position; return the names of those that cannot be read."""
    left_out = []
    found = segments(state_dir)
    if found:
        (target / FOLDER).mkdir(mode=0o700)
    for path in found:
        copied = target / FOLDER / path.name
        try:
            _copy_database(path, copied)
            if not _cut(copied, position):
                copied.unlink()
        except sqlite3.Error as error:
            copied.unlink(missing_ok=True)
            if path.exists():  # else it was dropped meanwhile, as too old
                if not is_damage(error):
                    raise
                left_out.append(path.name)
    if found:
        sync_folder(target / FOLDER)
    return left_out


def _cut(segment: Path, position: int) -> int:
    """Delete what comes after a position; return how many records are left."""
    connection = Connection(segment, "rw")
    try:
        connection.run("DELETE FROM journal WHERE position > ?", (position,))
        return int(connection.one("SELECT count(*) FROM journal"))
    finally:
        connection.close()


def _copy_database(source: Path, target: Path) -> None:
    connection = open_to_read(source)
    try:
        connection.copy_to(target)
    finally:
        connection.close()
