"""Proof 3: the n-th call of SQLite fails, for n = 1, 2, 3 … until a run ends without a fault.

It is how SQLite itself is tested. Each run is the whole service, from its first start on an empty
folder to its orderly end; the disk is full or broken for one call, and then well again.
"""

from __future__ import annotations

import shutil
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from tests.faults.arming import MARK, SQLITE_FAULTS
from tests.faults.proof import Result
from tests.faults.runs import Run, mosquitto
from tests.faults.scenarios import MODES
from tests.faults.truth import Verdict, attempt

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.forks import ForkServer

READINGS = 150
DEVICES = 3
BURSTS = 3
MOST = 2000
ENOUGH = 3
"""So many runs in a row without a fault are the end: not every run makes as many calls."""


def prove(forks: ForkServer, folder: Path, seed: int, step: int = 1) -> Result:
    """Let one call after the other fail.

    Args:
        forks: What starts services.
        folder: For their files.
        seed: Of the scenarios.
        step: Only each so-many-th call, beginning at one that the seed chooses.
    """
    total, runs, without = Verdict(), 0, 0
    for at in count(1 + seed % step, step):
        total += attempt(partial(_one, forks, folder / str(at), seed, at), f"call {at}")
        happened = MARK in (folder / str(at) / "run" / "log").read_text()
        shutil.rmtree(folder / str(at))
        runs += happened
        without = 0 if happened else without + 1
        if without == ENOUGH:
            break
        if at > MOST:
            total.problems.append(f"after {MOST} calls there was still a fault")
            break
    every = "each" if step == 1 else f"each {step}th"
    return Result(
        "calls",
        f"{runs} runs, in which {every} of about {at - ENOUGH * step} calls of SQLite failed: {total}",
        total.problems,
    )


def _one(forks: ForkServer, folder: Path, seed: int, at: int) -> Verdict:
    """Let one call fail."""
    fault = list(SQLITE_FAULTS)[at % len(SQLITE_FAULTS)]
    mode = MODES[at % len(MODES)]
    with (
        mosquitto(folder / "broker") as broker,
        Run(forks, broker, folder / "run", seed=seed, mode=mode, readings=READINGS, devices=DEVICES) as run,
    ):
        run.begin({"fault": fault, "at": at})
        for _ in range(BURSTS):
            run.publish(len(run.messages) // BURSTS)
        return run.finish(excused=True)
