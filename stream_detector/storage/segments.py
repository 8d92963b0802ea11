"""The files of the history: one holds the records of about an hour, and its name says where it begins.

    history/000000000812-20260101T000000Z.db      position of its first record, and when that came

Each is an SQLite file of its own, so that what is too old is dropped as a whole file.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from stream_detector.storage.codec import JOURNAL
from stream_detector.storage.connection import Connection, open_to_read
from stream_detector.storage.schema import SCHEMA, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "history"
SEGMENT_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"\d{19}-\d{8}T\d{6}Z\.db")
_FORMAT = "%Y%m%dT%H%M%SZ"


class Segment:
    """A file of records that is being written.

    Args:
        path: Of a file that exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began_at = time_of(path)
        self._db = Connection(path, "rw")
        try:
            self._db.run("PRAGMA synchronous = EXTRA")  # what is committed here is deleted elsewhere
        except BaseException:
            self._db.close()
            raise

    def has_room(self, at: int, largest: int) -> bool:
        """Return whether a record of a time still goes into this one."""
        return at - self._began_at < SEGMENT_US and self.path.stat().st_size < largest

    def append(self, rows: list[tuple[Any, ...]]) -> None:
        """Write rows, so that they are on the disk afterwards; those that are there already stay."""
        try:
            self._db.run("BEGIN IMMEDIATE")
            self._db.run_many("INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.run("COMMIT")
        except BaseException:
            self._db.roll_back()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def segments(state_dir: Path) -> list[Path]:
    """Return the segments of the history, the oldest first."""
    return sorted(path for path in (state_dir / FOLDER).glob("*.db") if _NAME.fullmatch(path.name))


def last_in_history(state_dir: Path) -> int:
    """Return the position of the last record in the history, 0 where there is none."""
    return max((last_row(path)[0] for path in segments(state_dir)[-2:]), default=0)


def last_row(path: Path) -> tuple[int, int]:
    """Return position and time of a segment's last record; as far as it is known where that is damaged."""
    try:
        segment = open_to_read(path)
        try:
            row = segment.run("SELECT position, at FROM journal ORDER BY position DESC LIMIT 1").fetchone()
        finally:
            segment.close()
    except (sqlite3.Error, OSError):
        row = None
    if row is None:
        return position_of(path), time_of(path)
    return int(row[0]), int(row[1])


def make_segment(state_dir: Path, position: int, at: int) -> Path:
    """Make an empty segment that begins with a position at a time, and return its path."""
    folder = state_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    new = folder / "new"
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    connection = Connection(new, "rw")
    try:
        connection.run(f"CREATE TABLE journal {JOURNAL}")
        connection.run(f"PRAGMA user_version = {SCHEMA}")
    finally:
        connection.close()
    while (path := folder / f"{position:019d}-{_EPOCH + timedelta(microseconds=at):{_FORMAT}}.db").exists():
        at += 1_000_000  # that one is broken, or it would have been continued
    new.rename(path)
    sync_folder(folder)
    sync_folder(state_dir)
    return path


def position_of(path: Path) -> int:
    """Return the position that a segment begins with, from its name."""
    return int(path.stem.split("-")[0])


def time_of(path: Path) -> int:
    """Return when a segment begins, service clock in µs, from its name; whole seconds."""
    began = datetime.strptime(path.stem.split("-")[1], _FORMAT).replace(tzinfo=UTC)
    return (began - _EPOCH) // timedelta(microseconds=1)
