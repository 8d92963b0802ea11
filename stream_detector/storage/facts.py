"""Small facts: one value by name, each with its checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.storage.codec import checksum

if TYPE_CHECKING:
    from stream_detector.storage.connection import Connection

HEAD = ".head"
"""The last position, the last number, the newest service clock, and how far the journal may be trimmed."""
CLOSED = ".closed"
"""``yes`` after an orderly end, as long as nothing was written since."""


def read(connection: Connection, key: str) -> str | None:
    """Return a fact; None where it was never written, or is damaged."""
    row = connection.run("SELECT value, sum FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None or row[1] != checksum(key, row[0]):
        return None
    return str(row[0])


def write(connection: Connection, key: str, value: str) -> None:
    """Write a fact, inside a transaction."""
    connection.run("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, checksum(key, value)))
