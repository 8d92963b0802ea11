"""Small tests of what the proofs are made of: they see what differs, and only that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stream_detector.settings import Settings
from tests.faults.forks import END_S, Clock, ForkServer
from tests.faults.mutants import MUTANTS, ROOT
from tests.faults.order import Order, Packets, read
from tests.faults.scenarios import MODES, scenario, streams
from tests.faults.truth import judge, sent, uninterrupted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.mutants import Mutant
    from tests.faults.scenarios import Mode

PORT = 1883


@pytest.mark.parametrize("mode", MODES)
def test_a_scenario_can_be_repeated(mode: Mode) -> None:
    """A seed gives the same messages, with as many readings as were asked for."""
    messages = list(scenario(1, mode, 300))
    assert messages == list(scenario(1, mode, 300))
    assert messages != list(scenario(2, mode, 300))
    assert sum(message.readings for message in messages) == 300


@pytest.mark.parametrize("mode", MODES)
def test_what_is_lost_is_seen(mode: Mode) -> None:
    """A reading less in a window is a loss, a reading more is counted twice, and cells differ."""
    settings = Settings.model_validate({"streams": streams(mode)})
    messages = [message for message in scenario(1, mode, 300, devices=4) if message.readings]
    expected, counts = uninterrupted(settings, messages), sent(messages)
    assert not judge(uninterrupted(settings, messages), expected, counts, mode).problems
    less = judge(uninterrupted(settings, messages[:-1]), expected, counts, mode)
    assert (less.lost, less.twice, less.windows) == (messages[-1].readings, 0, 3)
    more = judge(expected, uninterrupted(settings, messages[:-1]), sent(messages[:-1]), mode)
    assert (more.lost, more.twice, more.windows) == (0, messages[-1].readings, 3)


def test_an_alert_that_differs_is_seen() -> None:
    """One that was never published, one with other content and one that is invented are problems each."""
    settings = Settings.model_validate({"streams": streams("ts")})
    messages = list(scenario(1, "ts", 400, devices=4))
    expected, found = uninterrupted(settings, messages), uninterrupted(settings, messages)
    first, second, *_ = found.alerts
    del found.alerts[first]
    found.alerts[second]["score"] = 7.0
    found.alerts["another", 1] = {"event": "raise", "kind": "point", "device": "x"}
    problems = judge(found, expected, sent(messages), "ts").problems
    assert [problem.partition(":")[0] for problem in problems] == [
        "never published",
        "published otherwise",
        "invented",
    ]


def traced(*calls: str) -> Order:
    """Return what a trace of these calls says; 4 is the broker's socket, 6 the journal."""
    order = Order()
    order.follow(read(f"99{' ' * (1 + place % 2)}{call}\n" for place, call in enumerate(calls)), PORT)
    return order


def written(data: bytes) -> str:
    """Return bytes as strace shows them."""
    return "".join(f"\\x{byte:02x}" for byte in data)


SOCKET, JOURNAL = f"4<{written(b'socket')}>", f"6<{written(b'/state/state.db-wal')}>"
CONNECT = f"connect({SOCKET}, {{sa_family=AF_INET, sin_port=htons({PORT})}}, 16) = 0"
PUBLISH, PUBACK = b"\x32\x06\x00\x01t\x00\x05\x00", b"\x40\x02\x00\x05"
HEAR = f'recvfrom({SOCKET}, "{written(PUBLISH)}", 9, 0, NULL, NULL) = 8'
WRITE = f'pwrite64({JOURNAL}, "{written(b"page")}", 4, 0) = 4'
SYNC = f"fdatasync({JOURNAL}) = 0"
BEGIN_SYNC, END_SYNC = f"fdatasync({JOURNAL} <unfinished ...>", "<... fdatasync resumed>) = 0"
ACKNOWLEDGE = f'sendto({SOCKET}, "{written(PUBACK)}", 4, 0, NULL, 0) = 4'


@pytest.mark.parametrize(
    ("calls", "early"),
    [
        pytest.param([CONNECT, HEAR, WRITE, SYNC, ACKNOWLEDGE], 0, id="as it should be"),
        pytest.param([CONNECT, HEAR, WRITE, BEGIN_SYNC, END_SYNC, ACKNOWLEDGE], 0, id="in two lines"),
        pytest.param([CONNECT, HEAR, ACKNOWLEDGE, WRITE, SYNC], 1, id="acknowledged first"),
        pytest.param([CONNECT, HEAR, WRITE, ACKNOWLEDGE], 1, id="never synchronised"),
        pytest.param([CONNECT, HEAR, SYNC, WRITE, ACKNOWLEDGE], 1, id="synchronised before it was written"),
        pytest.param([CONNECT, WRITE, HEAR, SYNC, ACKNOWLEDGE], 1, id="written before it came"),
        pytest.param(
            [CONNECT, HEAR, WRITE, BEGIN_SYNC, ACKNOWLEDGE, END_SYNC],
            1,
            id="acknowledged while it is synchronised",
        ),
    ],
)
def test_an_early_acknowledgement_is_seen(calls: list[str], early: int) -> None:
    """What counts is a synchronisation that ended before, of a write after the message came."""
    order = traced(*calls)
    assert order.acknowledged == 1
    assert len(order.problems) == early


def test_packets_that_come_in_pieces() -> None:
    """A connection is cut into packets, wherever it is cut into reads."""
    data = b"\x30\x81\x01" + bytes(129) + b"\x40\x02\x00\x05"
    for size in (1, 2, 7, 200):
        packets = Packets()
        found: list[tuple[int, bytes]] = []
        for start in range(0, len(data), size):
            found += packets.take(data[start : start + size])
        assert found == [(0x30, bytes(129)), (0x40, b"\x00\x05")]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_made(mutant: Mutant) -> None:
    """The text that it replaces stands in the package, once; else its entry has to follow the code."""
    assert (ROOT / "stream_detector" / mutant.file).read_text().count(mutant.old) == 1


def test_a_service_that_is_forked_ends_like_the_command(tmp_path: Path) -> None:
    """A wrong configuration is one sentence and exit code 2; the log holds nothing else."""
    config, log = tmp_path / "config.yaml", tmp_path / "log"
    config.write_text("streams: {}\n")
    with ForkServer() as forks:
        assert forks.start(config, log).wait(END_S) == 2
    (line,) = log.read_text().splitlines()
    assert line.startswith("stream-detector: ")


def test_a_clock_that_others_move(tmp_path: Path) -> None:
    """Two clocks of one file show one time."""
    here, there = Clock(tmp_path / "clock"), Clock(tmp_path / "clock")
    here.now = 1_770_000_000_000_000
    assert json.loads(f"{there()}") == 1_770_000_000_000_000
