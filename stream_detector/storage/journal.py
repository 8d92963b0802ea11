"""The journal as one list, read beside a running service: the history, then the tail.

A record that is being moved is in both, or in one of them; it is read once, and never missed.
"""

from __future__ import annotations

import heapq
import sqlite3
from typing import TYPE_CHECKING, Any

from stream_detector.errors import StateError
from stream_detector.storage.codec import record_from
from stream_detector.storage.connection import Connection, open_to_read, words_of
from stream_detector.storage.schema import FILE, SCHEMA, unusable
from stream_detector.storage.segments import last_row, position_of, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream_detector.core.records import Record

READ = 200
"""Records that are fetched at once."""
_END = 2**63 - 1


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
            chunk = [] if tail is None else tail.run(wanted.sql, wanted.values(last, _END)).fetchall()
            until = chunk[-1][0] if chunk else _END
            past = _read_history(state_dir, wanted, last, until, left_out)
            for row in heapq.merge(past, chunk, key=lambda row: row[0]):
                if row[0] > last:
                    last = row[0]
                    record = record_from(row)
                    if record is None:
                        left_out(f"position {last} is damaged")
                    else:
                        yield last, record
            if not chunk:
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
        over = following is not None and position_of(following) <= after + 1
        if over or position_of(path) > until or last_row(path)[1] < wanted.since:
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
