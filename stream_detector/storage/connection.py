"""The one door to SQLite: every call that can touch the disk goes through `Connection`.

So a test can make the n-th call fail, and an error is turned into words in one place. A database is
opened in SQLite's manual mode: a transaction is begun and committed in so many words.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

BUSY_MS = 2000
"""A backup or a person with a shell may hold a lock for a moment."""

REASONS = ("full", "io", "other", "read_only")
"""Words for what went wrong, as an attribute of errors."""
ADVICE = {
    "full": "free space on that disk",
    "io": "check the disk and its cables, the limits on file sizes, and the system's log",
    "read_only": "make the folder writable for this user",
    "other": "see whether another program has the file open",
}

before_call: list[Callable[[str], None]] = []
"""What is called with the SQL before each call; empty except in tests, which make calls fail."""


class Connection:
    """A connection to one file.

    Args:
        path: Of the database.
        mode: ``rw`` (an existing file), ``rwc`` (made where it does not exist) or ``ro``.
        immutable: Nobody writes it, so that not even a lock file is needed; only for ``ro``.

    Raises:
        sqlite3.Error: It cannot be opened.
    """

    def __init__(self, path: Path, mode: str, *, immutable: bool = False) -> None:
        uri = f"{path.absolute().as_uri()}?mode={mode}" + ("&immutable=1" if immutable else "")
        _call("open")
        self.raw = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000
        )

    def run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        if before_call:
            _call(sql)
        return self.raw.execute(sql, values)

    def run_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute one statement for each row."""
        if before_call:
            _call(sql)
        self.raw.executemany(sql, rows)

    def one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        """Return the first column of the first row, None where there is none."""
        row = self.run(sql, values).fetchone()
        return None if row is None else row[0]

    def chunks(self, sql: str, after: int, size: int) -> Iterator[tuple[Any, ...]]:
        """Read a long list chunk by chunk, so that no read stays open while its rows are used.

        Args:
            sql: A query for rows that begin with a number, ascending; its values are the number to
                begin after, and how many rows.
            after: The number to begin after.
            size: Rows a chunk.
        """
        while rows := self.run(sql, (after, size)).fetchall():
            yield from rows
            after = rows[-1][0]

    def copy_to(self, target: Path) -> None:
        """Copy the whole database, as it is now, into another file; what stands there is replaced at once."""
        new = target.with_name(f"{target.name}.new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        copy = Connection(new, "rw")
        try:
            _call("backup")
            self.raw.backup(copy.raw)
            copy.run("PRAGMA journal_mode = DELETE")  # so that the copy is one file
        except BaseException:
            new.unlink()
            raise
        finally:
            copy.close()
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.rename(target)

    def roll_back(self) -> None:
        """Undo an open transaction; what cannot be undone now is undone by the next opening."""
        with suppress(sqlite3.Error):
            if self.raw.in_transaction:
                self.run("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        self.raw.close()


def open_to_read(path: Path) -> Connection:
    """Open a database that somebody else may be writing, or that nobody can write.

    Raises:
        sqlite3.Error: It cannot be read.
    """
    connection = Connection(path, "ro")
    try:
        connection.one("PRAGMA user_version")
    except sqlite3.OperationalError as error:
        connection.close()
        if _code(error) not in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN} or not path.exists():
            raise
        if _has_content(path.with_name(f"{path.name}-journal")):  # a crash left something to be undone
            return Connection(path, "rw")
        if _has_content(path.with_name(f"{path.name}-wal")):
            raise
        return Connection(path, "ro", immutable=True)  # no log can be made here, and none is needed
    except BaseException:
        connection.close()
        raise
    return connection


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _call(sql: str) -> None:
    for hook in before_call:
        hook(sql)


def reason_of(error: sqlite3.Error | OSError) -> str:
    """Return the word for what went wrong, one of `REASONS`."""
    if isinstance(error, OSError):
        return {
            errno.ENOSPC: "full",
            errno.EDQUOT: "full",
            errno.EIO: "io",
            errno.EROFS: "read_only",
            errno.EACCES: "read_only",
            errno.EPERM: "read_only",
        }.get(error.errno or 0, "other")
    return {
        sqlite3.SQLITE_FULL: "full",
        sqlite3.SQLITE_IOERR: "io",
        sqlite3.SQLITE_READONLY: "read_only",
        sqlite3.SQLITE_CANTOPEN: "read_only",
        sqlite3.SQLITE_PERM: "read_only",
    }.get(_code(error), "other")


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file itself is broken."""
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def words_of(error: sqlite3.Error | OSError) -> str:
    """Return what the system said, without its numbers."""
    return (getattr(error, "strerror", None) or str(error)) if isinstance(error, OSError) else str(error)


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; the higher bits say more than we tell apart."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
