"""Proof 2: at every named place, every kind of failure loses nothing and counts nothing twice.

One run for each place and fault: the service is made to fail once, when it comes to that place for
the k-th time; if that ends it, it is started anew, as a supervisor would.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.failpoints import PLACES
from stream_detector.models import bundle
from stream_detector.models.training import train
from tests.faults.arming import FAULTS, MARK
from tests.faults.proof import Result
from tests.faults.runs import Run, mosquitto
from tests.faults.stories import MODES, STREAMS, seeded
from tests.faults.truth import Verdict, attempt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.faults.forks import ForkServer

READINGS = 500
DEVICES = 4
BURST = 40
LATEST = 3
"""A fault happens when its place is reached for at most the so-many-th time."""
SELDOM = {"during checkpoint", "before outbox deletion"}
SWAP = "during model swap"
WINDOW = 64
SEEN_S = 60.0


def prove(forks: ForkServer, folder: Path, seed: int) -> Result:
    """Let each fault happen at each place but the swap of a model, which has a proof of its own."""
    places = [place for place in PLACES if place != SWAP]
    total = Verdict()
    for number, (place, fault) in enumerate(product(places, FAULTS)):
        run = partial(_one, forks, folder / str(number), seed, place, fault)
        total += attempt(run, f"{place}, {fault}")
    return Result("places", f"{len(FAULTS)} faults at {len(places)} places: {total}", total.problems)


def prove_swap(forks: ForkServer, folder: Path, seed: int, faults: Iterable[str] = FAULTS) -> Result:
    """Let a fault happen while a model is replaced by the next."""
    total, count = Verdict(), 0
    for fault in faults:
        total += attempt(partial(_swap, forks, folder / str(count), seed, fault), f"{SWAP}, {fault}")
        count += 1
    return Result("swap", f"{count} faults {SWAP}: {total}", total.problems)


def _one(forks: ForkServer, folder: Path, seed: int, place: str, fault: str) -> Verdict:
    chance = seeded(seed, place, fault)
    mode = chance.choice(MODES)
    with (
        mosquitto(folder / "broker") as broker,
        Run(forks, broker, folder / "run", seed=seed, mode=mode, readings=READINGS, devices=DEVICES) as run,
    ):
        at = 1 if place in SELDOM else chance.randint(1, LATEST)
        run.begin({"place": place, "fault": fault, "at": at})
        for _ in range(0, len(run.messages), BURST):
            run.publish(BURST)
            run.service.keep_alive(lambda: True, SEEN_S, "it is started")
        return _told(run, run.finish(excused=True))


def _swap(forks: ForkServer, folder: Path, seed: int, fault: str) -> Verdict:
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
            changed={"pumps": {"model": "pumps", "window": WINDOW}},
            ignore=("model",),
            models={"pumps": model},
            models_dir=str(models_dir),
        ) as run,
    ):
        run.begin({"place": SWAP, "fault": fault, "at": len(STREAMS) + 1})
        run.publish(len(run.messages) // 2)
        saved[1].rename(models_dir / "pumps" / "2")
        run.service.keep_alive(lambda: _version(run) == "2", SEEN_S, "version 2 scores")
        return _told(run, run.finish(excused=True))


def _told(run: Run, verdict: Verdict) -> Verdict:
    """Add a problem where the fault never happened: then nothing was proved."""
    if MARK not in run.service.log():
        verdict.problems.append("the fault never happened: the place was not reached")
    return verdict


def _version(run: Run) -> str:
    """Return the version of the model that scores the pumps; empty while nobody can be asked."""
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
