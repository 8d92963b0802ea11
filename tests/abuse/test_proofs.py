"""The proofs of `tests.abuse` in their short form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.abuse import SHORT
from tests.persisting import SECOND, Kept

if TYPE_CHECKING:
    from pathlib import Path


SEED = 7


def holds(name: str, folder: Path) -> None:
    """Run a proof; fail with what it has found."""
    result = SHORT[name](None, folder, SEED)
    assert not result.problems, result.line(SEED, 0.0)


def test_whatever_bytes_arrive(tmp_path: Path) -> None:
    """Spoilt payloads in every format: no exception, no internal error, balanced books after every batch."""
    holds("fuzz", tmp_path)


def test_in_whatever_order_readings_arrive(tmp_path: Path) -> None:
    """Storms of repeated, late and oddly numbered readings: each counted as a second admission says."""
    holds("disorder", tmp_path)


def test_a_million_names(tmp_path: Path) -> None:
    """Invented devices cost bounded memory; known ones lose nothing, and their windows do not differ."""
    holds("names", tmp_path)


def test_devices_that_move_to_disk_make_room(tmp_path: Path) -> None:
    """Where as many leave memory as have joined, further ones are still admitted."""
    kept = Kept(tmp_path, max_devices=300, new_devices_per_minute=100_000)
    for number in range(5):
        kept.now += SECOND
        kept.send(*[(f"plant/n/d{number}-{k}", {"values": {"x": 1}}) for k in range(1000)])
    joined = round(kept.total("messages_accepted_total"))
    assert joined == 300 + 4 * 256, "256 leave memory after each batch"


@pytest.mark.mosquitto
@pytest.mark.usefixtures("mosquitto")
class TestThroughABroker:
    """What needs a real broker; the proofs start their own."""

    def test_whatever_bytes_arrive(self, tmp_path: Path) -> None:
        """The real service counts spoilt messages exactly as it does without sockets."""
        holds("fuzz-wire", tmp_path)

    def test_poison(self, tmp_path: Path) -> None:
        """After each poison pill the next reading counts, on the same connection, in bounded memory."""
        holds("pills", tmp_path)

    def test_a_soak(self, tmp_path: Path) -> None:
        """Memory, files and threads level off while readings stream in."""
        holds("soak", tmp_path)

    def test_clocks_that_jump(self, tmp_path: Path) -> None:
        """Ten years forwards and backwards, running and between runs: the same alerts, and time goes on."""
        holds("clocks", tmp_path)
