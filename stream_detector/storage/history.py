r"""What a start does not need any more, kept for replay and training.

    state.db    journal:  ... 812 813 814 815 816 817 ...       the tail: a start needs it
                          \_______ offered ______/
    history/    000000000001-20260101T000000Z.db   000000000790-20260101T010000Z.db

A thread copies records from the tail into a segment, an SQLite file of its own, and only then lets the
store delete them: so a record is in both places for a moment, and in one of them always. Copying twice
changes nothing. Segments are dropped as whole files. The same thread takes what is in the store's log
over into its file, so that the hot thread rarely has to wait for that.
"""

from __future__ import annotations

import heapq
import re
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from stream_detector.errors import StateError
from stream_detector.storage.codec import JOURNAL, record_from
from stream_detector.storage.connection import (
    ADVICE,
    Connection,
    is_damage,
    open_to_read,
    reason_of,
    words_of,
)
from stream_detector.storage.schema import FILE, SCHEMA, sync_folder, unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream_detector.core.records import Record

FOLDER = "history"
SEGMENT_BYTES = 64 << 20
SEGMENT_US = 3_600_000_000
CHUNK = 1000
CHUNK_BYTES = 1 << 20
"""What is copied in one transaction, in records and in bytes."""
NAP_S = 0.02
"""Between two of them, so that the disk is free for the commits that somebody waits for."""
EVERY_S = 1.0
READ = 200
"""Records that a reader fetches at once."""
_END = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"\d{19}-\d{8}T\d{6}Z\.db")
_FORMAT = "%Y%m%dT%H%M%SZ"


class Historian:
    """Moves the journal's past into segments, in a thread of its own.

    Age is measured by the newest record, not by the clock on the wall: one that jumps drops nothing.

    Args:
        state_dir: Of the store.
        keep_us: Segments older than this are dropped; 0 keeps none.
        keep_bytes: Where there is more, the oldest are dropped; 0 keeps none.

    Attributes:
        problem: One sentence while something goes wrong; it is tried again.
    """

    def __init__(self, state_dir: Path, *, keep_us: int, keep_bytes: int) -> None:
        self._dir = state_dir
        self._keep_us = keep_us
        self._keep_bytes = keep_bytes
        self._keeps = keep_us > 0 and keep_bytes > 0
        self._offered = 0
        self._tail: Connection | None = None
        self._segment: _Segment | None = None
        self._broken: set[Path] = set()
        self._grown = True
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="historian", daemon=True)
        self._copied = last_in_history(state_dir)
        self.problem: str | None = None

    @property
    def moved(self) -> int:
        """Return up to which position the store may delete records."""
        return min(self._offered, self._copied) if self._keeps else self._offered

    def offer(self, position: int) -> None:
        """Say that a start needs nothing up to here."""
        self._offered = max(self._offered, position)

    def start(self) -> None:
        """Begin to move."""
        self._thread.start()

    def stop(self) -> None:
        """End within a moment; what was not moved stays in the journal."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._let_go()

    def move(self) -> None:
        """Move everything that is offered, and drop what is too old; the thread does so every second."""
        try:
            self._journal().run("PRAGMA wal_checkpoint(PASSIVE)").close()
            while self._keeps and self._copied < self._offered and not self._stopping.is_set():
                self._move_bite()
                self._stopping.wait(NAP_S)
            if self._grown:
                self._drop_old()
                self._grown = False
            self.problem = None
        except (sqlite3.Error, OSError) as error:
            if self._segment is not None and isinstance(error, sqlite3.Error) and is_damage(error):
                self._broken.add(self._segment.path)  # the next try begins another one
                self._let_go()
            self.problem = (
                f"the history in {self._dir / FOLDER} cannot be written ({words_of(error)}):"
                f" {ADVICE[reason_of(error)]}; until then the journal grows"
            )

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self.move()

    def _journal(self) -> Connection:
        if self._tail is None:
            self._tail = Connection(self._dir / FILE, "rw")
        return self._tail

    def _move_bite(self) -> None:
        sql = "SELECT * FROM journal WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        rows: list[tuple[Any, ...]] = []
        size, offered = 0, self._offered
        more = self._journal().run(sql, (self._copied, offered, CHUNK))
        while size < CHUNK_BYTES and (row := more.fetchone()):
            rows.append(row)
            size += len(row[5])
        more.close()  # or the store's log could not begin anew
        if rows:
            self._segment_for(rows[0]).append(rows)
            self._copied = rows[-1][0]
        else:
            self._copied = offered

    def _segment_for(self, row: tuple[Any, ...]) -> _Segment:
        """Return the segment that a row goes into: the last one, or a new one when that is full."""
        position, at = row[:2]
        largest = min(SEGMENT_BYTES, self._keep_bytes // 4)  # so that dropping one drops a part only
        if self._segment is None:
            last = segments(self._dir)[-1:]
            if last and last[0] not in self._broken:
                self._broken.add(last[0])  # until it turns out that it is not
                self._segment = _Segment(last[0])
                self._broken.discard(last[0])
        if self._segment is None or not self._segment.has_room(at, largest):
            if self._segment is not None:
                self._segment.close()
                self._segment = None
            self._segment = _Segment(_make(self._dir, position, at))
            self._grown = True
        return self._segment

    def _drop_old(self) -> None:
        found = segments(self._dir)
        if not found:
            return
        sizes = [path.stat().st_size for path in found]
        ages = [_last_row(path) for path in found]
        total = sum(sizes)
        for path, size, (_, at) in zip(found, sizes, ages, strict=True):
            written = self._segment is not None and path == self._segment.path
            young = ages[-1][1] - at <= self._keep_us
            if written or (self._keeps and young and total <= self._keep_bytes):
                break
            path.unlink()
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
            total -= size

    def _let_go(self) -> None:
        for each in (self._tail, self._segment):
            if each is not None:
                each.close()
        self._tail = self._segment = None


class _Segment:
    """A file of records that is being written.

    Args:
        path: Of a file that exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began_at = _time_of(path)
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
    return max((_last_row(path)[0] for path in segments(state_dir)[-2:]), default=0)


