"""What a start does not need moves into segments: always somewhere, never twice, dropped as whole files."""

from __future__ import annotations

import errno
import sqlite3
import threading
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from stream_detector.core.records import Gap, ModelSet, Record, Started, Tick
from stream_detector.errors import StateError
from stream_detector.storage import history, journal
from stream_detector.storage.change import Change
from stream_detector.storage.history import Historian
from stream_detector.storage.journal import read_journal
from stream_detector.storage.schema import SCHEMA
from stream_detector.storage.segments import segments
from stream_detector.storage.store import Store
from tests.storage.examples import SECOND, START, plain, readings
from tests.storage.failing import failing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DAY = 86_400 * SECOND
ROOM = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give a store that is empty."""
    with closing(Store(tmp_path)) as store:
        yield store


@pytest.fixture
def historian(tmp_path: Path) -> Iterator[Callable[..., Historian]]:
    """Make historians that are stopped in the end; their threads are not started."""
    made: list[Historian] = []

    def make(*, keep_us: int = DAY, keep_bytes: int = ROOM) -> Historian:
        made.append(Historian(tmp_path, keep_us=keep_us, keep_bytes=keep_bytes))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def record(i: int) -> Record:
    """Return the i-th record of a journal with all kinds in it."""
    at = START + i * SECOND
    kinds: dict[int, Record] = {
        0: Started(at, "a"),
        3: Gap(at - 1, at),
        5: Tick(at),
        7: ModelSet(at, "fans", "live", "light"),
    }
    return kinds.get(i % 10) or readings(3, at=at, stream="fans" if i % 2 else "pumps")


def write(store: Store, first: int, last: int) -> None:
    """Commit the records from one number to another."""
    store.commit(Change(records=[(i, record(i)) for i in range(first, last + 1)]))


def read(path: Path, **wanted: object) -> list[tuple[int, object]]:
    """Return what `read_journal` gives, as values that can be compared."""
    return [(i, plain(each)) for i, each in read_journal(path, **wanted)]  # type: ignore[arg-type]


def written(*numbers: int) -> list[tuple[int, object]]:
    """Return what `read` gives for records by number."""
    return [(i, plain(record(i))) for i in numbers]


def test_offered_records_move_and_may_then_go(
    tmp_path: Path, store: Store, historian: Callable[..., Historian]
) -> None:
    """Nothing is deleted before it stands in the history; afterwards every record is still read once."""
    write(store, 1, 40)
    mover = historian()
    mover.offer(30)
    assert mover.moved == 0
    mover.move()
    assert (mover.moved, mover.problem) == (30, None)
    store.commit(Change(trim=mover.moved))
    kept = [i for i, _ in store.records()]
    assert kept == [i for i in range(1, 41) if i > 30 or i % 10 in {0, 3, 7}]
    assert read(tmp_path) == written(*range(1, 41))


def test_the_thread_moves_by_itself(
    tmp_path: Path, store: Store, historian: Callable[..., Historian]
) -> None:
    """Started, it needs no calls but offers."""
    write(store, 1, 20)
    mover = historian()
    mover.offer(20)
    mover.start()
    deadline = threading.Event()
    for _ in range(200):
        if mover.moved == 20:
            break
        deadline.wait(0.05)
    mover.stop()
    assert mover.moved == 20
    assert read(tmp_path) == written(*range(1, 21))


@pytest.mark.parametrize(("keep_us", "keep_bytes"), [(DAY, 0), (0, ROOM)])
def test_without_a_history_everything_offered_may_go(
    tmp_path: Path, store: Store, historian: Callable[..., Historian], keep_us: int, keep_bytes: int
) -> None:
    """Who keeps no history gets none, and what there was of it is dropped."""
    write(store, 1, 20)
    before = historian()
    before.offer(10)
    before.move()
    mover = historian(keep_us=keep_us, keep_bytes=keep_bytes)
    mover.offer(20)
    assert mover.moved == 20
    mover.move()
    assert segments(tmp_path) == []


def test_a_crash_anywhere_moves_nothing_twice(
    tmp_path: Path, store: Store, historian: Callable[..., Historian], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call fails, in this process or for good: another try moves the rest, and all is read once."""
    monkeypatch.setattr(history, "CHUNK", 7)
    monkeypatch.setattr(history, "NAP_S", 0)
    for n in count(1):
        first = store.last_position + 1
        write(store, first, first + 19)
        mover = historian()
        mover.offer(first + 15)
        with failing(n, OSError(errno.EIO, "Input/output error")) as failed:
            mover.move()
        assert failed or (mover.moved, mover.problem) == (first + 15, None)
        store.commit(Change(trim=mover.moved))
        assert read(tmp_path) == written(*range(1, first + 20))
        again = historian() if n % 2 else mover  # as after a crash
        again.offer(first + 15)
        again.move()
        assert (again.moved, again.problem) == (first + 15, None)
        assert read(tmp_path) == written(*range(1, first + 20))
        if not failed:
            break
    assert n > 10
    assert len(segments(tmp_path)) < 4


