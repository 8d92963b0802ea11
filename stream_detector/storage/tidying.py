"""Which standing records can go: those that no device row is old enough to need.

A row at position q is restored by applying the gaps and models after q. So a gap can go once all rows
are newer, and a model once all rows of its stream are newer than the model that replaced it. A gap
that a device on disk still needs can be very old: beyond `GAPS`, the oldest go all the same.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from stream_detector.core.records import Gap, ModelSet, Started
from stream_detector.storage.codec import record_from

if TYPE_CHECKING:
    from stream_detector.storage.connection import Connection

GAPS = 1000
"""So many may stand; `Stream.miss` is called for each of them when an old device comes back."""
CHUNK = 2000
"""Standing records that are looked at in one transaction, and deleted at most."""


def tidy_journal(connection: Connection, trim: int) -> None:
    """Delete standing records that nothing needs, inside a transaction.

    Args:
        connection: With a transaction open.
        trim: Later records are needed, whatever they are.
    """
    sql = "SELECT * FROM journal WHERE standing = 1 AND position <= ? ORDER BY position LIMIT ?"
    rows = connection.run(sql, (trim, CHUNK)).fetchall()
    if not rows:
        return
    oldest = _oldest_rows(connection)
    gaps: list[int] = []
    started: list[int] = []
    models: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        match record_from(row):
            case Gap():
                gaps.append(row[0])
            case ModelSet(_, stream, role):
                models[stream, role].append(row[0])
            case Started():
                started.append(row[0])
            case _:
                pass  # damaged: whoever reads the journal says so
    needed_from = min(oldest.values(), default=trim + 1)
    gone = [position for i, position in enumerate(gaps) if position <= needed_from or i < len(gaps) - GAPS]
    gone += started[:-1]
    for (stream, _), positions in models.items():
        needed_from = oldest.get(stream, trim)
        gone += [old for old, new in pairwise(positions) if new <= needed_from]
    connection.run_many("DELETE FROM journal WHERE position = ?", [(position,) for position in gone])


def tidy_layouts(connection: Connection) -> None:
    """Delete the layouts that no device has any more, inside a transaction; reads an index of all devices."""
    connection.run("DELETE FROM layouts WHERE id NOT IN (SELECT layout FROM devices)")


def _oldest_rows(connection: Connection) -> dict[str, int]:
    """Return the position of each stream's oldest row."""
    out: dict[str, int] = {}
    following = "SELECT min(stream) FROM devices WHERE stream > ?"  # DISTINCT would read the whole index
    stream = connection.one(following, ("",))
    while stream is not None:
        sql = "SELECT min(position) FROM devices WHERE stream = ? AND resident = ?"
        found = [connection.one(sql, (stream, resident)) for resident in (0, 1)]
        out[stream] = min(position for position in found if position is not None)
        stream = connection.one(following, (stream,))
    return out
