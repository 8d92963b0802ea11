"""What stands in `state.db`, read back: the journal's tail, device rows, open alerts, the outbox.

Each row has a checksum of its own beside SQLite's, so what a broken disk does to one row costs that row
only: it is left out, and its name is noted.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stream_detector.core.records import TopicState
from stream_detector.errors import StorageError
from stream_detector.outputs.messages import Publication
from stream_detector.storage import codec, facts, schema
from stream_detector.storage.change import Waiting
from stream_detector.storage.connection import ADVICE, is_damage, reason_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.core.devices.snapshot import DeviceState, OpenAlert, RowLayout
    from stream_detector.core.records import Record
    from stream_detector.storage.connection import Connection

CHUNK = 256
"""Rows that are read at once."""
LAYOUTS = 4096
"""Layouts that are remembered; there are few, unless devices invent channels."""
REPLIES_US = 86_400_000_000
"""How long replies are remembered, µs."""


class Reader:
    """Reads a database; used by one thread at a time.

    Args:
        state_dir: Where it stands.
        connection: To the database, after all checks.

    Attributes:
        damaged: What was left out while reading: stream and device, or ``""`` and ``position 17``.
    """

    def __init__(self, state_dir: Path, connection: Connection) -> None:
        self._dir = state_dir
        self._db = connection
        self.damaged: list[tuple[str, str]] = []
        self._layouts_read: dict[int, RowLayout | None] = {}
        self._suspect = False
        self._unreadable: list[int] = []

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yield the journal's tail: position and record, in order."""
        sql = "SELECT * FROM journal WHERE position > ? ORDER BY position LIMIT ?"
        with self._reading():
            for row in self._db.chunks(sql, -1, CHUNK):
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

        What is written between two chunks comes where its turn is still to come.
        """
        sql = "SELECT device FROM devices WHERE stream = ? AND device > ? ORDER BY device LIMIT ?"
        last = ""
        while True:
            with self._reading():
                found = [device for (device,) in self._db.run(sql, (stream, last, CHUNK))]
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
        """Return the alerts that are open, as they were last published."""
        found = []
        with self._reading():
            for row in self._db.run("SELECT * FROM alerts"):
                alert = codec.alert_from(row)
                if alert is None:
                    self._leave_out(str(row[0]), str(row[1]))
                else:
                    found.append(alert)
        return found

    def topic_states(self) -> list[TopicState]:
        """Return the newest state of each topic, in the order in which they came."""
        found = []
        with self._reading():
            for *values, total in self._db.run("SELECT * FROM topic_states ORDER BY position"):
                stream, topic, _, at, content = values
                if total == codec.checksum(*values):
                    found.append(TopicState(at, stream, topic, content))
                else:
                    self._leave_out(str(stream), f"state of topic {topic}")
        return found

    def outbox(self) -> list[Waiting]:
        """Return the messages that the broker has not confirmed, in order."""
        found = []
        with self._reading():
            for number, *values, total in self._db.run("SELECT * FROM outbox ORDER BY number"):
                target, topic, payload, retain, at = values
                if total == codec.checksum(number, *values):
                    publication = Publication(topic, payload, 1, bool(retain), target=target)
                    found.append(Waiting(number, publication, at))
                else:
                    self._leave_out("", f"message {number}")
                    self._unreadable.append(number)
        return found

    def deliveries(self) -> list[tuple[int, int]]:
        """Return packet ids and digests, the oldest first."""
        with self._reading():
            return self._db.run("SELECT packet, digest FROM deliveries ORDER BY number").fetchall()

    def reply(self, command: str, key: str, now: int) -> bytes | None:
        """Return what a command was answered; None where it never was, or too long ago.

        Args:
            command: Its name.
            key: What tells its request from others.
            now: Service clock, µs.
        """
        sql = "SELECT at, reply, sum FROM replies WHERE command = ? AND said = ? AND at >= ?"
        with self._reading():
            found = self._db.run(sql, (command, key, now - REPLIES_US)).fetchone()
        if found is None or found[2] != codec.checksum(command, key, *found[:2]):
            return None
        return bytes(found[1])

    def get(self, key: str) -> str | None:
        """Return a small fact; None where it was never written, or is damaged."""
        with self._reading():
            return facts.read(self._db, key)

    def _failure(self, error: sqlite3.Error | OSError) -> StorageError:
        reason, advice = reason_of(error), ADVICE[reason_of(error)]
        if isinstance(error, sqlite3.Error) and is_damage(error):
            self._suspect = True
            advice = "start the service anew, which checks all of it"
        return StorageError(
            f"state_dir {self._dir} cannot be used now ({words_of(error)}): {advice}", reason=reason
        )

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
