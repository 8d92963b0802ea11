"""Recordings: CSV and JSON-lines files -> the same batches that the live service sees.

The arrival of a recorded reading is its event time, and time passes (ticks) between the readings, so
that silence is found as it would have been. Files are read together, in the order of time.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from stream_detector.core.records import NO_SEQ, Readings, Tick
from stream_detector.errors import DataError
from stream_detector.formats.columns import OLDEST
from stream_detector.formats.names import name_error
from stream_detector.formats.times import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.core.records import Record

TIME_COLUMNS = ("ts", "timestamp", "time", "datetime", "date")
DEVICE_COLUMNS = ("device_id", "device")
SEQ_COLUMN = "seq"
BATCH = 2000
TICK_US = 1_000_000
MAX_SEQ = 2**62
"""As for live readings."""

Row: TypeAlias = "tuple[int | None, str | None, int | None, dict[str, float]]"


@dataclass(slots=True)
class Recording:
    """Readings in the order of time.

    Attributes:
        devices: Device of each reading, length n.
        ts: Event time, µs, ascending, (n,).
        seq: The device's own number or `NO_SEQ`, (n,).
        channels: Names of the columns of `values`.
        values: NaN where not reported, (n, channels).
        skipped: Why rows were left out, with counts.
    """

    devices: list[str]
    ts: NDArray[np.int64]
    seq: NDArray[np.int64]
    channels: tuple[str, ...]
    values: NDArray[np.float64]
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        """Return the number of readings."""
        return len(self.devices)

    def records(self, stream: str) -> Iterator[Readings | Tick]:
        """Yield the recording as records of a stream; a tick where a second or more passes."""
        cuts = np.flatnonzero(np.diff(self.ts) >= TICK_US) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(self)], strict=True):
            for begin in range(start, stop, BATCH):
                yield self.batch(stream, begin, min(begin + BATCH, stop))
            if stop < len(self):
                yield Tick(int(self.ts[stop]) - 1)

    def columns(self, channels: Sequence[str]) -> NDArray[np.float64]:
        """Return the values of these channels, (n, len(channels)).

        Raises:
            DataError: One of them is not in the recording.
        """
        missing = [name for name in channels if name not in self.channels]
        if missing:
            raise DataError(f"the recording has no column {missing[0]!r}; it has {', '.join(self.channels)}")
        return self.values[:, [self.channels.index(name) for name in channels]]

    def batch(self, stream: str, start: int, stop: int) -> Readings:
        """Return the readings from one row to before another as a batch of a stream."""
        part = self.values[start:stop]
        reported = ~np.isnan(part)
        names, shapes = np.unique(reported, axis=0, return_inverse=True)
        n = stop - start
        return Readings(
            stream=stream,
            devices=self.devices[start:stop],
            columns=tuple(
                tuple(name for name, there in zip(self.channels, row, strict=True) if there) for row in names
            ),
            shapes=shapes.reshape(-1).astype(np.int32),
            values=part[reported],
            ts=self.ts[start:stop],
            arrival=self.ts[start:stop],
            seq=self.seq[start:stop],
            index=np.zeros(n, dtype=np.int32),
        )


def read(paths: Sequence[Path], ignore: Sequence[str] = ()) -> Recording:
    """Read files together.

    A CSV file has a header; one column is the time (ts, timestamp, time, datetime or date), one may
    be the device (device or device_id) and the number (seq); all others are channels. Where no column
    names the device, each file is a device, named like the file. JSON lines are canonical payloads.

    Args:
        paths: Files ending in .csv, .jsonl or .ndjson, also with .gz.
        ignore: Columns that are no channels, such as labels.

    Raises:
        DataError: A file cannot be read, or has nothing in it.
    """
    rows: list[tuple[int, str, int, dict[str, float]]] = []
    skipped: Counter[str] = Counter()
    for path in paths:
        own_name = path.name.split(".")[0]
        for ts, device, seq, values in _rows(path, set(ignore), skipped):
            if ts is None or ts <= OLDEST:
                skipped["no time after the year 2000"] += 1
            elif seq is not None and abs(seq) > MAX_SEQ:
                skipped["seq is beyond 2^62"] += 1
            elif not values:
                skipped["no number in any channel"] += 1
            elif error := name_error(own_name if device is None else device):
                skipped[f"the device's name: {error}"] += 1
            else:
                rows.append((ts, device or own_name, NO_SEQ if seq is None else seq, values))
    if not rows:
        why = f" ({', '.join(f'{count} rows: {reason}' for reason, count in skipped.most_common(3))})"
        raise DataError(f"{', '.join(map(str, paths))}: there is no reading in it{why if skipped else ''}")
    rows.sort(key=lambda row: row[0])  # stable: readings of one time keep their order
    channels = tuple(dict.fromkeys(name for row in rows for name in row[3]))
    place = {name: k for k, name in enumerate(channels)}
    table = np.full((len(rows), len(channels)), np.nan)
    for i, row in enumerate(rows):
        for name, value in row[3].items():
            table[i, place[name]] = value
    return Recording(
        devices=[row[1] for row in rows],
        ts=np.array([row[0] for row in rows], dtype=np.int64),
        seq=np.array([row[2] for row in rows], dtype=np.int64),
        channels=channels,
        values=table,
        skipped=skipped,
    )


def of_records(records: Iterable[Record]) -> Recording:
    """Return the readings among records as a recording, in the order of time.

    Raises:
        DataError: There are none.
    """
    batches = [record for record in records if isinstance(record, Readings)]
    channels = tuple(sorted({name for batch in batches for names in batch.columns for name in names}))
    if not batches:
        raise DataError("the journal has no reading of this stream in that time")
    place = {name: k for k, name in enumerate(channels)}
    values = np.full((sum(map(len, batches)), len(channels)), np.nan)
    row = 0
    for batch in batches:
        offsets = batch.offsets()
        for i, shape in enumerate(batch.shapes.tolist()):
            columns = [place[name] for name in batch.columns[shape]]
            values[row, columns] = batch.values[offsets[i] : offsets[i + 1]]
            row += 1
    ts = np.concatenate([batch.ts for batch in batches])
    order = np.argsort(ts, kind="stable")
    devices = [device for batch in batches for device in batch.devices]
    return Recording(
        devices=[devices[i] for i in order.tolist()],
        ts=ts[order],
        seq=np.concatenate([batch.seq for batch in batches])[order],
        channels=channels,
        values=values[order],
    )


def _rows(path: Path, ignore: set[str], skipped: Counter[str]) -> Iterator[Row]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text, or not whole"
        raise DataError(f"{path}: cannot be read: {reason}") from None
    if kind == ".csv":
        return _csv_rows(path, text, ignore, skipped)
    if kind in {".jsonl", ".ndjson"}:
        return _json_rows(text, ignore, skipped)
    raise DataError(f"{path}: the name must end in .csv, .jsonl or .ndjson (also with .gz)")


def _csv_rows(path: Path, text: str, ignore: set[str], skipped: Counter[str]) -> Iterator[Row]:
    lines = _csv_lines(path, text)
    header = [name.strip() for name in next(lines, [])]
    _cut_empty_end(header, 0)
    if not header:
        raise DataError(f"{path}: the file is empty, or its first line is")
    lower = [name.lower() for name in header]
    time_at = next((lower.index(name) for name in TIME_COLUMNS if name in lower), None)
    if time_at is None:
        raise DataError(f"{path}: no column is the time; name one of {', '.join(TIME_COLUMNS)}")
    device_at = next((lower.index(name) for name in DEVICE_COLUMNS if name in lower), None)
    seq_at = lower.index(SEQ_COLUMN) if SEQ_COLUMN in lower else None
    special = {time_at, device_at, seq_at}
    channels = [
        (k, name)
        for k, name in enumerate(header)
        if k not in special and name not in ignore and not name_error(name)
    ]
    for cells in lines:
        if not cells:
            continue  # an empty line
        _cut_empty_end(cells, len(header))
        if len(cells) != len(header):
            skipped["another number of cells than the header"] += 1
            continue
        values = {name: number for k, name in channels if (number := _number(cells[k])) is not None}
        device = cells[device_at].strip() or None if device_at is not None else None
        seq = _number(cells[seq_at]) if seq_at is not None else None
        yield _time(cells[time_at]), device, None if seq is None else int(seq), values


def _csv_lines(path: Path, text: str) -> Iterator[list[str]]:
    header_line = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} cannot be read: {error}") from None


def _cut_empty_end(cells: list[str], least: int) -> None:
    """Take off the empty cells that delimiters at the end of a line make, down to so many cells."""
    while len(cells) > least and not cells[-1].strip():
        cells.pop()


class _Line(msgspec.Struct):
    values: dict[str, float | None]
    device_id: str | None = None
    ts: datetime | int | float | None = None
    seq: int | None = None


def _json_rows(text: str, ignore: set[str], skipped: Counter[str]) -> Iterator[Row]:
    decode = msgspec.json.Decoder(_Line).decode
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            found = decode(line)
        except (msgspec.DecodeError, RecursionError):
            skipped["no canonical reading"] += 1
            continue
        values = {
            name: x
            for name, x in found.values.items()
            if x is not None and name not in ignore and not name_error(name)
        }
        ts = found.ts
        if isinstance(ts, datetime) and ts.tzinfo is None:
            ts = ts.replace(tzinfo=UTC)
        yield None if ts is None else microseconds(ts), found.device_id, found.seq, values


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _time(cell: str) -> int | None:
    """Return µs of a cell: RFC 3339 or alike, or epoch seconds or milliseconds; without a zone it is UTC."""
    number = _number(cell)
    if number is not None:
        return microseconds(number)
    try:
        time = datetime.fromisoformat(cell.strip())
    except ValueError:
        return None
    return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))
