"""Public data sets in the folder DATA: reading them, and the series that they hold.

=========  ==================================================================================
nab        series/<category>/<file>.csv.gz (timestamp,value) and windows.json, the labels
skab       series/<run>.csv.gz: datetime, 8 sensors, anomaly, changepoint
nasa       series/<channel>.npz: train, test, label; manifest.json
ecg        series/<record>.csv.gz: value,label
tabular    <set>.npz, also in folders: X, y
=========  ==================================================================================

None of it is part of this project: they have licences of their own.
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

START_US = 1_772_409_600_000_000
"""When series begin that say no time."""
NASA_STEP_US = 60_000_000
ECG_STEP_US = 4_000  # 250 Hz
SKAB_LEARNING = 400
"""Rows of a run that its benchmark leaves for learning."""
UNJUDGED = 0.15
"""Share of the rows of other series that is for learning."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of n rows.

    Attributes:
        name: As the suite calls it.
        ts: µs, (n,).
        values: By channel, (n,) each.
        label: 1 where something was wrong, (n,).
        first: The first row that is judged.
        written: The first row of those that the suite knows: others came before them.
    """

    name: str
    ts: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    label: NDArray[np.int64]
    first: int
    written: int = 0


def nab(folder: Path) -> Iterator[tuple[Series, list[tuple[int, int]]]]:
    """Yield NAB's series, each with the first and last row of its windows."""
    for name, windows in sorted(json.loads((folder / "windows.json").read_text()).items()):
        rows = _csv(folder / "series" / f"{name}.gz")
        ts = _times([row["timestamp"] for row in rows])
        places = sorted((_row_of(ts, first), _row_of(ts, last)) for first, last in windows)
        label = np.zeros(len(ts), dtype=np.int64)
        for first, last in places:
            label[first : last + 1] = 1
        yield Series(name, ts, {"value": _numbers(rows, "value")}, label, 0), places


def skab(folder: Path) -> Iterator[Series]:
    """Yield SKAB's runs."""
    for path in sorted((folder / "series").glob("*.csv.gz")):
        rows = _csv(path)
        channels = [name for name in rows[0] if name not in {"datetime", "anomaly", "changepoint"}]
        yield Series(
            path.name.removesuffix(".csv.gz"),
            _times([row["datetime"] for row in rows]),
            {name: _numbers(rows, name) for name in channels},
            _numbers(rows, "anomaly").astype(np.int64),
            SKAB_LEARNING,
        )


def nasa(folder: Path) -> Iterator[Series]:
    """Yield the telemetry of two spacecraft; the part for training is played first, and not judged."""
    for name in (each["series"] for each in json.loads((folder / "manifest.json").read_text())):
        with np.load(folder / "series" / f"{name}.npz") as held:
            values = np.concatenate((held["train"], held["test"])).astype(np.float64).reshape(-1)
            label = np.concatenate((np.zeros(len(held["train"])), held["label"])).astype(np.int64)
            before = len(held["train"])
        ts = START_US + np.arange(len(values), dtype=np.int64) * NASA_STEP_US
        yield Series(name, ts, {"value": values}, label, before, written=before)


def ecg(folder: Path) -> Iterator[Series]:
    """Yield electrocardiograms."""
    for path in sorted((folder / "series").glob("*.csv.gz")):
        rows = _csv(path)
        ts = START_US + np.arange(len(rows), dtype=np.int64) * ECG_STEP_US
        label = _numbers(rows, "label").astype(np.int64)
        first = int(UNJUDGED * len(rows))
        yield Series(path.name.removesuffix(".csv.gz"), ts, {"value": _numbers(rows, "value")}, label, first)


def tabular(folder: Path) -> list[Path]:
    """Return the files of independent rows."""
    return sorted(folder.rglob("*.npz"))


def _csv(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _numbers(rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows])


def _times(texts: list[str]) -> NDArray[np.int64]:
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in texts]
    return np.round(np.array(moments) * 1e6).astype(np.int64)


def _row_of(ts: NDArray[np.int64], text: str) -> int:
    """Return the first row of a time, which has to be there."""
    return int(np.flatnonzero(ts == _times([text])[0])[0])
