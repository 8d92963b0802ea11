"""The suites by name, and what the main program needs of each: its tasks, and the report of their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.quality import plant, plant_report
from benchmarks.quality.figures import Speed
from benchmarks.quality.judge import Judgement, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    Attributes:
        data: Folder of the public data sets; None: none are there.
        out: Where scores and alerts are written; None: nowhere.
        seeds: Of the plant.
        families: Of the plant, those whose name holds one of these; empty: all.
        details: Also list what was missed and what was false.
    """

    data: Path | None = None
    out: Path | None = None
    seeds: tuple[int, ...] = ()
    families: tuple[str, ...] = ()
    details: bool = False


@dataclass(slots=True)
class Report:
    """What a suite found.

    Attributes:
        values: The figures by name.
        speed: Of the product.
        details: Blocks of lines for a person.
        parts: Figures of the parts, by name of the part, for ``--json``.
    """

    values: dict[str, float]
    speed: Speed
    details: list[list[str]] = field(default_factory=list)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)

    def everything(self) -> dict[str, Any]:
        """Return what is in it for JSON, where NaN is null."""
        return {
            "figures": _plain(self.values),
            "parts": {name: _plain(values) for name, values in self.parts.items()},
            "readings_a_second": self.speed.rate,
        }


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite.

    Attributes:
        missing: Why it cannot run with these options; empty: it can.
        tasks: Parts that can be done at the same time, each picklable.
        task: Does one of them.
        report: Makes the report from the results, in the order of the tasks.
    """

    missing: Callable[[Options], str]
    tasks: Callable[[Options], Sequence[Any]]
    task: Callable[[Options, Any], Any]
    report: Callable[[Options, Sequence[Any]], Report]


def write(out: Path, suite: str, series: str, score: NDArray[np.float64], alert: NDArray[np.bool_]) -> None:
    """Write what a series' rows got; a row that was not scored has 0."""
    path = out / suite / (series if series.endswith(".csv") else f"{series}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{x:.9g},{a:d}" for x, a in zip(np.nan_to_num(score).tolist(), alert.tolist(), strict=True)]
    path.write_text("\n".join(["score,alert", *lines, ""]), encoding="utf-8")


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {key: None if x != x else x for key, x in values.items()}  # noqa: PLR0124 - NaN


# -- the plant -------------------------------------------------------------------------------------------


def _plant_tasks(options: Options) -> list[tuple[str, int]]:
    names = [
        name
        for name in plant.FAMILIES
        if not options.families or any(part in name for part in options.families)
    ]
    return [(name, seed) for seed in options.seeds for name in names]


def _plant_task(options: Options, task: tuple[str, int]) -> tuple[int, Judgement, int, float]:
    name, seed = task
    judgement, made, played = plant.run(name, seed)
    if options.out is not None:
        for device, rows in made.rows.items():
            write(options.out, "plant", f"{seed}/{device}", played.score[rows], played.open[rows])
    return seed, judgement, len(made.recording), played.seconds


def _plant_report(options: Options, results: Sequence[tuple[int, Judgement, int, float]]) -> Report:
    """Return the mean over the seeds; the tables below it are of all seeds together."""
    speed, together = Speed(), Judgement()
    of_seed: dict[int, Judgement] = {}
    for seed, judgement, readings, seconds in results:
        speed.add(readings, seconds)
        of_seed.setdefault(seed, Judgement()).add(judgement)
        together.add(judgement)
    each = {f"seed {seed}": summary(judgement) for seed, judgement in of_seed.items()}
    values = {name: _mean([one[name] for one in each.values()]) for name in summary(together)}
    details = [list(plant_report.by_kind(together)), list(plant_report.by_family(together))]
    if options.details:
        details += [list(plant_report.missed(together)), list(plant_report.false_alerts(together))]
    return Report(values, speed, details, each)


def _mean(xs: Sequence[float]) -> float:
    there = [x for x in xs if x == x]  # noqa: PLR0124 - not NaN
    return sum(there) / len(there) if there else nan


SUITES = {"plant": Suite(lambda _: "", _plant_tasks, _plant_task, _plant_report)}
