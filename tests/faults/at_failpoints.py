"""Proof 2: at every failpoint, every kind of failure loses nothing and counts nothing twice.

One run for each failpoint and fault: the service is made to fail once, when it comes to that failpoint for
the k-th time; if that ends it, it is started anew, as a supervisor would.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.failpoints import FAILPOINTS
from stream_detector.models import bundle
from stream_detector.models.training import train
from tests.faults.arming import FAULTS, MARK
from tests.faults.proof import Result
from tests.faults.runs import Run, mosquitto
from tests.faults.scenarios import MODES, STREAMS, Mode, seeded
from tests.faults.truth import Verdict, attempt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.faults.forks import ForkServer

READINGS = 500
DEVICES = 4
BURST = 12
MANY = 10
LATEST = {"during checkpoint": 1, "before outbox deletion": 3}
"""A fault happens when its failpoint is reached for at most the so-many-th time, else the `MANY`-th."""
SWAP = "during model swap"
WINDOW = 64
SEEN_S = 180.0


Case = tuple[str, str, int, Mode]
"""Failpoint, fault, the so-many-th time that it is reached, and how readings say which one they are."""

LEAST: list[Case] = [("before acknowledgements", "kill -9", 5, mode) for mode in MODES]


def cases(seed: int, faults: int = len(FAULTS)) -> list[Case]:
    """Return so many faults, chosen by the seed, at each failpoint but the swap of a model."""
    chosen: list[Case] = []
    for failpoint in FAILPOINTS:
        if failpoint != SWAP:
            chance = seeded(seed, failpoint)
            picked = chance.sample(sorted(FAULTS), faults)
            latest = LATEST.get(failpoint, MANY)
            chosen += [
                (failpoint, fault, chance.randint(1, latest), chance.choice(MODES)) for fault in picked
            ]
    return chosen


def prove(forks: ForkServer, folder: Path, seed: int, chosen: Sequence[Case] | None = None) -> Result:
    """Let each fault happen at each failpoint, or those that are chosen."""
    total = Verdict()
    chosen = chosen or cases(seed)
    for number, (failpoint, fault, at, mode) in enumerate(chosen):
        run = partial(_one, forks, folder / str(number), seed, failpoint, fault, at, mode)
        total += attempt(run, f"{failpoint} ({at}), {fault}, {mode}")
    reached = len({failpoint for failpoint, *_ in chosen})
    return Result("failpoints", f"{len(chosen)} faults at {reached} failpoints: {total}", total.problems)


def prove_swap(
    forks: ForkServer, folder: Path, seed: int, faults: Sequence[str | None] = (*FAULTS,)
) -> Result:
    """Let faults happen while a model is replaced by the next; None: nothing fails."""
    total = Verdict()
    for number, fault in enumerate(faults):
        total += attempt(partial(_swap, forks, folder / str(number), seed, fault), f"{SWAP}, {fault}")
    return Result("swap", f"{sum(map(bool, faults))} faults {SWAP}: {total}", total.problems)


def _one(
    forks: ForkServer, folder: Path, seed: int, failpoint: str, fault: str, at: int, mode: Mode
) -> Verdict:
    with (
        mosquitto(folder / "broker") as broker,
        Run(forks, broker, folder / "run", seed=seed, mode=mode, readings=READINGS, devices=DEVICES) as run,
    ):
        run.begin({"failpoint": failpoint, "fault": fault, "at": at})
        for _ in range(0, len(run.messages), BURST):
            run.publish(BURST)
            run.service.keep_alive(lambda: True, 1.0, "it is started")
        return _happened(run, run.finish(excused=True))


def _swap(forks: ForkServer, folder: Path, seed: int, fault: str | None) -> Verdict:
    """Replace a bundle by its equal while the service runs, and let it fail at that."""
    models_dir = folder / "models"
    saved = [_train(models_dir), folder / "next" / "pumps" / "2"]
    _train(folder / "next")
    _train(folder / "next")
    model = bundle.load(saved[0])
    with (
        mosquitto(folder / "broker") as broker,
        Run(
            forks,
            broker,
            folder / "run",
            seed=seed,
            mode="seq",
            readings=READINGS * 2,
            devices=DEVICES,
            changed={"pumps": {"model": "pumps", "builtin": False, "window": WINDOW}},
            ignore=("model",),
            models={"pumps": model},
            models_dir=str(models_dir),
        ) as run,
    ):
        run.begin({"failpoint": SWAP, "fault": fault, "at": len(STREAMS) + 1} if fault else None)
        run.publish(len(run.messages) // 2)
        saved[1].rename(models_dir / "pumps" / "2")
        run.service.keep_alive(lambda: _version(run) == "2", SEEN_S, "version 2 scores")
        verdict = run.finish(excused=True)
        return _happened(run, verdict) if fault else verdict


def _happened(run: Run, verdict: Verdict) -> Verdict:
    """Add a problem where the fault never happened: then nothing was proved."""
    if MARK not in run.service.log():
        verdict.problems.append("the fault never happened: the failpoint was not reached")
    return verdict


def _version(run: Run) -> str:
    """Return the version of the model that scores the pumps; empty while nobody can be asked."""
    if not run.service.is_ready():
        return ""
    with suppress(OSError, StopIteration):  # it may be gone at any moment
        infos = [dict(labels) for (name, labels), _ in run.service.samples().items() if name == "model_info"]
        return next(info["version"] for info in infos if info["stream"] == "pumps")
    return ""


def _train(models_dir: Path) -> Path:
    """Save a model of what pumps usually say, as the next version."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(400, 2)) * [8.0, 0.4] + [25.0, 41.0]
    trained = train(
        rows,
        name="pumps",
        channels=("vibration", "temperature"),
        features=("value",),
        window=WINDOW,
        detector="hbos",
        contamination=0.01,
    )
    return bundle.save(trained, models_dir)
