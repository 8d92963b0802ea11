"""What is kept over a crash, and what is not: without sockets, so that there is no luck in it."""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.core.records import Gap
from tests.persisting import NOW, SECOND, Kept

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = ("a", "b", "c")


def stream_of_messages(seed: int, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Return readings of three devices with anomalies, repeats, late ones and new channels."""
    rng = random.Random(seed)  # noqa: S311 - a test
    messages: list[tuple[str, dict[str, Any]]] = []
    for k in range(count):
        device = rng.choice(DEVICES)
        value = rng.gauss(5, 0.3) + (9 if k > 400 and rng.random() < 0.015 else 0)
        values = {"x": value, **({"y": value / 2} if k > count - 200 else {})}
        messages.append((f"plant/n/{device}", {"ts": 1_769_990_000 + k, "seq": k, "values": values}))
        if rng.random() < 0.05:
            messages.append(rng.choice(messages))
    return messages


def alerts(published: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """Return id, seq and event of what is published of alerts."""
    return [(one["id"], one["seq"], one["event"]) for one in published if "alert" in one["schema"]]


@pytest.mark.parametrize("durability", ["journal", "checkpoint"])
@pytest.mark.parametrize("seed", range(3))
def test_a_crash_changes_nothing(tmp_path: Path, seed: int, durability: str) -> None:
    """With crashes between the batches, alerts and windows are those of a run without any."""
    rng = random.Random(seed)  # noqa: S311 - a test
    stream = {"durability": durability}
    calm, shaken = Kept(tmp_path / "calm", stream=stream), Kept(tmp_path / "shaken", stream=stream)
    messages = stream_of_messages(seed, 1200)
    told: list[list[dict[str, Any]]] = [[], []]
    crashes = 0
    while messages:
        batch = [messages.pop(0) for _ in range(min(len(messages), rng.choice([1, 3, 20])))]
        gap = rng.random() < 0.05
        for published, one in zip(told, (calm, shaken), strict=True):
            one.now += SECOND
            published.extend(one.send(*batch))
            if gap:
                one.record(Gap(one.now - SECOND, one.now))
            published.extend(one.tick())
        if rng.random() < 0.2:
            if durability == "checkpoint":  # what a QoS 0 stream loses is what came since the last round
                shaken.persistence.finish(deadline=float("inf"))
            shaken.crash()
            crashes += 1
    assert crashes > 5
    assert len(alerts(told[0])) >= 4
    assert alerts(told[0]) == alerts(told[1])
    assert calm.states() == shaken.states()
    for state in ("warming_up", "ok", "alerting", "silent"):
        assert calm.total("devices", state=state) == shaken.total("devices", state=state)
    assert calm.total("alerts_active") == shaken.total("alerts_active")


def test_what_was_not_committed_never_happened(tmp_path: Path) -> None:
    """A batch that was decided but not written comes again, and counts once."""
    kept = Kept(tmp_path)
    first, second = (
        ("plant/n/a", {"ts": 1_769_990_000, "values": {"x": 1}}),
        ("plant/n/b", {"values": {"x": 1}}),
    )
    kept.send(first, ids=[1])
    before = kept.states()
    kept.send(second, ids=[2], tell=False)
    kept.crash()
    assert kept.states() == before
    kept.send(first, second, ids=[1, 2], flags=8)
    assert kept.total("readings_duplicate_total") == 1
    assert set(kept.states()) == {"a", "b"}


def test_a_reading_without_a_time_counts_once(tmp_path: Path) -> None:
    """Delivered again after a crash, under its packet id and marked so, it is a duplicate; else it is new."""
    kept = Kept(tmp_path)
    reading = ("plant/n/a", {"values": {"x": 1}})
    kept.send(reading, reading, ids=[7, 8])
    kept.crash()
    kept.send(reading, ids=[7], flags=8)
    assert kept.total("readings_duplicate_total") == 1
    kept.send(reading, ids=[7])
    kept.send(reading, ids=[9], flags=8)
    assert kept.total("readings_accepted_total") == 2
    kept.engine.intake.deliveries.forget()
    kept.send(reading, ids=[8], flags=8)
    assert kept.total("readings_accepted_total") == 3


def test_the_outbox_holds_what_the_broker_has_not_confirmed(tmp_path: Path) -> None:
    """Over a crash, in order, under its number; what is confirmed leaves with the next commit."""
    kept = Kept(tmp_path)
    for k in range(3):
        kept.send((f"plant/n/d{k}", {"values": {"x": 1}}))
    kept.crash()
    waiting = kept.store.outbox()
    assert [one.publication for one in waiting] == kept.published
    kept.persistence.confirm([waiting[0].number, waiting[2].number])
    kept.send(("plant/n/d9", {"values": {"x": 1}}))
    kept.crash()
    assert [one.number for one in kept.store.outbox()] == [waiting[1].number, waiting[2].number + 1]


def test_what_the_broker_has_leaves_the_outbox_whatever_happens(tmp_path: Path) -> None:
    """Also when memory is restored in between: an old state sent again would follow the new one."""
    kept = Kept(tmp_path)
    kept.send(("plant/n/a", {"values": {"x": 1}}))
    (waiting,) = kept.store.outbox()
    kept.persistence.confirm([waiting.number])
    kept.persistence.restore()
    kept.send(("plant/n/a", {"values": {"x": 2}}))
    assert kept.store.outbox() == []


def test_nothing_is_kept_where_nothing_is_wanted(tmp_path: Path) -> None:
    """`durability: none` leaves neither rows nor messages behind."""
    kept = Kept(tmp_path, stream={"durability": "none"})
    kept.send(("plant/n/a", {"values": {"x": 1}}))
    kept.persistence.finish(deadline=float("inf"))
    kept.crash()
    assert (kept.states(), kept.store.outbox()) == ({}, [])


def test_an_orderly_end_leaves_nothing_to_replay(tmp_path: Path) -> None:
    """Every changed device is written, so that the next version starts from rows alone."""
    kept = Kept(tmp_path)
    for messages in (stream_of_messages(1, 50), stream_of_messages(2, 50)):
        kept.send(*messages)
    states = kept.states()
    kept.persistence.finish(deadline=float("inf"))
    newest = kept.store.last_position
    assert {position for position, _, _ in kept.store.rows()} == {newest}
    kept.crash()
    assert kept.states() == states


def test_a_damaged_row_costs_that_device_only(tmp_path: Path) -> None:
    """Its window begins anew, its open alert goes on, and the others are as they were."""
    kept = Kept(tmp_path)
    for _ in range(3):
        kept.send(*stream_of_messages(1, 200))
    kept.persistence.finish(deadline=float("inf"))
    states = kept.states()
    kept.let_go()
    with sqlite3.connect(kept.settings.state_dir / "state.db") as file:
        file.execute("UPDATE devices SET cells = zeroblob(length(cells)) WHERE device = 'b'")
        file.execute("DELETE FROM journal WHERE standing = 0")
    file.close()
    kept.open()
    found = kept.states()
    assert "b" not in found or found["b"] != states["b"]
    assert {name: state for name, state in found.items() if name != "b"} == {
        name: state for name, state in states.items() if name != "b"
    }


def test_many_devices_move_to_disk_and_come_back(tmp_path: Path) -> None:
    """Those that spoke only a few times leave memory; when they speak again, nothing was forgotten."""
    small, large = Kept(tmp_path / "small", max_devices=400), Kept(tmp_path / "large")
    for k in range(1200):
        for one in (small, large):
            one.now += SECOND
            one.send((f"plant/n/p{k % 600}", {"ts": 1_769_990_000 + k, "values": {"x": k % 7}}))
    assert small.recovery.evicted["pumps"] > 0
    assert len(small.states()) <= 400
    assert small.total("messages_rejected_total") == 0
    assert small.total("readings_accepted_total") == 1200
    small.crash()
    for k in range(600):
        for one in (small, large):
            one.now += SECOND
            one.send((f"plant/n/p{k}", {"ts": 1_769_992_000, "values": {"x": 3}}))
        assert small.state(f"p{k}") == large.state(f"p{k}")


def test_a_flood_of_new_names(tmp_path: Path) -> None:
    """It is refused beyond the limit a minute; who is known already goes on, and more come next minute."""
    kept = Kept(tmp_path, new_devices_per_minute=100)
    reading = {"values": {"x": 1}}
    kept.send(*[(f"plant/n/p{k}", reading) for k in range(500)])
    assert kept.total("messages_rejected_total", reason="device_limit") == 400
    kept.now += SECOND
    kept.send(("plant/n/p7", reading), ("plant/n/q1", reading), ("plant/n/q2", reading))
    assert kept.total("messages_accepted_total") == 102
    kept.now += 60 * SECOND
    kept.send(*[(f"plant/n/r{k}", reading) for k in range(100)])
    assert kept.total("messages_accepted_total") == 202


def test_the_clock_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was journalled before is never later than what comes after, whatever the machine's clock says."""
    kept = Kept(tmp_path)
    kept.send(("plant/n/a", {"values": {"x": 1}}))
    kept.persistence.commit()
    assert kept.store.alive_at > NOW
    kept.crash()
    assert kept.engine.intake.next_instant >= kept.store.alive_at


def test_a_slow_stream_does_not_hold_the_journal(tmp_path: Path) -> None:
    """A row that has changed long ago is written, however few readings came since."""
    kept = Kept(tmp_path)
    kept.send(("plant/n/slow", {"values": {"x": 1}}))
    changed_at = kept.now
    for _ in range(20):
        kept.now += 60 * SECOND
        kept.send(("plant/n/other", {"values": {"x": 1}}))
    assert kept.now - 11 * 60 * SECOND <= kept.total("checkpoint_timestamp_seconds") * SECOND
    assert kept.total("checkpoint_timestamp_seconds") * SECOND > changed_at
