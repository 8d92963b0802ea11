"""How to get from one schema of `state.db` to the next; each inside a transaction that the caller holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.storage.codec import checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.storage.connection import Connection

TOPIC_STATES = """CREATE TABLE topic_states (
    stream TEXT NOT NULL, topic TEXT NOT NULL, position INTEGER NOT NULL, at INTEGER NOT NULL,
    content BLOB NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (stream, topic))"""
"""The newest state of each topic: its record in the journal is trimmed like any other."""


def acknowledgements(connection: Connection) -> None:
    """1 -> 2: alerts know whether they are acknowledged, and answered commands are remembered."""
    rows = connection.run("SELECT * FROM alerts").fetchall()
    connection.run("DROP TABLE alerts")
    connection.run(
        """CREATE TABLE alerts (
            stream TEXT NOT NULL, device TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
            seq INTEGER NOT NULL, started_at INTEGER NOT NULL, severity TEXT NOT NULL, peak REAL NOT NULL,
            told_at INTEGER NOT NULL, acknowledged INTEGER NOT NULL, sum INTEGER NOT NULL,
            PRIMARY KEY (stream, device, kind)) WITHOUT ROWID"""
    )
    connection.run_many(
        "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        # What was damaged stays so.
        [(*old, 0, checksum(*old, 0) if total == checksum(*old) else -1) for *old, total in rows],
    )
    connection.run(
        """CREATE TABLE replies (
            number INTEGER PRIMARY KEY, command TEXT NOT NULL, said TEXT NOT NULL, at INTEGER NOT NULL,
            reply BLOB NOT NULL, sum INTEGER NOT NULL)"""
    )
    connection.run("CREATE UNIQUE INDEX replied ON replies (command, said)")


def targets_and_topic_states(connection: Connection) -> None:
    """2 -> 3: the outbox names targets, states of topics have a table, two columns have the field's words."""
    rows = connection.run("SELECT * FROM outbox").fetchall()
    connection.run("DROP TABLE outbox")
    connection.run(
        """CREATE TABLE outbox (
            number INTEGER PRIMARY KEY, target TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
            retain INTEGER NOT NULL, at INTEGER NOT NULL, sum INTEGER NOT NULL)"""
    )
    connection.run_many(
        "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)",
        # What was damaged stays so.
        [
            (number, "mqtt", *old, checksum(number, "mqtt", *old) if total == checksum(number, *old) else -1)
            for number, *old, total in rows
        ],
    )
    connection.run(TOPIC_STATES)
    connection.run("ALTER TABLE alerts RENAME COLUMN told_at TO published_at")
    connection.run("ALTER TABLE devices RENAME COLUMN told TO published")


def channels_of_alerts(connection: Connection) -> None:
    """3 -> 4: alerts know the channels that hold them; none are known of those that are open."""
    rows = connection.run("SELECT * FROM alerts").fetchall()
    connection.run("DROP TABLE alerts")
    connection.run(
        """CREATE TABLE alerts (
            stream TEXT NOT NULL, device TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
            seq INTEGER NOT NULL, started_at INTEGER NOT NULL, severity TEXT NOT NULL, peak REAL NOT NULL,
            published_at INTEGER NOT NULL, acknowledged INTEGER NOT NULL, channels TEXT NOT NULL,
            sum INTEGER NOT NULL, PRIMARY KEY (stream, device, kind)) WITHOUT ROWID"""
    )
    connection.run_many(
        "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        # What was damaged stays so.
        [(*old, "[]", checksum(*old, "[]") if total == checksum(*old) else -1) for *old, total in rows],
    )


MIGRATIONS: dict[int, Callable[[Connection], None]] = {
    1: acknowledgements,
    2: targets_and_topic_states,
    3: channels_of_alerts,
}
"""By the number of the older schema."""