def test_moving_again_changes_nothing(
    tmp_path: Path, store: Store, historian: Callable[..., Historian]
) -> None:
    """A chunk whose commit succeeded without saying so is moved once more, and read once."""
    write(store, 1, 20)
    mover = historian()
    mover.offer(15)
    mover.move()
    mover._copied = 3
    mover.move()
    assert (mover.moved, mover.problem) == (15, None)
    assert read(tmp_path) == written(*range(1, 21))


def test_a_problem_is_said_in_a_sentence(
    tmp_path: Path, store: Store, historian: Callable[..., Historian]
) -> None:
    """A full disk is reported, and only until it is over."""
    write(store, 1, 5)
    mover = historian()
    mover.offer(5)
    with failing(3, OSError(errno.ENOSPC, "No space left on device")):
        mover.move()
    assert mover.problem == (
        f"the history in {tmp_path / 'history'} cannot be written (No space left on device):"
        " free space on that disk; until then the journal grows"
    )
    mover.move()
    assert (mover.problem, mover.moved) == (None, 5)


def test_a_segment_holds_an_hour(tmp_path: Path, store: Store, historian: Callable[..., Historian]) -> None:
    """A new segment begins when the last one is an hour old, or full; another process goes on with it."""
    hour = 3600
    for first in (1, 4, hour + 5, 2 * hour + 9):
        store.commit(Change(records=[(i, record(i)) for i in range(first, first + 3)]))
        mover = historian()
        mover.offer(first + 2)
        mover.move()
        mover.stop()
    names = [path.name for path in segments(tmp_path)]
    assert names == [
        "0000000000000000001-20231114T221321Z.db",
        "0000000000000003605-20231114T231325Z.db",
        "0000000000000007209-20231115T001329Z.db",
    ]


def hours(store: Store, make: Callable[..., Historian], last: int, **keep: int) -> Historian:
    """Write and move ten large records an hour, for so many hours."""
    mover = make(**keep)
    for hour in range(last):
        at = START + hour * 3600 * SECOND
        batch = [(10 * hour + i, readings(400, at=at)) for i in range(1, 11)]
        store.commit(Change(records=list(batch)))
        mover.offer(10 * hour + 10)
        mover.move()
        store.commit(Change(trim=mover.moved))
    return mover


def test_old_segments_are_dropped_as_whole_files(
    tmp_path: Path, store: Store, historian: Callable[..., Historian]
) -> None:
    """What is older than is to be kept, measured by the newest record, goes."""
    hours(store, historian, 6, keep_us=3 * 3600 * SECOND)
    found = [i for i, _ in read_journal(tmp_path)]
    assert found == list(range(21, 61))
    assert len(list((tmp_path / "history").iterdir())) == 4


def test_where_there_is_too_much_the_oldest_go(
    tmp_path: Path, store: Store, historian: Callable[..., Historian]
) -> None:
    """The history stays within its size, give or take the segment that is being written."""
    room = 600_000
    hours(store, historian, 12, keep_bytes=room)
    paths = segments(tmp_path)
    assert room / 2 < sum(path.stat().st_size for path in paths) <= room + room // 2
    found = [i for i, _ in read_journal(tmp_path)]
    assert found == list(range(found[0], 121))
    assert found[0] > 1


