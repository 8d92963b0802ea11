"""The suites by name, and what the main program needs of each: its tasks, and the report of their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.quality import plant, plant_report, public_suites
from benchmarks.quality.figures import Speed
from benchmarks.quality.judge import Judgement, summary
from benchmarks.quality.report import Report, mean, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


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
    values = {name: mean([one[name] for one in each.values()]) for name in summary(together)}
    details = [list(plant_report.by_kind(together)), list(plant_report.by_family(together))]
    if options.details:
        more = (plant_report.by_sentence, plant_report.missed, plant_report.false_alerts)
        details += [list(each(together)) for each in more]
    return Report(values, speed, details, each)


def _public(name: str) -> Suite:
    """Return a suite of public data, which is one task."""

    def missing(options: Options) -> str:
        if options.data is None:
            return "it needs DATA, a folder of public data sets"
        return "" if (options.data / name).is_dir() else f"there is no {options.data / name}"

    return Suite(missing, lambda _: [name], _public_task, lambda _, results: results[0])


def _public_task(options: Options, name: str) -> Report:
    assert options.data is not None
    return PUBLIC[name](options.data / name, options.out)


PUBLIC: dict[str, Callable[[Path, Path | None], Report]] = {
    "nab": public_suites.run_nab,
    "skab": public_suites.run_skab,
    "nasa": public_suites.run_nasa,
    "ecg": public_suites.run_ecg,
    "tabular": public_suites.run_tabular,
}
SUITES = {
    "plant": Suite(lambda _: "", _plant_tasks, _plant_task, _plant_report),
    **{name: _public(name) for name in PUBLIC},
}
