"""Proof 1: kill -9 at any moment loses nothing and counts nothing twice.

Readings are published in bursts while the service lives, and it is killed at random moments, most of
them just when it has work. Sometimes the network swallows the last of what it says, so that
acknowledgements and alerts that it takes for sent never arrive. At the end everything has to be as if
nothing had happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING

from tests.faults.proof import Result
from tests.faults.proxy import Hole
from tests.faults.runs import Run, mosquitto
from tests.faults.stories import seeded
from tests.faults.truth import Verdict

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.brokers import Mosquitto
    from tests.faults.forks import ForkServer
    from tests.faults.stories import Mode

EARLY = 0.2
"""Share of the kills that come while it starts."""
EARLY_S = 0.1
BURSTS = 4
PAUSE_S = 0.05
LAST_S = 0.01
SWALLOWED = 0.3
COMMAND_EVERY = 50
"""Each so many-th start is the real command, not a fork."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done in a mode."""

    kills: int
    readings: int


FULL: dict[Mode, Size] = {"seq": Size(400, 40_000), "ts": Size(300, 30_000), "neither": Size(300, 30_000)}
SHORT: dict[Mode, Size] = {"seq": Size(30, 3_000), "ts": Size(20, 2_000), "neither": Size(20, 2_000)}
LEAST: dict[Mode, Size] = {"ts": Size(20, 1_200)}


def prove(forks: ForkServer, folder: Path, seed: int, sizes: dict[Mode, Size]) -> Result:
    """Kill in all modes."""
    total, again = Verdict(), 0
    for mode, size in sizes.items():
        with mosquitto(folder / mode / "broker") as broker:
            verdict, repeated = _mode(forks, broker, folder / mode, seed, mode, size)
        total += verdict
        again += repeated
    kills = sum(size.kills for size in sizes.values())
    readings = sum(size.readings for size in sizes.values())
    parts = ", ".join(f"{mode} {size.readings:,}" for mode, size in sizes.items())
    text = f"{kills:,} kills -9 over {readings:,} readings ({parts}): {total}, {again:,} delivered again"
    return Result("kills", text, total.problems)


def _mode(
    forks: ForkServer, broker: Mosquitto, folder: Path, seed: int, mode: Mode, size: Size
) -> tuple[Verdict, int]:
    """Kill in one mode; return what came of it, and how many messages were delivered again."""
    chance = seeded(seed, mode, "kills")
    hole = Hole(broker.port)
    with Run(forks, broker, folder, seed=seed, mode=mode, readings=size.readings, port=hole.port) as run:
        run.begin()
        for kill in range(size.kills):
            _live(run, hole, len(run.messages) // size.kills, chance)
            run.service.kill()
            hole.swallows = False
            if kill % COMMAND_EVERY == COMMAND_EVERY - 1:
                run.service.run_command()
            else:
                run.service.fork()
        verdict = run.finish()
        hole.close()
        return verdict, run.redeliveries()


def _live(run: Run, hole: Hole, messages: int, chance: random.Random) -> None:
    """Let it live for a while, with work that comes in bursts, and at times unheard in the end."""
    if chance.random() < EARLY:
        sleep(chance.uniform(0.0, EARLY_S))
        return
    unheard_from = chance.randrange(BURSTS) if chance.random() < SWALLOWED else BURSTS
    for burst in range(BURSTS):
        hole.swallows = burst >= unheard_from
        sleep(chance.uniform(0.0, PAUSE_S))
        run.publish(round(messages / BURSTS / (1 - EARLY)))
    sleep(chance.uniform(0.0, LAST_S))
