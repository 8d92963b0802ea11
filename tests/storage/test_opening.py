"""Opening a state_dir: whose it is, whether it is whole, and of which version."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.errors import StateError, StorageError
from stream_detector.storage import schema
from stream_detector.storage.change import Change
from stream_detector.storage.journal import read_journal
from stream_detector.storage.store import LEAP, Store
from tests.storage import torn
from tests.storage.examples import check_prefix, content, scenario
from tests.storage.released.make import EXPECTED, EXPECTED_1, EXPECTED_2, EXPECTED_3

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.storage.connection import Connection

TABLES = ("records", "rows", "alerts", "topic_states", "outbox")
RELEASED = Path(__file__).parent / "released"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a state_dir that holds six commits of the scenario."""
    scenario(tmp_path / "state", 6)
    return tmp_path / "state"


def edit(folder: Path, sql: str) -> None:
    """Change the database behind the store's back."""
    with closing(sqlite3.connect(folder / "state.db")) as database:
        database.execute(sql)
        database.commit()


def test_files_are_private(folder: Path) -> None:
    """Nobody else may read what devices said."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "state.db").stat().st_mode) == 0o600


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Who holds a state_dir is named, and the end of that process, in whatever way, frees it."""
    code = "import sys; from pathlib import Path; from stream_detector.storage.store import Store;"
    code += "store = Store(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(
            StateError, match=f"state_dir {tmp_path} is in use by process {holder.pid};"
        ) as refused:
            Store(tmp_path)
        assert refused.value.exit_code == 3
        holder.kill()
    Store(tmp_path).close()


def test_a_store_is_held_by_one_in_the_same_process(tmp_path: Path) -> None:
    """The lock is on the folder, not on the process; it goes with the store."""
    store = Store(tmp_path)
    with pytest.raises(StateError, match=f"by process {os.getpid()};"):
        Store(tmp_path)
    store.close()
    store.close()
    Store(tmp_path).close()


def test_an_older_version_left_only_its_name(tmp_path: Path) -> None:
    """A state_dir with nothing but the instance's name is a new one."""
    (tmp_path / "instance").write_text("0123abcd")
    with closing(Store(tmp_path)) as store:
        assert content(store)["head"] == (0, 0, 0)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        pytest.param(
            lambda path: path.write_bytes(b""), "it is not a database of this service", id="emptied"
        ),
        pytest.param(lambda path: path.write_bytes(b"x" * 9000), "file is not a database", id="written over"),
        pytest.param(lambda path: os.truncate(path, 4096 * 3), "malformed|missing|out of", id="cut"),
        pytest.param(
            lambda path: edit(path.parent, "DROP INDEX device"), "device is missing", id="without an index"
        ),
        pytest.param(
            lambda path: edit(path.parent, "DROP TABLE outbox"), "outbox is missing", id="without a table"
        ),
        pytest.param(
            lambda path: edit(path.parent, "DROP TABLE meta"), "meta is missing", id="without facts"
        ),
    ],
)
def test_damage_is_set_aside(folder: Path, damage: object, why: str) -> None:
    """A damaged database is never used or lost, and only a person may decide to begin without it."""
    (folder / "state.db-wal").write_bytes(b"")
    assert callable(damage)
    damage(folder / "state.db")
    before = (folder / "state.db").read_bytes()
    advice = (
        rf"state.db in {folder} is damaged \(.*({why}).*\) and was set aside as state.db.corrupt-1;"
        r" to begin without it: stream-detector run --allow-empty-state$"
    )
    with pytest.raises(StateError, match=advice):
        Store(folder)
    assert (folder / "state.db.corrupt-1").read_bytes()[:4096] == before[:4096]
    with pytest.raises(StateError, match=r"was damaged and was set aside as state\.db\.corrupt-1; to begin"):
        Store(folder)  # a supervisor's restart
    with closing(Store(folder, allow_empty=True)) as store:
        assert check_prefix(content(store), 0) == 0
    with closing(Store(folder)) as store:  # and it goes on with what was begun then
        store.commit(Change(facts={"a": "b"}))
    (folder / "state.db").write_bytes(b"again")
    with pytest.raises(StateError, match=r"set aside as state\.db\.corrupt-2"):
        Store(folder)


def test_allowed_to_begin_empty_it_does_so_at_once(folder: Path) -> None:
    """Who says at the start that nothing is better than damage needs no second start."""
    (folder / "state.db").write_bytes(b"damaged")
    with closing(Store(folder, allow_empty=True)) as store:
        assert check_prefix(content(store), 0) == 0
    assert (folder / "state.db.corrupt-1").read_bytes() == b"damaged"


