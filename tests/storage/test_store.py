"""One transaction for everything: what was committed is found again, in order, once."""

from __future__ import annotations

import errno
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_detector.core.devices.snapshot import RowLayout
from stream_detector.core.records import Gap, ModelSet, Started, Tick, TopicState
from stream_detector.errors import StorageError
from stream_detector.storage.change import Change
from stream_detector.storage.store import Store
from stream_detector.storage.writer import TRIM
from tests.storage.examples import (
    EVENTS,
    LAYOUT,
    RECORDS,
    START,
    STATES,
    alert,
    check_prefix,
    content,
    message,
    plain,
    readings,
    state,
    step,
    still_open,
)
from tests.storage.failing import failing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.events import AlertChanged
    from stream_detector.core.records import Record

FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give a store that is empty."""
    with closing(Store(tmp_path / "state")) as store:
        yield store


def positions(store: Store) -> list[int]:
    """Return which records a store holds."""
    return [position for position, _ in store.records()]


def test_a_new_store_is_empty(store: Store) -> None:
    """Positions and numbers begin at 1, so that the last ones of a new store are 0."""
    assert check_prefix(content(store), 0) == 0


@pytest.mark.parametrize("sync", [True, False])
def test_what_was_committed_is_there_after_an_end(tmp_path: Path, *, sync: bool) -> None:
    """Each commit shows in every table, now and after an orderly end, whether or not it waited."""
    for k in range(1, 9):
        with closing(Store(tmp_path / "state")) as store:
            store.commit(step(k), sync=sync)
            now = content(store)
            assert check_prefix(now, k) == k
        with closing(Store(tmp_path / "state")) as store:
            assert content(store) == now


@FEW
@given(
    records=st.lists(RECORDS, max_size=4),
    states=st.lists(STATES, max_size=4, unique_by=lambda each: each.device),
    events=st.lists(EVENTS, max_size=6),
)
def test_any_change_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[Record],
    states: list[DeviceState],
    events: list[AlertChanged],
) -> None:
    """Any records, states and alerts come back equal from the database."""
    folder = tmp_path_factory.mktemp("store")
    with closing(Store(folder)) as store:
        rows = [(len(states) - i, "pumps", each) for i, each in enumerate(states)]
        store.commit(Change(records=list(enumerate(records, 1)), rows=rows, alerts=events))
    with closing(Store(folder)) as store:
        assert [(i, plain(record)) for i, record in store.records()] == list(
            enumerate(map(plain, records), 1)
        )
        assert list(store.rows()) == rows[::-1]  # in order of position
        assert all(store.row("pumps", each.device) == (position, each) for position, _, each in rows)
        found = {(each.device, each.kind): each for each in store.open_alerts()}
        assert found == still_open(events)
        assert store.damaged == []


@FEW
@given(st.lists(st.integers(1, 6), max_size=4))
def test_committing_again_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, repeated: list[int]
) -> None:
    """A commit whose success was not reported may be made again, as often as one likes."""
    with closing(Store(tmp_path_factory.mktemp("store"))) as store:
        for k in range(1, 7):
            for _ in range(1 + repeated.count(k)):
                store.commit(step(k))
                assert check_prefix(content(store), k) == k


def test_the_last_position_outlives_the_records(store: Store, tmp_path: Path) -> None:
    """A position is never used twice, even if the journal is empty at the next start."""
    store.commit(Change(records=[(1, Tick(1)), (2, Tick(2))], outbox=[(5, message(5), 1)]))
    store.commit(Change(confirmed=[5], trim=2, alive_at=9))
    store.close()
    with closing(Store(tmp_path / "state")) as again:
        assert (positions(again), again.outbox()) == ([], [])
        assert (again.last_position, again.last_number, again.alive_at) == (2, 5, 9)


def test_the_clock_never_goes_back(store: Store) -> None:
    """The newest service clock is kept, in whatever order commits bring it."""
    for at in (7, 5, 6):
        store.commit(Change(facts={"a": "b"}, alive_at=at))
    assert store.alive_at == 7


def test_evicted_devices_are_found_by_name_only(store: Store) -> None:
    """A device that is moved to disk is no resident, until its row is written again."""
    both = [(4, "pumps", state("pump-0", 1)), (3, "pumps", state("pump-1", 1))]
    store.commit(Change(rows=both, evicted=[("pumps", "pump-0"), ("pumps", "unknown")]))
    assert list(store.rows()) == both[1:]
    assert store.row_positions() == {("pumps", "pump-1"): 3}
    assert store.row("pumps", "pump-0") == (4, state("pump-0", 1))
    assert store.row("pumps", "unknown") is None
    assert (store.stored_devices("pumps"), store.evicted_devices("pumps")) == (2, 1)
    assert (store.stored_devices("other"), store.evicted_devices("other")) == (0, 0)
    store.commit(Change(rows=[(9, "pumps", state("pump-0", 2))]))
    assert [row[0] for row in store.rows()] == [3, 9]
    assert store.evicted_devices("pumps") == 0


def test_rows_share_their_layouts(store: Store, tmp_path: Path) -> None:
    """Devices with equal layouts get one and the same object back; a layout that no row has is deleted."""
    other = RowLayout(("c",), ("light", "2"), LAYOUT.cells, in_use_since=5)
    store.commit(Change(rows=[(1, "pumps", state(f"pump-{i}", layout=replace(LAYOUT))) for i in range(3)]))
    store.commit(Change(rows=[(2, "pumps", state("pump-9", layout=other))]))
    layouts = [row[2].layout for row in store.rows()]
    assert layouts == [LAYOUT] * 3 + [other]
    assert len({id(layout) for layout in layouts}) == 2
    store.commit(Change(rows=[(3, "pumps", state("pump-9"))]))
    store.close()
    with closing(Store(tmp_path / "state")) as again:
        again.commit(Change(facts={"a": "b"}))
        assert again._db.one("SELECT count(*) FROM layouts") == 1
        assert len(list(again.rows())) == 4


def test_a_layout_goes_with_its_transaction(store: Store) -> None:
    """A layout that was undone with a commit that failed is written with the next one."""
    change = Change(rows=[(1, "pumps", state())])
    with failing(3, OSError(errno.EIO, "Input/output error")) as failed, pytest.raises(StorageError):
        store.commit(change)
    assert failed[0].startswith("INSERT INTO devices")
    store.commit(change)
    assert list(store.rows()) == change.rows


def test_only_the_newest_deliveries_are_kept(store: Store) -> None:
    """Redeliveries come back oldest first; a packet id that was used again stands for its last message."""
    store.commit(Change(deliveries=[(7, 1), (8, 2)], keep_deliveries=3))
    store.commit(Change(deliveries=[(7, 3), (9, 4)], keep_deliveries=3))
    assert store.deliveries() == [(8, 2), (7, 3), (9, 4)]
    store.commit(Change(deliveries=[(10, 5)], keep_deliveries=3))
    assert store.deliveries() == [(7, 3), (9, 4), (10, 5)]


def test_facts_are_written_over(store: Store) -> None:
    """A fact has one value."""
    store.commit(Change(facts={"kernels": "a", "filters": "x"}))
    store.commit(Change(facts={"kernels": "b"}))
    assert (store.get("kernels"), store.get("filters"), store.get("other")) == ("b", "x", None)


def test_an_alert_is_open_until_it_clears(store: Store) -> None:
    """What is kept of an alert is what was published last."""
    store.commit(Change(alerts=[alert("raise", 1), alert("update", 2), alert("raise", 1, "pump-1")]))
    assert [(each.device, each.seq, each.peak) for each in store.open_alerts()] == [
        ("pump-0", 2, 3.0),
        ("pump-1", 1, 2.0),
    ]
    store.commit(Change(alerts=[alert("clear", 3)]))
    assert [each.device for each in store.open_alerts()] == ["pump-1"]


def test_trimming_takes_small_steps(store: Store) -> None:
    """However much is to be deleted, a commit deletes a few hundred records, and the next ones go on."""
    store.commit(Change(records=[(i, Tick(i)) for i in range(1, 3 * TRIM)]))
    store.commit(Change(trim=3 * TRIM - 5))
    left = []
    for _ in range(4):
        left.append(len(positions(store)))
        store.commit(Change(facts={"a": "b"}))
    assert left == [2 * TRIM - 1, TRIM - 1, 4, 4]
    assert positions(store) == list(range(3 * TRIM - 4, 3 * TRIM))


def test_standing_records_stay_while_a_row_is_older(store: Store, tmp_path: Path) -> None:
    """A row at a position finds every gap and model after it, however much is trimmed."""
    records: list[Record] = [
        Started(1, "a"),
        ModelSet(1, "pumps", "live", "light"),
        ModelSet(1, "fans", "live", "light"),
        Gap(1, 2),
        readings(),
        ModelSet(2, "pumps", "live", "forest", "1"),
        Gap(3, 4),
        Started(5, "b"),
        ModelSet(5, "pumps", "live", "forest", "2"),
        Gap(5, 6),
        readings(),
    ]
    rows = [(5, "pumps", state("pump-0")), (9, "pumps", state("pump-1"))]
    store.commit(Change(records=list(enumerate(records, 1)), rows=rows, evicted=[("pumps", "pump-0")]))
    store.commit(Change(trim=11))
    assert positions(store) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    store.close()
    with closing(Store(tmp_path / "state")) as again:
        again.commit(Change(facts={"a": "b"}))  # tidies, as the first one after a start
        # The gap at 4 and the first start are known to all; pump-0 was scored by the model at 2 until 6.
        assert positions(again) == [2, 3, 6, 7, 8, 9, 10]
        again.commit(Change(rows=[(11, "pumps", state("pump-0"))]))
    with closing(Store(tmp_path / "state")) as again:
        again.commit(Change(facts={"a": "b"}))
        assert positions(again) == [3, 8, 9, 10]


def test_a_topics_state_outlives_its_record(store: Store, tmp_path: Path) -> None:
    """However far the journal is trimmed, the newest state of each topic is there, until it goes."""

    def state_of(topic: str, content: bytes, stream: str = "pumps") -> TopicState:
        return TopicState(START, stream, topic, content)

    kept = [state_of("b", b"2"), state_of("a", b"1", "fans"), state_of("a", b"3")]
    change = Change(records=list(enumerate([state_of("a", b"1"), *kept, Tick(1)], 1)))
    store.commit(change)
    store.commit(change)
    store.commit(Change(trim=5))
    store.close()
    with closing(Store(tmp_path / "state")) as again:
        again.commit(Change(facts={"a": "b"}))
        assert (positions(again), again.topic_states()) == ([], kept)
        again.commit(Change(records=[(6, state_of("b", b"")), (7, state_of("c", b""))]))
        assert again.topic_states() == kept[1:]
    with closing(Store(tmp_path / "state")) as again:
        assert again.topic_states() == kept[1:]


def test_standing_records_after_the_trim_stay(store: Store, tmp_path: Path) -> None:
    """What may not be trimmed yet is not tidied away, either: a replay needs it in its place."""
    records: list[Record] = [Started(1, "a"), Gap(1, 2), Started(2, "b"), Gap(3, 4)]
    store.commit(Change(records=list(enumerate(records, 1)), trim=2))
    store.close()
    with closing(Store(tmp_path / "state")) as again:
        again.commit(Change(facts={"a": "b"}))
        assert positions(again) == [1, 3, 4]


def test_at_most_so_many_gaps_stand(store: Store, tmp_path: Path) -> None:
    """An old device on disk does not make gaps pile up for ever: beyond a thousand, the oldest go."""
    gaps: list[tuple[int, Record]] = [(i, Gap(i, i + 1)) for i in range(2, 1103)]
    store.commit(Change(records=gaps, rows=[(1, "pumps", state())], trim=1102))
    store.close()
    with closing(Store(tmp_path / "state")) as again:
        again.commit(Change(facts={"a": "b"}))
        assert positions(again) == list(range(103, 1103))


def test_a_change_knows_whether_it_is_empty() -> None:
    """The clock alone is no reason to write."""
    assert not Change(alive_at=START, keep_deliveries=7)
    assert Change(confirmed=[1])
    assert Change(evicted=[("pumps", "pump-0")])


def test_the_size_is_that_of_the_files(store: Store, tmp_path: Path) -> None:
    """What is kept has a size, the log and the history included."""
    store.commit(step(1))
    history = tmp_path / "state" / "history"
    history.mkdir()
    (history / "x.db").write_bytes(bytes(1_000_000))
    assert 1_000_000 < store.journal_bytes < 2_000_000
