"""A backup is a state_dir that a service can start from, made while another one writes."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from stream_detector.errors import ConfigurationError, StateError, StorageError
from stream_detector.storage import history
from stream_detector.storage.backup import backup
from stream_detector.storage.change import Change
from stream_detector.storage.history import Historian
from stream_detector.storage.journal import read_journal
from stream_detector.storage.segments import segments
from stream_detector.storage.store import Store
from tests.storage.examples import check_prefix, content, scenario
from tests.storage.failing import failing
from tests.storage.test_history import DAY, ROOM, record, write

if TYPE_CHECKING:
    from pathlib import Path


def test_a_backup_is_a_state_dir(tmp_path: Path) -> None:
    """It holds what the original held, files as private as there."""
    state_dir, target = tmp_path / "state", tmp_path / "copies" / "backup"
    scenario(state_dir, 6)
    (state_dir / "instance").write_text("0123abcd")
    result = backup(state_dir, target)
    assert (result.position, result.segments, result.left_out) == (12, 0, ())
    assert str(result) == f"{result.size / 1e6:.1f} MB, up to position 12, 0 files of history"
    assert sorted(path.name for path in target.iterdir()) == ["instance", "state.db"]
    assert (target / "instance").read_text() == "0123abcd"
    assert stat.S_IMODE((target / "state.db").stat().st_mode) == 0o600
    with closing(Store(target)) as copy, closing(Store(state_dir)) as original:
        assert content(copy) == content(original)
        assert check_prefix(content(copy), 6) == 6


def test_a_backup_while_a_service_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records move and go while they are copied: the copy has each of them once, up to its last position."""
    monkeypatch.setattr(history, "NAP_S", 0)
    state_dir = tmp_path / "state"
    ready, done = threading.Event(), threading.Event()

    def serve() -> None:
        with closing(Store(state_dir)) as store:
            mover = Historian(state_dir, keep_us=DAY, keep_bytes=ROOM)
            while not done.is_set():
                position = store.last_position + 1
                write(store, position, position + 2)
                mover.offer(position - 5)
                mover.move()
                store.commit(Change(trim=mover.moved))
                if position > 30:
                    ready.set()
            mover.stop()

    service = threading.Thread(target=serve)
    service.start()
    try:
        assert ready.wait(30)
        results = [(target, backup(state_dir, target)) for target in (tmp_path / str(i) for i in range(4))]
    finally:
        done.set()
        service.join()
    for target, result in results:
        assert [i for i, _ in read_journal(target)] == list(range(1, result.position + 1))
        with closing(Store(target)) as store:
            assert store.last_position == result.position
            write(store, result.position + 1, result.position + 1)
        assert [i for i, _ in read_journal(target)] == list(range(1, result.position + 2))


def test_a_history_that_ran_ahead_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What moved after the database was copied is not in the copy: its positions are yet to come there."""
    state_dir, target = tmp_path / "state", tmp_path / "backup"
    with closing(Store(state_dir)) as store:
        write(store, 1, 10)
        mover = Historian(state_dir, keep_us=DAY, keep_bytes=ROOM)
        mover.offer(10)
        mover.move()
        copy_history = backup.__globals__["_copy_history"]

        def later(source: Path, into: Path, position: int) -> list[str]:
            for i in (11, 12):
                store.commit(Change(records=[(i, record(4000 * (i - 10)))]))
                mover.offer(i)
                mover.move()
            assert len(segments(source)) == 3
            return list(copy_history(source, into, position))

        monkeypatch.setitem(backup.__globals__, "_copy_history", later)
        assert backup(state_dir, target).segments == 1
        mover.stop()
    with closing(Store(target)) as copy:
        assert copy.last_position == 10
    assert [i for i, _ in read_journal(target)] == list(range(1, 11))


def test_a_damaged_segment_is_left_out(tmp_path: Path) -> None:
    """What cannot be read cannot be copied; the rest is, and the file is named."""
    state_dir = tmp_path / "state"
    scenario(state_dir, 2)
    (state_dir / "history").mkdir()
    name = f"{1:019d}-20231114T221320Z.db"
    (state_dir / "history" / name).write_bytes(b"damaged")
    result = backup(state_dir, tmp_path / "backup")
    assert str(result).endswith(f"0 files of history; left out as damaged: {name}")
    assert list((tmp_path / "backup" / "history").iterdir()) == []


def test_a_target_is_never_written_over(tmp_path: Path) -> None:
    """A folder with something in it is refused; an empty one is taken."""
    scenario(tmp_path / "state", 1)
    target = tmp_path / "backup"
    target.mkdir()
    backup(tmp_path / "state", target)
    with pytest.raises(ConfigurationError, match="is not empty; name a folder"):
        backup(tmp_path / "state", target)


def test_what_is_not_there_or_full(tmp_path: Path) -> None:
    """Errors are sentences: nothing to copy, a target that is a file, a full disk."""
    with pytest.raises(StateError, match=r"there is no state.db in .*; name the state_dir"):
        backup(tmp_path / "other", tmp_path / "backup")
    scenario(tmp_path / "state", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be copied to"):
        backup(tmp_path / "state", tmp_path / "file")
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    with failing(4, full), pytest.raises(StorageError, match="free space on that disk, and empty") as refused:
        backup(tmp_path / "state", tmp_path / "backup")
    assert refused.value.reason == "full"
    assert list((tmp_path / "backup").iterdir()) == []
