"""A process's hold on its state_dir: what it keeps over its end, in one transaction a decision.

A commit may be tried again after it failed, even if it had succeeded in truth. What is read is described
in `reader`, how a change is written in `writer`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from stream_detector import failpoints
from stream_detector.storage import facts, schema, tidying
from stream_detector.storage.change import Head
from stream_detector.storage.reader import Reader
from stream_detector.storage.segments import FOLDER, last_in_history
from stream_detector.storage.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.storage.change import Change

TIDY_EVERY = 1000
"""Commits between two looks at the standing records."""
LEAP = 1 << 32
"""Where the last position is damaged, it goes on so far above the highest that is known."""

_HIGHEST_POSITIONS = ("SELECT max(position) FROM journal", "SELECT max(position) FROM devices")


class Store(Reader):
    """One process's hold on a state_dir; used by one thread at a time.

    Args:
        state_dir: Made where it does not exist.
        allow_empty: Begin with nothing where what was kept is damaged.

    Raises:
        StateError: Another process holds it; or it is damaged, of another version, or not to be used.
    """

    def __init__(self, state_dir: Path, *, allow_empty: bool = False) -> None:
        self._lock = schema.lock(state_dir)
        try:
            super().__init__(state_dir, schema.open_database(state_dir, allow_empty=allow_empty))
        except BaseException:
            os.close(self._lock)
            raise
        self._synchronous = "FULL"
        self._marked_open = False
        self._commits = 0
        self._trimmed = 0
        self._measured = (0.0, 0)
        try:
            with self._reading():
                self._head = self._find_head()
                delivered = self._db.one("SELECT max(number) FROM deliveries") or 0
            self._writer = Writer(self._db, delivered)
        except BaseException:
            self.close()
            raise

    @property
    def last_position(self) -> int:
        """Return the position of the last record that was ever journalled, 0 before the first."""
        return self._head.position

    @property
    def last_number(self) -> int:
        """Return the number of the last message that was ever put into the outbox, 0 before the first."""
        return self._head.number

    @property
    def alive_at(self) -> int:
        """Return the newest service clock that was committed, µs; 0: none was."""
        return self._head.alive_at

    @property
    def journal_bytes(self) -> int:
        """Return the size of all that is kept, the history too; measured at most once a second."""
        at, size = self._measured
        if time.monotonic() - at >= 1.0:
            size = 0
            for folder in (self._dir, self._dir / FOLDER):
                with suppress(OSError), os.scandir(folder) as files:
                    size += sum(each.stat().st_size for each in files if ".db" in each.name)
            self._measured = time.monotonic(), size
        return size

    def commit(self, change: Change, *, sync: bool = True) -> None:
        """Write a change in one transaction: all of it or nothing.

        Args:
            change: Anything; after a failure the same one may be committed again.
            sync: Wait until it is on the disk. Otherwise a power cut (not the end of the process) may
                undo it, until the next commit that waits.

        Raises:
            StorageError: Nothing was written, or (rarely) it is not known whether it was.
        """
        head = self._head.after(change)
        try:
            self._db.roll_back()  # of a commit whose rollback failed, too
            self._be_synchronous("FULL" if sync else "NORMAL")
            self._db.run("BEGIN IMMEDIATE")
            self._writer.write(change, self._unreadable)
            if not self._marked_open:
                facts.write(self._db, facts.CLOSED, "no")
            facts.write(self._db, facts.HEAD, f"{head.position} {head.number} {head.alive_at} {head.trim}")
            trimmed = self._writer.trim(self._trimmed, head.trim)
            if self._commits % TIDY_EVERY == 0:
                tidying.tidy_journal(self._db, head.trim)
            if self._commits == 0:
                tidying.tidy_layouts(self._db)
            failpoints.reach("in the transaction")
            self._db.run("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._db.roll_back()
            raise self._failure(error) from error
        except BaseException:
            self._db.roll_back()
            raise
        self._head, self._trimmed = head, trimmed
        self._writer.committed(change)
        self._marked_open = True
        self._unreadable.clear()
        self._commits += 1

    def close(self) -> None:
        """Write everything into the one file, note the orderly end, and let others in."""
        with suppress(sqlite3.Error, OSError):
            self._db.roll_back()
            if self._marked_open and not self._suspect:
                self._be_synchronous("FULL")
                self._db.run("BEGIN IMMEDIATE")
                facts.write(self._db, facts.CLOSED, "yes")
                self._db.run("COMMIT")
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _be_synchronous(self, how: str) -> None:
        if self._synchronous != how:  # which has no effect inside a transaction
            self._db.run(f"PRAGMA synchronous = {how}")
            self._synchronous = how

    def _find_head(self) -> Head:
        """Return where to go on; never at a position that the history has already."""
        found = facts.read(self._db, facts.HEAD)
        past = last_in_history(self._dir)
        if found is not None:
            position, number, alive_at, trim = map(int, found.split())
            return Head(max(position, past), number, alive_at, trim)
        if not self._db.one("SELECT count(*) FROM meta WHERE key = ?", (facts.HEAD,)):
            return Head(past)
        self._leave_out("", "last position")
        highest = max(past, *(self._db.one(sql) or 0 for sql in _HIGHEST_POSITIONS))
        return Head(highest + LEAP, (self._db.one("SELECT max(number) FROM outbox") or 0) + LEAP)