def test_the_whole_file_is_checked_after_a_crash(folder: Path) -> None:
    """Damage inside a page is found at the start if the last end was not orderly."""
    store = Store(folder)
    store.commit(Change(facts={"a": "b"}))
    shutil.copytree(folder, folder.parent / "crashed")
    store.close()
    crashed = folder.parent / "crashed"
    edit(crashed, "PRAGMA user_version")  # takes the log over
    page = _page_of(crashed, "devices")
    with (crashed / "state.db").open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\x00" * 200)
    with pytest.raises(StateError, match="set aside"):
        Store(crashed)


def test_damage_that_is_found_later_is_set_aside_as_well(folder: Path) -> None:
    """After an orderly end the file is not read as a whole: what reading finds then ends the start."""
    page = _page_of(folder, "devices")
    with (folder / "state.db").open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\x00" * 200)
    store = Store(folder)
    with pytest.raises(StateError, match=r"set aside as state\.db\.corrupt-1"):
        list(store.rows())
    with pytest.raises(StorageError):
        store.commit(Change(facts={"a": "b"}))
    store.close()


def _page_of(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(folder / "state.db")) as database:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        return int(database.execute(sql, (table,)).fetchone()[0])


@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ("UPDATE devices SET cells = zeroblob(32) WHERE device = 'pump-0'", ("pumps", "pump-0")),
        ("UPDATE devices SET position = 99 WHERE device = 'pump-0'", ("pumps", "pump-0")),
        ("UPDATE journal SET content = zeroblob(9) WHERE position = 11", ("", "position 11")),
        ("UPDATE outbox SET payload = x'00' WHERE number = 6", ("", "message 6")),
        ("UPDATE alerts SET seq = 99", ("pumps", "pump-0")),
        ("UPDATE topic_states SET content = x'00'", ("pumps", "state of topic plant/0")),
    ],
)
def test_a_broken_row_costs_that_row_only(folder: Path, sql: str, lost: tuple[str, str]) -> None:
    """What does not fit its checksum is left out and named; everything else is there."""
    with closing(Store(folder)) as store:
        whole = content(store)
    edit(folder, sql)
    with closing(Store(folder)) as store:
        found = content(store)
        assert found["damaged"] == [lost]
        store.commit(Change(facts={"a": "b"}))  # which drops a message that nobody can send
    kept = sum(len(found[name]) for name in TABLES)
    assert kept == sum(len(whole[name]) for name in TABLES) - 1
    with closing(Store(folder)) as store:
        content(store)
        assert store.damaged == ([] if "message" in lost[1] else [lost])


def test_a_broken_layout_costs_its_devices_only(folder: Path) -> None:
    """Rows whose layout is damaged are left out."""
    edit(folder, "UPDATE layouts SET content = x'00'")
    with closing(Store(folder)) as store:
        assert list(store.rows()) == []
        assert sorted(store.damaged) == [("pumps", "pump-0"), ("pumps", "pump-1")]


def test_a_broken_last_position_is_never_used_again(folder: Path) -> None:
    """Where nobody knows how far the journal had come, it goes on far beyond everything that is known."""
    edit(folder, "UPDATE meta SET value = '1 1 1 1' WHERE key = '.head'")
    with closing(Store(folder)) as store:
        assert (store.last_position, store.last_number) == (12 + LEAP, 6 + LEAP)
        assert store.damaged == [("", "last position")]


def test_a_newer_schema_is_refused(folder: Path) -> None:
    """An older program does not touch what a newer one wrote."""
    edit(folder, "PRAGMA user_version = 7")
    words = rf"newer version \(schema 7, this one knows {schema.SCHEMA}\): install that version again"
    with pytest.raises(StateError, match=words):
        Store(folder)
    assert (folder / "state.db").exists()


def _add_column(connection: Connection) -> None:
    connection.run("ALTER TABLE outbox ADD COLUMN tried INTEGER NOT NULL DEFAULT 0")


def test_an_older_schema_is_migrated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer program brings the database up to date, once, and leaves a copy of what it was."""
    now = schema.SCHEMA
    monkeypatch.setattr(schema, "SCHEMA", now + 2)
    monkeypatch.setitem(schema.MIGRATIONS, now, _add_column)
    monkeypatch.setitem(schema.MIGRATIONS, now + 1, lambda _: None)
    for _ in range(2):
        with closing(schema.open_database(folder, allow_empty=False)) as connection:
            assert connection.one("PRAGMA user_version") == now + 2
            assert connection.one("SELECT sum(tried) FROM outbox") == 0
    monkeypatch.undo()
    (folder / f"state.db.v{now}").rename(folder / "state.db")
    with closing(Store(folder)) as store:
        assert check_prefix(content(store), 6) == 6


def test_a_migration_that_fails_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is one transaction: the version before can go on."""

    def fail(connection: Connection) -> None:
        _add_column(connection)
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setitem(schema.MIGRATIONS, schema.SCHEMA, fail)
        patch.setattr(schema, "SCHEMA", schema.SCHEMA + 1)
        with pytest.raises(StateError, match="cannot be used"):
            Store(folder)
    with closing(Store(folder)) as store:
        assert check_prefix(content(store), 6) == 6


