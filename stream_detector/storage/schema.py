"""Opening `state.db`: whose it is, whether it is whole, and of which version.

`state.db` exists only whole: it is made under another name and then renamed. So an empty or torn file
is damage, never a beginning, and what is damaged is set aside and never used or overwritten: only a
person may decide to begin without it.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from stream_detector.errors import StateError
from stream_detector.storage import facts
from stream_detector.storage.codec import JOURNAL
from stream_detector.storage.connection import ADVICE, Connection, is_damage, reason_of, words_of
from stream_detector.storage.migrations import MIGRATIONS, TOPIC_STATES

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 4
FILE = "state.db"
LOGS = ("-wal", "-shm")
LOCK = "lock"
LOG_PAGES = 8000
"""The log grows to 32 MB before a commit has to take it over; usually the historian does so before."""

CREATE = (
    """CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID""",
    f"CREATE TABLE journal {JOURNAL}",
    """CREATE INDEX standing ON journal (position) WHERE standing = 1""",
    """CREATE TABLE outbox (
        number INTEGER PRIMARY KEY, target TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
        retain INTEGER NOT NULL, at INTEGER NOT NULL, sum INTEGER NOT NULL)""",
    """CREATE TABLE layouts (id INTEGER PRIMARY KEY, content BLOB NOT NULL)""",
    """CREATE TABLE devices (
        stream TEXT NOT NULL, device TEXT NOT NULL, position INTEGER NOT NULL, resident INTEGER NOT NULL,
        layout INTEGER NOT NULL, cells BLOB NOT NULL, tags BLOB NOT NULL, tracks BLOB NOT NULL,
        published BLOB NOT NULL, sum INTEGER NOT NULL)""",
    """CREATE UNIQUE INDEX device ON devices (stream, device)""",
    """CREATE INDEX age ON devices (stream, resident, position, layout)""",
    """CREATE TABLE alerts (
        stream TEXT NOT NULL, device TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
        seq INTEGER NOT NULL, started_at INTEGER NOT NULL, severity TEXT NOT NULL, peak REAL NOT NULL,
        published_at INTEGER NOT NULL, acknowledged INTEGER NOT NULL, channels TEXT NOT NULL,
        sum INTEGER NOT NULL,
        PRIMARY KEY (stream, device, kind)) WITHOUT ROWID""",
    TOPIC_STATES,
    """CREATE TABLE replies (
        number INTEGER PRIMARY KEY, command TEXT NOT NULL, said TEXT NOT NULL, at INTEGER NOT NULL,
        reply BLOB NOT NULL, sum INTEGER NOT NULL)""",
    """CREATE UNIQUE INDEX replied ON replies (command, said)""",
    """CREATE TABLE deliveries (
        packet INTEGER PRIMARY KEY, number INTEGER NOT NULL, digest INTEGER NOT NULL)""",
    """CREATE INDEX delivered ON deliveries (number)""",
)
NAMES = {re.findall(r"(?:TABLE|INDEX) (\w+)", sql)[0] for sql in CREATE}


class DamageError(Exception):
    """The database is broken in a way that SQLite itself did not notice; the message says how."""


def lock(state_dir: Path) -> int:
    """Make the folder where there is none, and hold it for this process alone.

    Returns:
        A file descriptor; the lock lasts until it is closed, or the process ends in whatever way.

    Raises:
        StateError: Another process holds it, or the folder cannot be used.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(state_dir, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(held, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(held)
        raise StateError(
            f"state_dir {state_dir} is in use by process {owner}; stop that one,"
            " or give each service a state_dir of its own"
        ) from None
    except OSError as error:
        os.close(held)
        raise unusable(state_dir, error) from error
    return held


def open_database(state_dir: Path, *, allow_empty: bool) -> Connection:
    """Open `state.db` for reading and writing, after all checks; make it where there is none.

    Args:
        state_dir: Locked by the caller.
        allow_empty: Begin anew where it is damaged, or was set aside before.

    Raises:
        StateError: It is damaged, of another version, or cannot be used.
    """
    path = state_dir / FILE
    try:
        if not path.exists():
            if not allow_empty and (aside := _last_aside(path)):
                raise StateError(_advice(state_dir, "was damaged and was", aside))
            _create(path)
        connection = Connection(path, "rw")
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
    except (DamageError, sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) or (isinstance(error, sqlite3.Error) and not is_damage(error)):
            raise unusable(state_dir, error) from error
        damaged = set_aside(state_dir, str(error))
        if not allow_empty:
            raise damaged from error
        return open_database(state_dir, allow_empty=True)
    return connection


def set_aside(state_dir: Path, why: str) -> StateError:
    """Rename a damaged database, which nobody may have open, and return the error that says so.

    Raises:
        StateError: It cannot be renamed.
    """
    path = state_dir / FILE
    number = 1
    while (aside := path.with_name(f"{FILE}.corrupt-{number}")).exists():
        number += 1
    try:
        path.rename(aside)
        for ending in LOGS:
            with suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
        sync_folder(state_dir)
    except OSError as error:
        raise unusable(state_dir, error) from error
    return StateError(_advice(state_dir, f"is damaged ({why}) and was", aside))


def configure(connection: Connection) -> None:
    """Set how a connection writes: a log beside the file, synced at each commit."""
    connection.run("PRAGMA journal_mode = WAL")
    connection.run("PRAGMA synchronous = FULL")
    connection.run("PRAGMA foreign_keys = OFF")
    connection.run(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")


def sync_folder(folder: Path) -> None:
    """Make sure that names in a folder outlive a power cut."""
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(found)
    finally:
        os.close(found)


def unusable(state_dir: Path, error: sqlite3.Error | OSError) -> StateError:
    """Return the error for a folder that the system does not let us use."""
    advice = ADVICE[reason_of(error)]
    if isinstance(error, FileExistsError | NotADirectoryError):
        advice = "name a folder that this user may write to"
    return StateError(f"state_dir {state_dir} cannot be used ({words_of(error)}): {advice}")


def _create(path: Path) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    for name in (new.name, path.name):  # a log that was left behind must not be taken for the new one's
        for ending in LOGS:
            path.with_name(name + ending).unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = Connection(new, "rw")
    try:
        configure(connection)
        connection.run("BEGIN IMMEDIATE")
        for sql in CREATE:
            connection.run(sql)
        connection.run(f"PRAGMA user_version = {SCHEMA}")
        connection.run("COMMIT")
    finally:
        connection.close()
    new.rename(path)
    sync_folder(path.parent)
    sync_folder(path.parent.parent)


def _check(connection: Connection, path: Path) -> None:
    """Refuse what cannot be read rightly; bring an older schema up to date."""
    version = connection.one("PRAGMA user_version")
    if version > SCHEMA:
        raise StateError(
            f"{path} was written by a newer version (schema {version}, this one knows {SCHEMA}):"
            " install that version again, or give this one another state_dir"
        )
    if version < 1:
        raise DamageError("it is not a database of this service")
    _require(connection, NAMES if version == SCHEMA else {"meta"})
    if facts.read(connection, facts.CLOSED) != "yes":  # reads the whole file
        found = connection.one("PRAGMA quick_check(1)")
        if found != "ok":
            raise DamageError(found)
    configure(connection)
    connection.run("BEGIN IMMEDIATE")
    connection.run(f"PRAGMA user_version = {version}")  # says now if nothing can be written
    connection.run("ROLLBACK")
    if version < SCHEMA:
        _migrate(connection, path, version)
        _require(connection, NAMES)


def _require(connection: Connection, names: set[str]) -> None:
    there = {name for (name,) in connection.run("SELECT name FROM sqlite_schema")}
    if missing := sorted(names - there):
        raise DamageError(f"{missing[0]} is missing")


def _migrate(connection: Connection, path: Path, version: int) -> None:
    """Bring an older schema up to date in one transaction, after a copy was made beside it."""
    if missing := [old for old in range(version, SCHEMA) if old not in MIGRATIONS]:
        raise StateError(
            f"{path} was written by a version too old for this one (schema {version}; this one can read from"
            f" {missing[-1] + 1} to {SCHEMA}): start a version between them once, or use another state_dir"
        )
    connection.copy_to(path.with_name(f"{path.name}.v{version}"))
    sync_folder(path.parent)
    connection.run("BEGIN IMMEDIATE")
    try:
        for old in range(version, SCHEMA):
            MIGRATIONS[old](connection)
        connection.run(f"PRAGMA user_version = {SCHEMA}")
        connection.run("COMMIT")
    except BaseException:
        connection.roll_back()
        raise


def _last_aside(path: Path) -> Path | None:
    """Return the damaged database that was set aside last."""
    found = [each for each in path.parent.glob(f"{path.name}.corrupt-*") if each.suffix[9:].isdigit()]
    return max(found, key=lambda each: int(each.suffix[9:]), default=None)


def _advice(state_dir: Path, what: str, aside: Path) -> str:
    return (
        f"{FILE} in {state_dir} {what} set aside as {aside.name};"
        " to begin without it: stream-detector run --allow-empty-state"
    )