def test_since_and_stream(tmp_path: Path, store: Store, historian: Callable[..., Historian]) -> None:
    """A reader may begin at a time, and take one stream with what concerns all."""
    hours(store, historian, 3)
    write(store, 11_000, 11_020)
    assert [i for i, _ in read_journal(tmp_path, since=START + 3600 * SECOND)] == [
        *range(11, 31),
        *range(11_000, 11_021),
    ]
    assert read(tmp_path, since=START + 11_010 * SECOND) == written(*range(11_010, 11_021))
    fans = [i for i in range(11_000, 11_021) if i % 10 in {0, 3, 5, 7} or i % 2]
    assert read(tmp_path, since=START + 11_000 * SECOND, stream="fans") == written(*fans)


def test_damaged_segments_are_left_out(
    tmp_path: Path, store: Store, historian: Callable[..., Historian]
) -> None:
    """A segment or a record that is damaged costs itself only, and is named; writing goes on beside it."""
    hours(store, historian, 4)
    paths = segments(tmp_path)
    paths[1].write_bytes(b"damaged")
    with closing(sqlite3.connect(paths[2])) as segment:
        segment.execute("UPDATE journal SET content = x'00' WHERE position = 25")
        segment.commit()
    paths[3].write_bytes(b"damaged")
    mover = historian()
    store.commit(Change(records=[(41, readings(at=START + 3 * 3600 * SECOND))]))
    mover.offer(41)
    mover.move()
    mover.move()
    assert (mover.moved, mover.problem) == (41, None)
    words: list[str] = []
    found = [i for i, _ in read_journal(tmp_path, left_out=words.append)]
    assert found == [*range(1, 11), *range(21, 25), *range(26, 31), 41]
    assert [word.split(" is damaged")[0] for word in words] == [str(paths[1]), "position 25", str(paths[3])]


def test_a_reader_misses_nothing_that_moves_meanwhile(
    tmp_path: Path, store: Store, historian: Callable[..., Historian], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a service writes, moves and deletes, a reader sees every record once, in order."""
    monkeypatch.setattr(history, "NAP_S", 0)
    monkeypatch.setattr(journal, "READ", 5)
    mover = historian()
    write(store, 1, 20)
    found = []
    for i, _ in read_journal(tmp_path):
        found.append(i)
        if i <= 300:
            write(store, 20 + i, 20 + i)
            if i % 3 == 0:
                mover.offer(10 + i)
                mover.move()
                store.commit(Change(trim=mover.moved))
    assert found == list(range(1, 321))
    assert sum(1 for _ in store.records()) < 200


def test_a_crashed_service_can_be_read(tmp_path: Path) -> None:
    """Nobody runs, and the last one ended without taking its log over: it is read all the same."""
    with closing(Store(tmp_path / "live")) as store:
        write(store, 1, 5)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("state.db", "state.db-wal"):
            (crashed / name).write_bytes((tmp_path / "live" / name).read_bytes())
    assert read(crashed) == written(*range(1, 6))
    with closing(Store(crashed)) as store:
        assert store.last_position == 5


def test_without_a_journal_there_is_nothing_to_read(tmp_path: Path) -> None:
    """A wrong folder is named, and so is a journal of another version or a damaged one."""
    with pytest.raises(StateError, match=f"there is no journal in {tmp_path / 'other'}; name the state_dir"):
        read(tmp_path / "other")
    Store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(StateError, match=f"has schema 9, this version reads {SCHEMA}"):
        read(tmp_path)
    (tmp_path / "state.db").write_bytes(b"damaged")
    with pytest.raises(StateError, match="file is not a database"):
        read(tmp_path)


def test_a_history_that_is_ahead_lets_nothing_be_deleted(
    store: Store, historian: Callable[..., Historian]
) -> None:
    """Where an older database meets a newer history, only what was offered in this life may go."""
    hours(store, historian, 1)
    mover = historian()
    assert mover.moved == 0
    mover.offer(4)
    assert mover.moved == 4
    mover.offer(11)
    assert mover.moved == 10