def read_journal(
    state_dir: Path,
    *,
    since: int | None = None,
    stream: str | None = None,
    left_out: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[int, Record]]:
    """Yield position and record: the history, then the tail, each once, in order; a service may be running.

    Args:
        state_dir: Of the store.
        since: Only records from this time on, service clock, µs.
        stream: Only its records, and those that concern all.
        left_out: Called with a sentence about what is damaged.

    Raises:
        StateError: There is no journal, or its tail cannot be read.
    """
    wanted = _Wanted(since, stream)
    tail = _open_tail(state_dir)
    try:
        last = 0
        while True:
            # The tail first: what is moved meanwhile is then found in the history, not in neither.
            bite = [] if tail is None else tail.run(wanted.sql, wanted.values(last, _END)).fetchall()
            until = bite[-1][0] if bite else _END
            past = _read_history(state_dir, wanted, last, until, left_out)
            for row in heapq.merge(past, bite, key=lambda row: row[0]):
                if row[0] > last:
                    last = row[0]
                    record = record_from(row)
                    if record is None:
                        left_out(f"position {last} is damaged")
                    else:
                        yield last, record
            if not bite:
                return
            last = until
    except sqlite3.Error as error:
        raise unusable(state_dir, error) from error
    finally:
        if tail is not None:
            tail.close()


class _Wanted:
    """Which records a reader wants.

    Args:
        since: Service clock, µs.
        stream: A name.
    """

    def __init__(self, since: int | None, stream: str | None) -> None:
        self.since = -_END if since is None else since
        self._stream = stream
        self.sql = "SELECT * FROM journal WHERE position > ? AND position <= ? AND at >= ?"
        if stream is not None:
            self.sql += " AND stream IN (?, '')"
        self.sql += f" ORDER BY position LIMIT {READ}"

    def values(self, after: int, until: int) -> tuple[Any, ...]:
        """Return the values for the query: positions after one, until another."""
        values = (after, until, self.since)
        return values if self._stream is None else (*values, self._stream)


def _open_tail(state_dir: Path) -> Connection | None:
    path = state_dir / FILE
    if not path.exists():
        if not segments(state_dir):
            raise StateError(
                f"there is no journal in {state_dir}; name the state_dir of a service that has run"
            )
        return None
    try:
        tail = open_to_read(path)
        version = tail.one("PRAGMA user_version")
    except (sqlite3.Error, OSError) as error:
        raise unusable(state_dir, error) from error
    if version != SCHEMA:
        tail.close()
        raise StateError(
            f"{path} has schema {version}, this version reads {SCHEMA};"
            " read it with the version that wrote it, or start the service once"
        )
    return tail


def _read_history(
    state_dir: Path, wanted: _Wanted, after: int, until: int, left_out: Callable[[str], None]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the segments after a position, until another; damaged segments are left out."""
    found = segments(state_dir)
    for path, following in zip(found, [*found[1:], None], strict=False):
        over = following is not None and _position_of(following) <= after + 1
        if over or _position_of(path) > until or _last_row(path)[1] < wanted.since:
            continue
        try:
            segment = open_to_read(path)
            try:
                while rows := segment.run(wanted.sql, wanted.values(after, until)).fetchall():
                    yield from rows
                    after = rows[-1][0]
            finally:
                segment.close()
        except (sqlite3.Error, OSError) as error:
            if path.exists():  # else it was dropped meanwhile, as too old
                left_out(f"{path} is damaged from position {after + 1} on ({words_of(error)})")


def _last_row(path: Path) -> tuple[int, int]:
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
        return _position_of(path), _time_of(path)
    return int(row[0]), int(row[1])


def _make(state_dir: Path, position: int, at: int) -> Path:
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


def _position_of(path: Path) -> int:
    return int(path.stem.split("-")[0])


def _time_of(path: Path) -> int:
    began = datetime.strptime(path.stem.split("-")[1], _FORMAT).replace(tzinfo=UTC)
    return (began - _EPOCH) // timedelta(microseconds=1)
