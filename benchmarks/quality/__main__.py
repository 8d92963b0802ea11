"""``python -m benchmarks.quality``: how right alerts and scores are, as one table.

Ends with 0 however good it was: the table puts each figure beside its target, and people judge.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.quality.figures import GOALS, Speed, table
from benchmarks.quality.suites import SUITES, Options

if TYPE_CHECKING:
    from benchmarks.quality.report import Report

SHORT_SEEDS = (11, 12)
SEEDS = (11, 12, 13, 14, 15)


def main() -> None:
    """Measure what was asked for, write it where that was asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="folder with nab/, skab/, nasa/, ecg/, tabular/; absent ones are left out"
    )
    parser.add_argument(
        "--out", type=Path, help="write <suite>/<series>.csv there: score and alert of each row"
    )
    parser.add_argument(
        "--only", default="", help=f"of {','.join(SUITES)}; for the plant also plant:door,plant:hive"
    )
    parser.add_argument("--seeds", type=_seeds, help="of the plant: 11-15 or 1,2")
    parser.add_argument(
        "--short", action="store_true", help="the plant with two seeds, nothing that needs data"
    )
    parser.add_argument("--json", action="store_true", help="all figures as JSON instead of the table")
    parser.add_argument("--missed", action="store_true", help="also what was missed and every false alert")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args()
    chosen = [each.partition(":") for each in given.only.split(",") if each]
    unknown = [suite for suite, _, _ in chosen if suite not in SUITES]
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is no suite; these are: {', '.join(SUITES)}")
    options = Options(
        data=given.data,
        out=given.out,
        seeds=given.seeds or (SHORT_SEEDS if given.short else SEEDS),
        families=tuple(part for _, _, part in chosen if part),
        details=given.missed,
    )
    wanted = dict.fromkeys(suite for suite, _, _ in chosen) or (["plant"] if given.short else list(SUITES))
    reports = _run(list(wanted), options, given.processes)
    if given.json:
        json.dump({name: report.everything() for name, report in reports.items()}, sys.stdout, indent=1)
        print()
    else:
        _print(reports)


def _run(wanted: list[str], options: Options, processes: int) -> dict[str, Report]:
    """Do the tasks of all suites, several at a time, and let each suite make its report."""
    reports = {}
    with ProcessPoolExecutor(processes) as pool:
        began = time.perf_counter()
        waiting = {}
        for name in wanted:
            suite = SUITES[name]
            reason = suite.missing(options)
            if reason:
                print(f"{name}: left out, {reason}", file=sys.stderr)
                continue
            waiting[name] = [pool.submit(suite.task, options, each) for each in suite.tasks(options)]
        for name, futures in waiting.items():
            reports[name] = SUITES[name].report(options, [future.result() for future in futures])
            print(f"{name}: done after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return reports


def _print(reports: dict[str, Report]) -> None:
    values = {f"{name}.{key}": x for name, report in reports.items() for key, x in report.values.items()}
    for line in table(values):
        print(line)
    known = {goal.key for goal in GOALS}
    for name, report in reports.items():
        more = {key: x for key, x in report.values.items() if f"{name}.{key}" not in known}
        if more:
            print(f"\n{name}, further: " + ", ".join(f"{key} {x:.3f}" for key, x in more.items()))
        for lines in report.details:
            print()
            print("\n".join(lines))
    speed = Speed()
    for report in reports.values():
        speed.add(report.speed.readings, report.speed.seconds)
    print(
        f"\n{speed.readings:,} readings in {speed.seconds:.0f} s of one process: {speed.rate:,.0f} readings/s"
    )


def _seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``11-15`` or ``1,2``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


if __name__ == "__main__":
    main()
