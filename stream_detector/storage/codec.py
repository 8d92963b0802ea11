"""Records and device states <-> bytes, as they stand in the database.

The layout of these bytes is part of the schema: a change that old files do not fit needs a migration.
A value that is the same for a whole batch (mostly the arrival, the shape and the place in a list) is
stored once: that halves what is to be synced to disk.
"""

from __future__ import annotations

import json
import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stream_detector.core.alerts.track import DEVICE, Alert, Count, Holder, Seen, Track
from stream_detector.core.devices.snapshot import Cell, DeviceState, OpenAlert, RowLayout
from stream_detector.core.records import RECORDS, STANDING, Readings, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

JOURNAL = """(position INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, stream TEXT NOT NULL,
    standing INTEGER NOT NULL, content BLOB NOT NULL, sum INTEGER NOT NULL)"""
"""The columns of a journal; `at` is the service clock, µs."""
_KIND_OF = {type_: kind for kind, type_ in RECORDS.items()}

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_NOTHING = b""


def checksum(*parts: object) -> int:
    """Return the CRC-32 of a row of a table: of its key and its content, so that neither can be swapped.

    Example:
        >>> checksum("pumps", 17, b"body")
        1086922760
    """
    total = 0
    for part in parts:
        total = zlib.crc32(part if isinstance(part, bytes) else f"{part}\0".encode(), total)
    return total


def record_row(position: int, record: Record) -> tuple[Any, ...]:
    """Return a record as a row of a journal: its columns are `JOURNAL`."""
    if isinstance(record, Readings):
        at, content = int(record.arrival[-1]) if len(record) else 0, _encode_readings(record)
    else:
        at, content = record.at, _encode([getattr(record, name) for name in record.__slots__])
    what = _KIND_OF[type(record)], getattr(record, "stream", "")
    return (
        position,
        at,
        *what,
        int(isinstance(record, STANDING)),
        content,
        checksum(position, at, *what, content),
    )


def record_from(row: tuple[Any, ...]) -> Record | None:
    """Return the record in a row of a journal; None where the row is damaged."""
    position, at, kind, stream, _, content, total = row
    if not isinstance(content, bytes) or total != checksum(position, at, kind, stream, content):
        return None
    if kind == "readings":
        return _decode_readings(content)
    found: Record = RECORDS[kind](*_decode(content))
    return found


def _encode_readings(readings: Readings) -> bytes:
    names = list(dict.fromkeys(readings.devices))
    place = dict(zip(names, range(len(names)), strict=True))
    places = np.fromiter(map(place.__getitem__, readings.devices), _places(names), len(readings))
    return _encode(
        (
            readings.stream,
            names,
            _pack(places),
            len(readings),
            readings.columns,
            _pack(readings.shapes),
            readings.values.tobytes(),
            _pack(readings.ts),
            _pack(readings.arrival),
            _pack(readings.seq),
            _pack(readings.index),
            {device: dict(tags) for device, tags in readings.tags.items()},
        )
    )


def _decode_readings(content: bytes) -> Readings:
    stream, names, places, n, columns, shapes, values, ts, arrival, seq, index, tags = _decode(content)
    return Readings(
        stream=stream,
        devices=[names[place] for place in _unpack(places, _places(names), n).tolist()],
        columns=tuple(map(tuple, columns)),
        shapes=_unpack(shapes, np.int32, n),
        values=np.frombuffer(values, np.float64).copy(),
        ts=_unpack(ts, np.int64, n),
        arrival=_unpack(arrival, np.int64, n),
        seq=_unpack(seq, np.int64, n),
        index=_unpack(index, np.int32, n),
        tags=tags,
    )


def _places(names: list[str]) -> type[Any]:
    """Return the type of the places in a list of names."""
    return np.uint16 if len(names) <= 1 << 16 else np.uint32


def _pack(column: NDArray[Any]) -> bytes:
    """Return a column's bytes, or those of its first value where all are the same."""
    if len(column) > 1 and (column == column[0]).all():
        return column[:1].tobytes()
    return column.tobytes()


def _unpack(content: bytes, dtype: type[Any], n: int) -> NDArray[Any]:
    """Return a column of n values that may be written to, as those from a socket may."""
    column = np.frombuffer(content, dtype)
    return np.full(n, column[0]) if len(column) == 1 else column.copy()


