"""How a change is written, inside a transaction that the caller holds.

Everything is stored under a key (a position, a number, a name), so that writing a change a second time,
after a commit that had succeeded without saying so, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream_detector import failpoints
from stream_detector.core.devices.snapshot import OpenAlert, RowLayout
from stream_detector.core.records import TopicState
from stream_detector.storage import codec, facts
from stream_detector.storage.reader import LAYOUTS, REPLIES_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.core.events import AlertChanged
    from stream_detector.outputs.messages import Publication
    from stream_detector.storage.change import Change
    from stream_detector.storage.connection import Connection

TRIM = 200
"""Records that one commit deletes at most."""
REPLIES = 10_000
"""Replies that are remembered."""

_UPSERT = """INSERT INTO devices VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (stream, device) DO UPDATE SET position = excluded.position, resident = 1,
    layout = excluded.layout, cells = excluded.cells, tags = excluded.tags, tracks = excluded.tracks,
    published = excluded.published, sum = excluded.sum"""


class Writer:
    """Writes changes; what it remembers of the database holds from `committed` on.

    Args:
        connection: To the database.
        delivered: The highest number of a delivery in it.
    """

    def __init__(self, connection: Connection, delivered: int) -> None:
        self._db = connection
        self._delivered = delivered
        self._layouts: dict[RowLayout, int] = {}
        self._new_layouts: dict[RowLayout, int] = {}

    def write(self, change: Change, unreadable: Sequence[int] = ()) -> None:
        """Write a change.

        Args:
            change: Anything.
            unreadable: Numbers of messages in the outbox that cannot be read, and go.
        """
        self._new_layouts = {}  # those of a change that failed were not written
        run_many = self._db.run_many
        if change.records:
            self._note_records(change)
        if change.outbox:
            rows = [message_row(number, message, at) for number, message, at in change.outbox]
            run_many("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        if change.deliveries:
            self._note_deliveries(change)
        if change.replies:
            self._note_replies(change)
        for event in change.alerts:
            self._note_alert(event)
        if change.forgotten:
            run_many("DELETE FROM devices WHERE stream = ? AND device = ?", change.forgotten)
        self._write_rows(change)
        for key, value in change.facts.items():
            facts.write(self._db, key, value)
        if change.confirmed or unreadable:
            failpoints.reach("before outbox deletion")
            numbers = [(number,) for number in (*change.confirmed, *unreadable)]
            run_many("DELETE FROM outbox WHERE number = ?", numbers)

    def committed(self, change: Change) -> None:
        """Know that a change is in the database."""
        if len(self._layouts) > LAYOUTS:
            self._layouts.clear()
        self._layouts |= self._new_layouts
        self._new_layouts = {}
        self._delivered += len(change.deliveries)

    def _note_records(self, change: Change) -> None:
        rows = [codec.record_row(position, record) for position, record in change.records]
        self._db.run_many("INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        for position, record in change.records:
            if isinstance(record, TopicState):
                self._note_topic_state(position, record)

    def _note_topic_state(self, position: int, state: TopicState) -> None:
        key = state.stream, state.topic
        if not state.content:
            self._db.run("DELETE FROM topic_states WHERE stream = ? AND topic = ?", key)
            return
        values = (*key, position, state.at, state.content)
        sql = "INSERT OR REPLACE INTO topic_states VALUES (?, ?, ?, ?, ?, ?)"
        self._db.run(sql, (*values, codec.checksum(*values)))

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
        if event.event == "ack":  # which says nothing new of the device
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
            channels=event.channels,
        )
        sql = "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._db.run(sql, codec.alert_values(alert))

    def _write_rows(self, change: Change) -> None:
        for i, (position, stream, state) in enumerate(change.rows):
            tags, tracks, published = codec.encode_extras(state)
            layout = self._layout(state.layout)
            values = (stream, state.device, position, layout, state.row, tags, tracks, published)
            self._db.run(_UPSERT, (*values, codec.checksum(*values)))
            if i == 0:
                failpoints.reach("during checkpoint")
        if change.evicted:
            sql = "UPDATE devices SET resident = 0 WHERE stream = ? AND device = ?"
            self._db.run_many(sql, change.evicted)

    def _layout(self, layout: RowLayout) -> int:
        """Return a layout's id; one that is not known to be on disk is written along with this change."""
        found = self._layouts.get(layout) or self._new_layouts.get(layout)
        if found is None:
            found, content = codec.encode_layout(layout)
            self._db.run("INSERT OR IGNORE INTO layouts VALUES (?, ?)", (found, content))
            self._new_layouts[layout] = found
        return found

    def trim(self, done: int, up_to: int) -> int:
        """Delete some of the records that are not needed any more.

        Args:
            done: Up to where that is done.
            up_to: Up to where it may be done; standing records stay.

        Returns:
            Up to where it is done now.
        """
        if done >= up_to:
            return done
        sql = "SELECT position FROM journal WHERE position > ? AND position <= ? AND standing = 0"
        sql += " ORDER BY position LIMIT ?"
        found = self._db.run(sql, (done, up_to, TRIM)).fetchall()
        if found:
            self._db.run_many("DELETE FROM journal WHERE position = ?", found)
        return int(found[-1][0]) if len(found) == TRIM else up_to


def message_row(number: int, message: Publication, at: int) -> tuple[Any, ...]:
    """Return a message as a row of the outbox, checksum included."""
    values = (number, message.target, message.topic, message.payload, int(message.retain), at)
    return *values, codec.checksum(*values)
