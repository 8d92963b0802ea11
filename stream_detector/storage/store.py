"""What a process keeps over its end: one transaction for everything that was decided together.

A commit may be tried again after it failed, even if it had succeeded in truth: everything is stored
under a key (a position, a number, a name), so the second time changes nothing. Each row has a
checksum of its own, so that what a broken disk does to one row costs that row only.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stream_detector import failpoints
from stream_detector.core.devices.snapshot import DeviceState, OpenAlert, RowLayout
from stream_detector.errors import StorageError
from stream_detector.outputs.messages import Publication
from stream_detector.storage import codec, facts, schema, tidying
from stream_detector.storage.connection import ADVICE, is_damage, reason_of, words_of
from stream_detector.storage.history import FOLDER, last_in_history

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.core.events import AlertChanged
    from stream_detector.core.records import Record

BITE = 256
"""Rows that are read at once."""
TRIM = 200
"""Records that one commit deletes at most."""
TIDY_EVERY = 1000
"""Commits between two looks at the standing records."""
LAYOUTS = 4096
"""Layouts that are remembered; there are few, unless devices invent channels."""
REPLIES, REPLIES_US = 10_000, 86_400_000_000
"""Replies that are remembered, and for how long (µs)."""
LEAP = 1 << 32
"""Where the last position is damaged, it goes on so far above the highest that is known."""


_HIGHEST_POSITIONS = ("SELECT max(position) FROM journal", "SELECT max(position) FROM devices")
_UPSERT = """INSERT INTO devices VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (stream, device) DO UPDATE SET position = excluded.position, resident = 1,
    layout = excluded.layout, cells = excluded.cells, tags = excluded.tags, tracks = excluded.tracks,
    told = excluded.told, sum = excluded.sum"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the outbox: the broker has not confirmed it.

    Attributes:
        number: In the order of publication.
        publication: At QoS 1.
        at: Service clock when it was put in, µs.
    """

    number: int
    publication: Publication
    at: int


@dataclass(slots=True)
class Change:
    """Everything that one transaction writes.

    Attributes:
        records: Position and record, for the journal.
        outbox: Number, message at QoS 1 and service clock (µs).
        confirmed: Numbers of messages that the outbox may forget.
        alerts: What was told of alerts; those that are open afterwards are kept.
        rows: Position, stream and state of devices; they count as resident.
        evicted: Stream and name of devices that are only on disk from now on; applied after `rows`.
        deliveries: Packet id and digest of messages without time and number.
        keep_deliveries: How many of those are kept.
        replies: Command, what tells its request from others, service clock (µs) and the reply.
        forgotten: Stream and name of devices whose rows go; applied before `rows`.
        facts: Small facts by name.
        trim: Records up to this position may be deleted but for the standing ones; it holds from then on.
        alive_at: Service clock, µs.
    """

    records: list[tuple[int, Record]] = field(default_factory=list)
    outbox: list[tuple[int, Publication, int]] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)
    alerts: list[AlertChanged] = field(default_factory=list)
    rows: list[tuple[int, str, DeviceState]] = field(default_factory=list)
    evicted: list[tuple[str, str]] = field(default_factory=list)
    deliveries: list[tuple[int, int]] = field(default_factory=list)
    keep_deliveries: int = 4096
    replies: list[tuple[str, str, int, bytes]] = field(default_factory=list)
    forgotten: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    trim: int = 0
    alive_at: int = 0

    def __bool__(self) -> bool:
        """Return whether there is anything to write; the clock alone is nothing."""
        return bool(
            self.records
            or self.outbox
            or self.confirmed
            or self.alerts
            or self.rows
            or self.evicted
            or self.deliveries
            or self.replies
            or self.forgotten
            or self.facts
            or self.trim
        )


@dataclass(frozen=True, slots=True)
class Head:
    """How far everything has come: one row, written with each commit."""

    position: int = 0
    number: int = 0
    alive_at: int = 0
    trim: int = 0

    def after(self, change: Change) -> Head:
        """Return it as it is after a change."""
        return Head(
            max(self.position, max((position for position, _ in change.records), default=0)),
            max(self.number, max((number for number, _, _ in change.outbox), default=0)),
            max(self.alive_at, change.alive_at),
            max(self.trim, change.trim),
        )


class Store:
    """One process's hold on a state_dir; used by one thread at a time.

    Args:
        state_dir: Made where it does not exist.
        allow_empty: Begin with nothing where what was kept is damaged.

    Attributes:
        damaged: What was left out while reading: stream and device, or ``""`` and ``position 17``.

    Raises:
        StateError: Another process holds it; or it is damaged, of another version, or not to be used.
    """

    def __init__(self, state_dir: Path, *, allow_empty: bool = False) -> None:
        self._dir = state_dir
        self._lock = schema.lock(state_dir)
        try:
            self._db = schema.open_database(state_dir, allow_empty=allow_empty)
        except BaseException:
            os.close(self._lock)
            raise
        self.damaged: list[tuple[str, str]] = []
        self._layouts: dict[RowLayout, int] = {}
        self._layouts_read: dict[int, RowLayout | None] = {}
        self._synchronous = "FULL"
        self._marked_open = False
        self._suspect = False
        self._unreadable: list[int] = []
        self._commits = 0
        self._trimmed = 0
        self._measured = (0.0, 0)
        try:
            with self._reading():
                self._head = self._find_head()
                self._delivered = self._db.one("SELECT max(number) FROM deliveries") or 0
        except BaseException:
            self.close()
            raise

    # -- what was found ---------------------------------------------------------------------------

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

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yield the journal's tail: position and record, in order."""
        sql = "SELECT * FROM journal WHERE position > ? ORDER BY position LIMIT ?"
        with self._reading():
            for row in self._db.bites(sql, -1, BITE):
                record = codec.record_from(row)
                if record is None:
                    self._leave_out("", f"position {row[0]}")
                else:
                    yield row[0], record

    def rows(self) -> Iterator[tuple[int, str, DeviceState]]:
        """Yield position, stream and state of the resident devices, in order of position."""
        with self._reading():
            sql = "SELECT rowid FROM devices WHERE resident = 1 ORDER BY position"
            for (rowid,) in self._db.run(sql).fetchall():
                found = self._state("SELECT * FROM devices WHERE rowid = ?", (rowid,))
                if found is not None:
                    yield found

    def row(self, stream: str, device: str) -> tuple[int, DeviceState] | None:
        """Return position and state of a device, resident or not; None: there is no row of it."""
        with self._reading():
            sql = "SELECT * FROM devices WHERE stream = ? AND device = ?"
            found = self._state(sql, (stream, device))
        return None if found is None else (found[0], found[2])

    def row_positions(self) -> dict[tuple[str, str], int]:
        """Return the positions of the resident devices' rows, by stream and device."""
        with self._reading():
            rows = self._db.run("SELECT stream, device, position FROM devices WHERE resident = 1")
            return {(stream, device): position for stream, device, position in rows}

    def names(self, stream: str) -> Iterator[list[str]]:
        """Yield the names of the devices of a stream that have a row, some at a time, in their order.

        What is written between two bites is met where its turn is still to come.
        """
        sql = "SELECT device FROM devices WHERE stream = ? AND device > ? ORDER BY device LIMIT ?"
        last = ""
        while True:
            with self._reading():
                found = [device for (device,) in self._db.run(sql, (stream, last, BITE))]
            if not found:
                return
            yield found
            last = found[-1]

    def stored_devices(self, stream: str) -> int:
        """Return how many devices of a stream have a row."""
        with self._reading():
            return int(self._db.one("SELECT count(*) FROM devices WHERE stream = ?", (stream,)))

    def evicted_devices(self, stream: str) -> int:
        """Return how many devices of a stream are only on disk."""
        sql = "SELECT count(*) FROM devices WHERE stream = ? AND resident = 0"
        with self._reading():
            return int(self._db.one(sql, (stream,)))

    def open_alerts(self) -> list[OpenAlert]:
        """Return the alerts that are open, as they were last told."""
        found = []
        with self._reading():
            for row in self._db.run("SELECT * FROM alerts"):
                alert = codec.alert_from(row)
                if alert is None:
                    self._leave_out(str(row[0]), str(row[1]))
                else:
                    found.append(alert)
        return found

    def outbox(self) -> list[Waiting]:
        """Return the messages that the broker has not confirmed, in order."""
        found = []
        with self._reading():
            for number, *values, total in self._db.run("SELECT * FROM outbox ORDER BY number"):
                topic, payload, retain, at = values
                if total == codec.checksum(number, *values):
                    found.append(Waiting(number, Publication(topic, payload, 1, bool(retain)), at))
                else:
                    self._leave_out("", f"message {number}")
                    self._unreadable.append(number)
        return found

    def deliveries(self) -> list[tuple[int, int]]:
        """Return packet ids and digests, the oldest first."""
        with self._reading():
            return self._db.run("SELECT packet, digest FROM deliveries ORDER BY number").fetchall()

    def reply(self, command: str, said: str, now: int) -> bytes | None:
        """Return what a command was answered; None where it never was, or too long ago.

        Args:
            command: Its name.
            said: What the request said that tells it from others.
            now: Service clock, µs.
        """
        sql = "SELECT at, reply, sum FROM replies WHERE command = ? AND said = ? AND at >= ?"
        with self._reading():
            found = self._db.run(sql, (command, said, now - REPLIES_US)).fetchone()
        if found is None or found[2] != codec.checksum(command, said, *found[:2]):
            return None
        return bytes(found[1])

    def get(self, key: str) -> str | None:
        """Return a small fact; None where it was never written, or is damaged."""
        with self._reading():
            return facts.read(self._db, key)

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

    # -- what is written --------------------------------------------------------------------------

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
        layouts: dict[RowLayout, int] = {}
        try:
            self._db.roll_back()  # of a commit whose rollback failed, too
            self._be_synchronous("FULL" if sync else "NORMAL")
            self._db.run("BEGIN IMMEDIATE")
            self._write(change, layouts)
            if not self._marked_open:
                facts.write(self._db, facts.CLOSED, "no")
            facts.write(self._db, facts.HEAD, f"{head.position} {head.number} {head.alive_at} {head.trim}")
            trimmed = self._trim(head.trim)
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
        if len(self._layouts) > LAYOUTS:
            self._layouts.clear()
        self._layouts |= layouts
        self._marked_open = True
        self._unreadable.clear()
        self._delivered += len(change.deliveries)
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

    def _write(self, change: Change, layouts: dict[RowLayout, int]) -> None:
        run_many = self._db.run_many
        if change.records:
            rows = [codec.record_row(position, record) for position, record in change.records]
            run_many("INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        if change.outbox:
            rows = [_message_row(number, message, at) for number, message, at in change.outbox]
            run_many("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?, ?)", rows)
        if change.deliveries:
            self._note_deliveries(change)
        if change.replies:
            self._note_replies(change)
        for event in change.alerts:
            self._note_alert(event)
        if change.forgotten:
            run_many("DELETE FROM devices WHERE stream = ? AND device = ?", change.forgotten)
        self._write_rows(change, layouts)
        for key, value in change.facts.items():
            facts.write(self._db, key, value)
        if change.confirmed or self._unreadable:
            failpoints.reach("before outbox deletion")
            numbers = [(number,) for number in (*change.confirmed, *self._unreadable)]
            run_many("DELETE FROM outbox WHERE number = ?", numbers)

    def _note_deliveries(self, change: Change) -> None:
        first = self._delivered + 1
        rows = [(packet, first + i, digest) for i, (packet, digest) in enumerate(change.deliveries)]
        self._db.run_many("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?)", rows)
        oldest = self._delivered + len(rows) - change.keep_deliveries
        self._db.run("DELETE FROM deliveries WHERE number <= ?", (oldest,))

    def _note_replies(self, change: Change) -> None:
        rows = [(*reply, codec.checksum(*reply)) for reply in change.replies]
        self._db.run_many(
            "INSERT OR REPLACE INTO replies (command, said, at, reply, sum) VALUES (?, ?, ?, ?, ?)", rows
        )
        # They are numbered as they come: so the first that is young enough says how many are not, without
        # a look at all of them, and the highest number how many there can be.
        sql = "SELECT number FROM replies WHERE at >= ? ORDER BY number LIMIT 1"
        young = self._db.one(sql, (change.alive_at - REPLIES_US,))
        if young is not None:
            self._db.run("DELETE FROM replies WHERE number < ?", (young,))
        sql = "DELETE FROM replies WHERE number <= (SELECT max(number) FROM replies) - ?"
        self._db.run(sql, (REPLIES,))

    def _note_alert(self, event: AlertChanged) -> None:
        key = event.stream, event.device, event.kind
        if event.event == "clear":
            self._db.run("DELETE FROM alerts WHERE stream = ? AND device = ? AND kind = ?", key)
            return
        published_at = event.updated_at
        if event.event == "ack":  # which tells nothing new of the device
            sql = "SELECT published_at FROM alerts WHERE stream = ? AND device = ? AND kind = ?"
            published_at = self._db.one(sql, key) or published_at
        alert = OpenAlert(
            stream=event.stream,
            device=event.device,
            kind=event.kind,
            id=event.id,
            seq=event.seq,
            started_at=event.started_at,
            severity=event.severity,
            peak=float(event.peak_score),
            published_at=published_at,
            acknowledged=event.acknowledged,
        )
        sql = "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._db.run(sql, codec.alert_values(alert))

    def _write_rows(self, change: Change, layouts: dict[RowLayout, int]) -> None:
        for i, (position, stream, state) in enumerate(change.rows):
            tags, tracks, told = codec.encode_extras(state)
            layout = self._layout(state.layout, layouts)
            values = (stream, state.device, position, layout, state.row, tags, tracks, told)
            self._db.run(_UPSERT, (*values, codec.checksum(*values)))
            if i == 0:
                failpoints.reach("during checkpoint")
        if change.evicted:
            sql = "UPDATE devices SET resident = 0 WHERE stream = ? AND device = ?"
            self._db.run_many(sql, change.evicted)

    def _layout(self, layout: RowLayout, fresh: dict[RowLayout, int]) -> int:
        """Return a layout's id; one that is not known to be on disk is written along with this change."""
        found = self._layouts.get(layout) or fresh.get(layout)
        if found is None:
            found, content = codec.encode_layout(layout)
            self._db.run("INSERT OR IGNORE INTO layouts VALUES (?, ?)", (found, content))
            fresh[layout] = found
        return found

    def _trim(self, up_to: int) -> int:
        """Delete some of the records that are not needed any more; return up to where that is done."""
        if self._trimmed >= up_to:
            return self._trimmed
        sql = "SELECT position FROM journal WHERE position > ? AND position <= ? AND standing = 0"
        sql += " ORDER BY position LIMIT ?"
        found = self._db.run(sql, (self._trimmed, up_to, TRIM)).fetchall()
        if found:
            self._db.run_many("DELETE FROM journal WHERE position = ?", found)
        return int(found[-1][0]) if len(found) == TRIM else up_to

    def _be_synchronous(self, how: str) -> None:
        if self._synchronous != how:  # which has no effect inside a transaction
            self._db.run(f"PRAGMA synchronous = {how}")
            self._synchronous = how

    def _failure(self, error: sqlite3.Error | OSError) -> StorageError:
        reason, advice = reason_of(error), ADVICE[reason_of(error)]
        if isinstance(error, sqlite3.Error) and is_damage(error):
            self._suspect = True
            advice = "start the service anew, which checks all of it"
        return StorageError(
            f"state_dir {self._dir} cannot be used now ({words_of(error)}): {advice}", reason=reason
        )

    # -- helpers ----------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn errors of SQLite into ours; a database that turns out to be broken is set aside."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                self._suspect = True
                self._db.close()
                raise schema.set_aside(self._dir, str(error)) from error
            raise self._failure(error) from error

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

    def _state(self, sql: str, key: tuple[Any, ...]) -> tuple[int, str, DeviceState] | None:
        found = self._db.run(sql, key).fetchone()
        if found is None:
            return None
        stream, device, position, _, layout_id, *content, total = found
        layout = self._read_layout(layout_id)
        if layout is None or total != codec.checksum(stream, device, position, layout_id, *content):
            self._leave_out(stream, device)
            return None
        return position, stream, codec.decode_state(device, layout, *content)

    def _read_layout(self, layout_id: int) -> RowLayout | None:
        """Return a layout from disk, the same object for all devices that share it; None: it is damaged."""
        if layout_id not in self._layouts_read:
            if len(self._layouts_read) > LAYOUTS:
                self._layouts_read.clear()
            content = self._db.one("SELECT content FROM layouts WHERE id = ?", (layout_id,))
            whole = content is not None and codec.layout_id(content) == layout_id
            self._layouts_read[layout_id] = codec.decode_layout(content) if whole else None
        return self._layouts_read[layout_id]

    def _leave_out(self, *what: str) -> None:
        if what not in self.damaged:
            self.damaged.append((what[0], what[1]))


def _message_row(number: int, message: Publication, at: int) -> tuple[Any, ...]:
    values = (number, message.topic, message.payload, int(message.retain), at)
    return *values, codec.checksum(*values)