def encode_layout(layout: RowLayout) -> tuple[int, bytes]:
    """Return a layout's id, which is a digest of its content, and the content."""
    cells = [(cell.table, cell.name, cell.dtype, cell.shape) for cell in layout.cells]
    others = (layout.others,) if layout.others else ()  # as it was when there was one detector
    content = _encode((layout.channels, layout.detector, cells, layout.in_use_since, *others))
    return layout_id(content), content


def layout_id(content: bytes) -> int:
    """Return 63 bits that stand for a layout."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little") >> 1


def decode_layout(content: bytes) -> RowLayout:
    """Return a layout from its content."""
    channels, detector, cells, since, *others = _decode(content)
    return RowLayout(
        channels=tuple(channels),
        detector=(detector[0], detector[1]),
        cells=tuple(Cell(table, name, dtype, tuple(shape)) for table, name, dtype, shape in cells),
        in_use_since=since,
        others=tuple(tuple(each) for found in others for each in found),
    )


def encode_extras(state: DeviceState) -> tuple[bytes, bytes, bytes]:
    """Return tags, tracks and what was published of a device; each empty where there is nothing."""
    tags = _encode(dict(state.tags)) if state.tags else _NOTHING
    tracks = (
        _encode({kind: _track(track) for kind, track in state.tracks.items()}) if state.tracks else _NOTHING
    )
    published = _encode(state.published) if state.published else _NOTHING
    return tags, tracks, published


def decode_state(
    device: str, layout: RowLayout, row: bytes, tags: bytes, tracks: bytes, published: bytes
) -> DeviceState:
    """Return a device's state from the columns of its row."""
    published_before: list[Any] = _decode(published) if published else []
    tracks_before: Mapping[Any, Any] = _decode(tracks) if tracks else {}
    return DeviceState(
        device=device,
        tags=_decode(tags) if tags else {},
        layout=layout,
        row=row,
        tracks={kind: _track_from(values) for kind, values in tracks_before.items()},
        published=tuple((alert, severity, any(seen)) for alert, severity, *seen in published_before),
    )


def _track(track: Track) -> tuple[Any, ...]:
    counts = [
        (*holder, count.readings, count.anomalous, count.normal, count.holds, count.ending)
        for holder, count in track.counts.items()
    ]
    alert = track.alert
    values = None if alert is None else tuple(getattr(alert, name) for name in Alert.__slots__)
    return counts, values, track.held_back


def _track_from(values: list[Any]) -> Track:
    if len(values) == BEFORE_HOLDERS:
        return _track_before_holders(values)
    counts, alert, held_back = values
    return Track(
        counts={
            Holder(role, channel): Count(readings, [Seen(*each) for each in seen], normal, holds, ending)
            for role, channel, readings, seen, normal, holds, ending in counts
        },
        alert=None if alert is None else _alert_from(alert),
        held_back=held_back,
    )


BEFORE_HOLDERS = 5
"""So many values made a track when an alert was held by the device as a whole."""


def _track_before_holders(values: list[Any]) -> Track:
    """Return a track of an earlier version: what it counted was counted for the device as a whole."""
    readings, anomalous, normal, alert, held_back = values
    known = None if alert is None else _alert_from(alert)
    is_open = known is not None and known.ended_at is None
    # An observation was: at, ts, identity, score, the verdict, later the channels, and whether it was late.
    seen = [Seen(number, each[1], each[2], each[3], any(each[6:])) for number, each in anomalous]
    count = Count(readings, seen, normal, holds=is_open)
    return Track(
        counts={DEVICE: count} if seen or is_open else {},
        alert=known,
        held_back="min_severity" if held_back else None,
    )


def _alert_from(values: list[Any]) -> Alert:
    """Return an alert; older rows do not know its channels, its arrival and its holders."""
    found = Alert(**dict(zip(Alert.__slots__, values, strict=False)))
    found.channels = tuple(found.channels)
    found.holders = tuple(Holder(*each) for each in found.holders) or (DEVICE,)
    return found


def alert_values(alert: OpenAlert) -> tuple[Any, ...]:
    """Return an open alert as the columns of its row, checksum included."""
    *values, acknowledged, channels = (getattr(alert, name) for name in OpenAlert.__slots__)
    values += [int(acknowledged), json.dumps(channels)]
    return *values, checksum(*values)


def alert_from(row: tuple[Any, ...]) -> OpenAlert | None:
    """Return the open alert in a row; None where the row is damaged."""
    *values, acknowledged, channels, total = row
    if total != checksum(*values, acknowledged, channels):
        return None
    return OpenAlert(*(*values, bool(acknowledged), tuple(json.loads(channels))))