def test_a_schema_without_a_way_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is too old is told from a damaged one."""
    now = schema.SCHEMA
    monkeypatch.setattr(schema, "SCHEMA", now + 2)
    monkeypatch.setitem(schema.MIGRATIONS, now + 1, lambda _: None)
    words = rf"too old for this one \(schema {now}; this one can read from {now + 1} to {now + 2}\)"
    with pytest.raises(StateError, match=words):
        Store(folder)


@pytest.mark.parametrize(
    ("number", "expected"), [(1, EXPECTED_1), (2, EXPECTED_2), (3, EXPECTED_3), (4, EXPECTED)]
)
def test_what_a_release_wrote_is_read_for_ever(tmp_path: Path, number: int, expected: dict[str, Any]) -> None:
    """A database of any release opens, and says what it said then; the one before is left beside it."""
    shutil.copytree(RELEASED / f"schema-{number}", tmp_path / "state")
    for _ in range(2):
        with closing(Store(tmp_path / "state")) as store:
            assert content(store) == expected
            assert store.reply("ack", "transaction 1", 0) == (b"{}" if number > 1 else None)
    assert (tmp_path / "state" / f"state.db.v{number}").exists() == (number < schema.SCHEMA)


def test_what_was_damaged_stays_damaged(tmp_path: Path) -> None:
    """A migration does not make a broken alert look whole."""
    shutil.copytree(RELEASED / "schema-1", tmp_path / "state")
    edit(tmp_path / "state", "UPDATE alerts SET severity = 'warning'")
    with closing(Store(tmp_path / "state")) as store:
        assert store.open_alerts() == []
        assert store.damaged == [("pumps", "pump-1")]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A state_dir that is a file is refused in a sentence."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(StateError, match=rf"state_dir {path} cannot be used \(.*\): name a folder"):
            Store(path)


def _as_nobody(do: Callable[[], object]) -> str:
    """Do something without the powers of root, and return what came of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            words = repr(do())
        except StateError as error:
            words = str(error)
        os.write(writing, words.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        words = pipe.read()
    os.waitpid(child, 0)
    return words


@pytest.mark.parametrize(
    ("folder_mode", "file_mode"),
    [(0o555, 0o444), (0o777, 0o444), (0o777, 0o000)],
    ids=["nothing may be written", "the file may not be written", "the file may not be read"],
)
def test_missing_permissions(folder_mode: int, file_mode: int) -> None:
    """What may not be read or written is named, and nothing is set aside; what can be read, can be read."""
    with TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        folder = Path(base) / "state"
        scenario(folder, 6)
        records = sum(1 for _ in read_journal(folder))
        (folder / "state.db").chmod(file_mode)
        (folder / "lock").chmod(0o666 & folder_mode)
        folder.chmod(folder_mode)
        words = _as_nobody(lambda: Store(folder))
        assert words.startswith(f"state_dir {folder} cannot be used (")
        assert words.endswith("): make the folder writable for this user")
        if file_mode:
            assert _as_nobody(lambda: sum(1 for _ in read_journal(folder))) == str(records)
        assert (folder / "state.db").exists()
        assert not list(folder.glob("*.corrupt*"))


def test_a_log_that_was_left_behind_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    """A database that is begun anew does not inherit what stands in the log of an older one."""
    state_dir = torn.crashed(tmp_path)
    (state_dir / "state.db").unlink()
    with closing(Store(state_dir)) as store:
        assert check_prefix(content(store), 0) == 0


@pytest.mark.parametrize("steps", [0, 1])
def test_positions_go_on_after_those_of_the_history(tmp_path: Path, steps: int) -> None:
    """Who begins with nothing, or with an older database, does not use the history's positions again."""
    if steps:
        scenario(tmp_path, steps)
    history = tmp_path / "history"
    history.mkdir()
    shutil.copyfile(RELEASED / "schema-1" / "state.db", history / f"{1:019d}-20231114T221320Z.db")
    with closing(Store(tmp_path)) as store:
        assert store.last_position == EXPECTED_1["head"][0]
