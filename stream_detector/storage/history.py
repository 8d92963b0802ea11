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

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from stream_detector.storage.connection import ADVICE, Connection, is_damage, reason_of, words_of
from stream_detector.storage.schema import FILE
from stream_detector.storage.segments import (
    FOLDER,
    Segment,
    last_in_history,
    last_row,
    make_segment,
    segments,
)

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT_BYTES = 64 << 20
CHUNK = 1000
CHUNK_BYTES = 1 << 20
"""What is copied in one transaction, in records and in bytes."""
NAP_S = 0.02
"""Between two of them, so that the disk is free for the commits that somebody waits for."""
EVERY_S = 1.0


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
        self._segment: Segment | None = None
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
                self._move_chunk()
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

    def _move_chunk(self) -> None:
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

    def _segment_for(self, row: tuple[Any, ...]) -> Segment:
        """Return the segment that a row goes into: the last one, or a new one when that is full."""
        position, at = row[:2]
        largest = min(SEGMENT_BYTES, self._keep_bytes // 4)  # so that dropping one drops a part only
        if self._segment is None:
            last = segments(self._dir)[-1:]
            if last and last[0] not in self._broken:
                self._broken.add(last[0])  # until it turns out that it is not
                self._segment = Segment(last[0])
                self._broken.discard(last[0])
        if self._segment is None or not self._segment.has_room(at, largest):
            if self._segment is not None:
                self._segment.close()
                self._segment = None
            self._segment = Segment(make_segment(self._dir, position, at))
            self._grown = True
        return self._segment

    def _drop_old(self) -> None:
        found = segments(self._dir)
        if not found:
            return
        sizes = [path.stat().st_size for path in found]
        ages = [last_row(path) for path in found]
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
