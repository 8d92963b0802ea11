"""Recordings become the batches that the live service would have seen."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.records import NO_SEQ, Readings, Tick
from stream_detector.errors import DataError
from stream_detector.sources import recordings

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, name: str, text: str) -> Path:
    """Return a file with that text, zipped where its name says so."""
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "timestamp,value\n2026-01-01 00:00:00,1.5\n2026-01-01 00:00:01,2.5\n", id="no zone is UTC"
        ),
        pytest.param("ts,value\n1767225600,1.5\n1767225601,2.5\n", id="seconds"),
        pytest.param(
            "time;value\n2026-01-01T01:00:00+01:00;1.5\n2026-01-01T00:00:01Z;2.5\n", id="semicolons"
        ),
        pytest.param("datetime\tvalue\n1767225600000\t1.5\n1767225601000\t2.5\n", id="tabs, milliseconds"),
        pytest.param("\ufeffts,value\n1767225600,1.5\n1767225601,2.5\n", id="byte order mark"),
    ],
)
@pytest.mark.parametrize("name", ["pump-7.csv", "pump-7.csv.gz"])
def test_a_csv_file_is_a_device_named_like_the_file(tmp_path: Path, name: str, text: str) -> None:
    """Time and channels are found by the header, whatever the separator and the kind of time."""
    found = recordings.read([written(tmp_path, name, text)])
    assert found.devices == ["pump-7", "pump-7"]
    assert found.channels == ("value",)
    assert found.ts.tolist() == [1_767_225_600_000_000, 1_767_225_601_000_000]
    assert found.values[:, 0].tolist() == [1.5, 2.5]
    assert set(found.seq.tolist()) == {NO_SEQ}


def test_columns_for_device_and_number_are_no_channels_and_labels_can_be_left_out(tmp_path: Path) -> None:
    """Everything else is a channel; an empty cell is not reported."""
    text = "ts,device,seq,a,b,label\n1767225600,x,7,1,2,0\n1767225601,y,8,,4,1\n"
    found = recordings.read([written(tmp_path, "all.csv", text)], ignore=["label"])
    assert found.devices == ["x", "y"]
    assert found.seq.tolist() == [7, 8]
    assert found.channels == ("a", "b")
    np.testing.assert_array_equal(found.values, [[1, 2], [np.nan, 4]])


def test_files_are_read_together_in_the_order_of_time(tmp_path: Path) -> None:
    """Devices of different files are interleaved as they were."""
    one = written(tmp_path, "one.csv", "ts,v\n1767225600,1\n1767225604,3\n")
    two = written(tmp_path, "two.jsonl", '{"device_id":"d","ts":1767225602,"values":{"v":2}}\n\n')
    found = recordings.read([one, two])
    assert found.devices == ["one", "d", "one"]
    assert found.values[:, 0].tolist() == [1, 2, 3]


def test_time_passes_between_readings_but_not_within_a_second(tmp_path: Path) -> None:
    """A tick stands just before the reading after a gap; arrival is event time."""
    text = "ts,v\n" + "".join(f"{1767225600 + t},1\n" for t in (0, 0.4, 0.8, 5.0))
    records = list(recordings.read([written(tmp_path, "x.csv", text)]).records("s"))
    assert [type(record) for record in records] == [Readings, Tick, Readings]
    first, tick, second = records
    assert isinstance(first, Readings)
    assert isinstance(tick, Tick)
    assert isinstance(second, Readings)
    assert len(first) == 3
    assert tick.at == second.ts[0] - 1
    assert second.arrival.tolist() == second.ts.tolist()


def test_a_delimiter_at_the_end_of_a_line_is_no_column(tmp_path: Path) -> None:
    """In the header, in the rows or in both; an empty last cell of a channel stays one."""
    text = "ts,a,b,\n1767225600,1,2,\n1767225601,3,4\n1767225602,5,,\n1767225603,6,\n"
    found = recordings.read([written(tmp_path, "x.csv", text)])
    assert found.channels == ("a", "b")
    np.testing.assert_array_equal(found.values, [[1, 2], [3, 4], [5, np.nan], [6, np.nan]])
    assert not found.skipped


def test_rows_of_another_width_and_numbers_without_end_are_counted(tmp_path: Path) -> None:
    """An empty line is no row; a number beyond 64 bits is no number of a reading."""
    text = "ts,seq,v\n\n1767225600,1,1\n1767225601,2\n1767225602,3,1,1\n1767225603,1e30,1\n"
    lines = (
        '{"ts":1767225604,"seq":18446744073709551616,"values":{"v":1}}\n{"ts":1767225605,"values":{"v":1}}\n'
    )
    found = recordings.read([written(tmp_path, "x.csv", text), written(tmp_path, "y.jsonl", lines)])
    assert found.seq.tolist() == [1, NO_SEQ]
    assert found.skipped["another number of cells than the header"] == 2
    assert found.skipped.total() == 4


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    """One bad row does not spoil a recording."""
    text = "ts,v\nyesterday,1\n1767225600,\n1767225601,nan\n1767225602,4\n12,5\n"
    found = recordings.read([written(tmp_path, "x.csv", text)])
    assert len(found) == 1
    assert found.skipped == {"no time after the year 2000": 2, "no number in any channel": 2}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.csv", "", "the file is empty"),
        ("x.csv", "a,b\n1,2\n", "no column is the time"),
        ("x.csv", "ts,v\n", "there is no reading in it"),
        ("x.csv", f"ts,v\n1767225600,{'1' * 200_000}\n", "line 2 cannot be read: field larger than"),
        ("x.jsonl", "nonsense\n", "1 rows: no canonical reading"),
        ("x.txt", "ts,v\n1,2\n", "must end in .csv, .jsonl or .ndjson"),
    ],
)
def test_a_file_without_readings_is_refused_in_a_sentence(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    """The sentence names the file and says what is missing."""
    path = written(tmp_path, name, text)
    with pytest.raises(DataError) as caught:
        recordings.read([path])
    assert str(path) in str(caught.value)
    assert sentence in str(caught.value)


def test_a_broken_archive_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Bytes that are no gzip do not end in a traceback."""
    path = tmp_path / "x.csv.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(DataError, match="cannot be read"):
        recordings.read([path])
