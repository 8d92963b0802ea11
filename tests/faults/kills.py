"""Proof 1: kill -9 at any moment loses nothing and counts nothing twice.

Readings are published in bursts while the service lives, and it is killed at random moments, most of
them just when it has work. Sometimes the network swallows the last of what it says, so that
acknowledgements and alerts that it takes for sent never arrive. At the end everything has to be as if
nothing had happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import sleep
from typing import TYPE_CHECKING

from tests.faults.proof import Result
from tests.faults.proxy import Hole
from tests.faults.runs import BrokerLog, Run, mosquitto
from tests.faults.scenarios import seeded
from tests.faults.truth import Verdict

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.forks import ForkServer
    from tests.faults.scenarios import Mode

SHARES, LIVES = (0.4, 4.0), (5, 1)
"""Five lives of six have less work than the average; the sixth has enough for a part of a checkpoint."""
EARLY = 0.2
"""Share of the kills that come while it starts."""
EARLY_S = 0.1
BURSTS = 4
PAUSE_S = 0.05
LAST_S = 0.01
COMMAND_EVERY = 50
"""Each so many-th start is the real command, not a fork."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done in a mode.

    Attributes:
        kills: In all.
        readings: In all.
        unheard: Share of the kills before which the network swallows what the service says.
    """

    kills: int
    readings: int
    unheard: float = 0.3


FULL: dict[Mode, Size] = {"seq": Size(400, 40_000), "ts": Size(300, 30_000), "neither": Size(300, 30_000)}
SHORT: dict[Mode, Size] = {"seq": Size(30, 3_000), "ts": Size(20, 2_000), "neither": Size(20, 2_000)}
LEAST: dict[Mode, Size] = {"ts": Size(15, 3_000, unheard=1.0)}


def prove(forks: ForkServer, folder: Path, seed: int, sizes: dict[Mode, Size]) -> Result:
    """Kill in all modes."""
    total, seen, starts = Verdict(), BrokerLog(), list[float]()
    for mode, size in sizes.items():
        with mosquitto(folder / mode / "broker") as broker:
            hole = Hole(broker.port)
            with Run(
                forks,
                broker,
                folder / mode,
                seed=seed,
                mode=mode,
                readings=size.readings,
                port=hole.port,
            ) as run:
                total += _kill(run, hole, size, seeded(seed, mode, "kills"), starts)
                seen += run.log()
            hole.close()
    kills = sum(size.kills for size in sizes.values())
    readings = sum(size.readings for size in sizes.values())
    parts = ", ".join(f"{mode} {size.readings:,}" for mode, size in sizes.items())
    text = (
        f"{kills:,} kills -9 over {readings:,} readings ({parts}): {total}, outbox empty;"
        f" {seen.working:,} lives had acknowledged something, {seen.again:,} messages came again,"
        f" a start took {median(starts) * 1000:.0f} ms"
    )
    return Result("kills", text, total.problems)


def _kill(run: Run, hole: Hole, size: Size, chance: random.Random, starts: list[float]) -> Verdict:
    """Kill so often while the scenario goes on, and compare in the end."""
    run.begin()
    for kill in range(size.kills):
        _live(run, hole, size, chance, starts)
        run.service.kill()
        hole.swallows = False
        if kill % COMMAND_EVERY == COMMAND_EVERY - 1:
            run.service.run_command()
        else:
            run.service.fork()
    return run.finish()


def _live(run: Run, hole: Hole, size: Size, chance: random.Random, starts: list[float]) -> None:
    """Let it live for a while, with work that comes in bursts, and at times unheard in the end."""
    if chance.random() < EARLY:
        sleep(chance.uniform(0.0, EARLY_S))
        return
    share = chance.choices(SHARES, LIVES)[0]
    messages = max(1, round(share * len(run.messages) / size.kills / BURSTS))
    run.publish(messages)
    starts.append(run.service.wait_up())
    unheard_from = chance.randrange(BURSTS) if chance.random() < size.unheard else BURSTS
    for burst in range(BURSTS):
        hole.swallows = burst >= unheard_from
        sleep(chance.uniform(0.0, PAUSE_S))
        run.publish(messages)
    sleep(chance.uniform(0.0, LAST_S))
