"""All or nothing, whatever fails: the n-th call, the disk, the power, the process."""

from __future__ import annotations

import errno
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest

from stream_detector import failpoints
from stream_detector.errors import StorageError
from stream_detector.storage.change import Change
from stream_detector.storage.store import Store
from tests.storage import torn
from tests.storage.examples import START, check_prefix, content, message, readings, step
from tests.storage.failing import failing

if TYPE_CHECKING:
    from pathlib import Path

FULL = sqlite3.OperationalError("database or disk is full")
FULL.sqlite_errorcode = sqlite3.SQLITE_FULL


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "full"),
        (OSError(errno.ENOSPC, "No space left on device"), "full"),
        (OSError(errno.EIO, "Input/output error"), "io"),
        (OSError(errno.EROFS, "Read-only file system"), "read_only"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_nth_call_fails(tmp_path: Path, error: Exception, reason: str) -> None:
    """Whichever call of a commit fails: nothing is written, and the same commit made again is all of it."""
    with closing(Store(tmp_path)) as store:
        for k in count(1):
            with failing(k, error) as failed, suppress(StorageError):
                store.commit(step(k), sync=k % 2 == 0)
            if not failed:
                break
            assert check_prefix(content(store), k) == k - 1
            store.commit(step(k), sync=k % 2 == 0)
            assert check_prefix(content(store), k) == k
        assert k > 12
        with failing(3, error), pytest.raises(StorageError, match="cannot be used now") as refused:
            store.commit(step(k + 1))
        assert refused.value.reason == reason


def test_a_commit_that_succeeded_but_did_not_say_so(tmp_path: Path) -> None:
    """An error after the commit leaves it written; the same one again changes nothing."""

    class Late(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            cursor = super().execute(sql, *values)
            if sql == "COMMIT":
                raise FULL
            return cursor

    with closing(Store(tmp_path)) as store:
        store.commit(step(1))
        whole, store._db.raw = (
            store._db.raw,
            sqlite3.connect(tmp_path / "state.db", factory=Late, isolation_level=None),
        )
        with pytest.raises(StorageError):
            store.commit(step(2))
        store._db.raw.close()
        store._db.raw = whole
        assert check_prefix(content_of_disk(store), 2) == 2
        store.commit(step(2))
        assert check_prefix(content(store), 2) == 2


def content_of_disk(store: Store) -> dict[str, object]:
    """Return what is on disk, which the store does not know yet."""
    store._head = store._find_head()
    return content(store)


@pytest.mark.parametrize("place", ["in the transaction", "during checkpoint", "before outbox deletion"])
@pytest.mark.parametrize("error", [RuntimeError("bug"), OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_failpoints_are_inside_the_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException
) -> None:
    """Whatever is raised at a named place undoes the transaction, and the store can be used on."""

    def fail() -> None:
        raise error

    with closing(Store(tmp_path)) as store:
        for k in range(1, 5):
            store.commit(step(k))
        monkeypatch.setitem(failpoints.armed, place, fail)
        with pytest.raises((type(error), StorageError)):
            store.commit(step(5))
        monkeypatch.undo()
        assert check_prefix(content(store), 5) == 4
        store.commit(step(5))
        assert check_prefix(content(store), 5) == 5


def test_every_cut_of_the_log_is_a_consistent_past(tmp_path: Path) -> None:
    """A log that was only partly on the disk when the power went gives the first commits, each whole."""
    state_dir = torn.crashed(tmp_path)
    log = (state_dir / "state.db-wal").read_bytes()
    found = [torn.commits_found(state_dir, cut, tmp_path / "cut") for cut in torn.cuts(log, every=4999)]
    assert found == sorted(found)
    assert (found[0], torn.commits_found(state_dir, log, tmp_path / "cut")) == (1, torn.COMMITS)
    assert len(set(found)) > torn.COMMITS // 2


def test_every_flipped_bit_of_the_log_is_a_consistent_past(tmp_path: Path) -> None:
    """A bit that a disk has flipped in the log ends the past there, and nowhere else."""
    state_dir = torn.crashed(tmp_path)
    log = (state_dir / "state.db-wal").read_bytes()
    found = [torn.commits_found(state_dir, bad, tmp_path / "bad") for bad in torn.flips(log, 60, seed=7)]
    assert len(set(found)) > 4


CHILD = """
import sys
from pathlib import Path
from stream_detector.storage.store import Store
from tests.storage.examples import step
store = Store(Path(sys.argv[1]))
k = int(store.get("k") or 0)
while True:
    k += 1
    store.commit(step(k), sync=False)
    print(k, flush=True)
"""


def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """Killed at any moment, a process leaves the commits that it has reported, and at most one more."""
    for kills in range(1, 5):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            reported = [int(child.stdout.readline()) for _ in range(20 * kills)]
            child.send_signal(signal.SIGKILL)
            reported += [
                int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
            ]
        with closing(Store(tmp_path)) as store:
            found = int(store.get("k") or 0)
            assert check_prefix(content(store) | {"deliveries": _last(store, found)}, found) == found
            assert reported[-1] <= found <= reported[-1] + 1


def _last(store: Store, k: int) -> list[tuple[int, int]]:
    """Return the deliveries as the scenario has them (there are more than it keeps, after some time)."""
    assert store.deliveries()[-1:] == [(k, 1000 + k)]
    return [(i, 1000 + i) for i in range(1, k + 1)]


def big(k: int) -> Change:
    """Return a commit of some size."""
    return Change(records=[(k, readings(500, at=START))], outbox=[(k, message(k), START)], alive_at=START + k)


def test_a_full_database_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """No room is an error that says so; what was committed stays, and the next try succeeds."""
    with closing(Store(tmp_path)) as store:
        store.commit(big(1))
        store._db.run("PRAGMA max_page_count = 30")
        refused = None
        while refused is None:
            try:
                store.commit(big(store.last_position + 1))
            except StorageError as error:
                refused = error
        assert str(refused).endswith("(database or disk is full): free space on that disk")
        committed = store.last_position
        assert [position for position, _ in store.records()] == list(range(1, committed + 1))
        store._db.run("PRAGMA max_page_count = 1000000")
        store.commit(big(committed + 1))
        assert store.last_position == committed + 1


FILLING = """
import resource, sys
from itertools import count
from pathlib import Path
from stream_detector.errors import StorageError
from stream_detector.storage.store import Store
from tests.storage.test_faults import big
store = Store(Path(sys.argv[1]))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
try:
    for k in count(1):
        store.commit(big(k))
except StorageError as error:
    print(error.reason, k, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for k in range(k, k + 20):
    store.commit(big(k))
store.close()
print(k, flush=True)
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The system refuses to let a file grow, in mid-write: nothing is lost, and it goes on later."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    child = subprocess.run(
        [sys.executable, "-c", FILLING, str(tmp_path)], capture_output=True, text=True, check=True
    )
    reason, failed_at, last = child.stdout.split()
    assert reason in {"io", "full"}
    assert int(last) == int(failed_at) + 19
    with closing(Store(tmp_path)) as store:
        assert [position for position, _ in store.records()] == list(range(1, int(last) + 1))
        assert store.damaged == []


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Reading fails with a sentence, too, and can be tried again."""
    error = OSError(errno.EIO, "Input/output error")
    with closing(Store(tmp_path)) as store:
        store.commit(step(1))
        for read in (
            lambda: list(store.records()),
            lambda: list(store.rows()),
            store.outbox,
            store.deliveries,
        ):
            with (
                failing(1, error),
                pytest.raises(StorageError, match=r"\(Input/output error\): check the disk"),
            ):
                read()
        assert check_prefix(content(store), 1) == 1
