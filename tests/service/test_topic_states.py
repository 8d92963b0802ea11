"""What a format remembers outlives a crash, and a message that is delivered again changes nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from stream_detector.core.records import Readings, TopicState
from stream_detector.errors import StorageError
from stream_detector.formats import FORMATS
from tests.formats.gateway import Gateway
from tests.persisting import Kept
from tests.storage.failing import failing

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.core.devices.snapshot import DeviceState

DUP = 8
BIRTH = ("gateways/n", b"birth 7=temp 8=rpm")


@pytest.fixture(autouse=True)
def _gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `format: json` be the gateways' format."""
    monkeypatch.setitem(FORMATS, "json", Gateway)  # type: ignore[arg-type]  # a dict, in truth


def kept_in(folder: Path, durability: str = "journal") -> Kept:
    """Return a service on a folder that listens to gateways."""
    return Kept(folder, stream={"topic": "gateways/{site}", "durability": durability})


def messages(seed: int, count: int) -> list[tuple[str, bytes]]:
    """Return what gateways send: births with ever other aliases, deaths, and readings of many devices.

    Each has an effect: one without is not written, so after a crash its instant would be given away again.
    """
    rng = random.Random(seed)  # noqa: S311 - a test
    found = []
    declared = {"n": b"", "s": b""}
    for _ in range(count):
        site = rng.choice("ns")
        topic, before = f"gateways/{site}", declared[site]
        if rng.random() < 0.2:
            names = rng.sample(["temp", "rpm", "oil"], 3)
            birth = f"birth 7={names[0]} 8={names[1]} 9={names[2]}".encode()
            declared[site] = b"" if birth == before else birth
            found.append((topic, declared[site] or b"death"))
        else:
            parts = [f"{rng.choice('abc')} {rng.choice('789')}={rng.gauss(5, 1):.3f}" for _ in range(3)]
            found.append((topic, f"data {' | '.join(parts)}".encode()))
    return found


def content(kept: Kept) -> tuple[dict[str, DeviceState], list[tuple[str, bytes]]]:
    """Return the memory of all devices, and of the format."""
    return kept.states(), sorted((each.topic, each.content) for each in kept.store.topic_states())


def test_a_crash_right_after_the_commit(tmp_path: Path) -> None:
    """What a birth declared is on disk before its acknowledgement, and before any reading that needs it."""
    kept = kept_in(tmp_path)
    kept.send(BIRTH, ("gateways/n", b"data a 7=1 8=2 | b 7=3"))
    records = [record for _, record in kept.store.records()]
    assert [type(record) for record in records] == [TopicState, Readings]
    kept.crash()
    kept.send(("gateways/n", b"data a 7=4 | c 8=5"))
    assert kept.total("messages_rejected_total") == kept.total("readings_rejected_total") == 0
    assert kept.engine.memory.streams["pumps"].channels_of("c") == ("rpm",)


def test_a_birth_alone_is_written_before_it_takes_effect(tmp_path: Path) -> None:
    """Without a single reading; a crash before the commit leaves nothing of it, and it comes again."""
    kept = kept_in(tmp_path)
    kept.send(BIRTH, ids=[1], tell=False)
    kept.crash()
    assert kept.store.topic_states() == []
    kept.send(BIRTH, ids=[1], flags=DUP)
    kept.crash()
    assert [each.content for each in kept.store.topic_states()] == [b"7=temp 8=rpm"]


def test_a_commit_that_fails_is_made_again(tmp_path: Path) -> None:
    """The state waits with its batch; the next attempt writes it once."""
    kept = kept_in(tmp_path)
    with failing(4, OSError(28, "No space left on device")), pytest.raises(StorageError):
        kept.send(BIRTH)
    assert kept.store.topic_states() == []
    kept.persistence.commit()
    kept.persistence.commit()
    assert [each.content for each in kept.store.topic_states()] == [b"7=temp 8=rpm"]
    kept.send(("gateways/n", b"data a 7=1"))
    assert kept.total("readings_rejected_total") == 0


def test_nothing_is_kept_where_nothing_is_wanted(tmp_path: Path) -> None:
    """With `durability: none` the gateway is asked again; with `checkpoint` its state is kept."""
    for durability, count in (("none", 0), ("checkpoint", 1)):
        kept = kept_in(tmp_path / durability, durability)
        kept.send(BIRTH)
        kept.crash()
        assert len(kept.store.topic_states()) == count


@pytest.mark.parametrize("seed", range(6))
def test_cuts_crashes_and_redeliveries_change_nothing(tmp_path: Path, seed: int) -> None:
    """However messages are cut, lost and delivered again, devices and states are those of a calm run."""
    rng = random.Random(seed)  # noqa: S311 - a test
    calm, shaken = kept_in(tmp_path / "calm"), kept_in(tmp_path / "shaken")
    sent = messages(seed, 160)
    for i, message in enumerate(sent):
        calm.send(message, ids=[i + 1])
    done = acknowledged = crashes = 0
    while done < len(sent):
        count = rng.choice([1, 3, 20])
        batch, ids = sent[done : done + count], list(range(done + 1, min(done + count, len(sent)) + 1))
        written = rng.random() < 0.8
        shaken.send(*batch, ids=ids, tell=written)
        done = ids[-1] if written else done
        if written and rng.random() < 0.5:
            acknowledged = done
        if not written or rng.random() < 0.3:
            shaken.crash()
            crashes += 1
            again = sent[acknowledged:done]  # committed, but the broker does not know
            if again:
                shaken.send(*again, ids=list(range(acknowledged + 1, done + 1)), flags=DUP)
    assert crashes > 3
    assert len(calm.store.topic_states()) > 0
    assert content(calm) == content(shaken)
    shaken.crash()
    assert content(calm) == content(shaken)
