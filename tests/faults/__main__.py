"""``python -m tests.faults``: the proofs that nothing is lost, one line each; 1 where one fails.

With ``--jobs`` several run at a time, each in a process of its own. The short form does so by itself; the
full one proves one after the other, because it also measures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from time import monotonic

import stream_detector
from tests import abuse
from tests.faults import at_failpoints, broker, calls, kills, mutants, order, silence
from tests.faults.forks import ForkServer
from tests.faults.proof import Result, versions

SEED = 7
JOBS_A_PROCESSOR = 2
"""Proofs wait for brokers and disks half of the time."""

Proof = Callable[[ForkServer, Path, int], Result]

FULL: dict[str, Proof] = {
    "kills": partial(kills.prove, sizes=kills.FULL),
    "failpoints": at_failpoints.prove,
    "swap": at_failpoints.prove_swap,
    "calls": calls.prove,
    "order": order.prove,
    "broker": broker.prove,
    "logins": broker.prove_logins,
    "silence": silence.prove,
    "mutants": mutants.prove,
    **abuse.FULL,  # whose short forms are tests
}
SHORT: dict[str, Proof] = {
    "kills": partial(kills.prove, sizes=kills.SHORT),
    "failpoints": lambda forks, folder, seed: at_failpoints.prove(
        forks, folder, seed, at_failpoints.cases(seed, faults=2)
    ),
    "swap": partial(at_failpoints.prove_swap, faults=["kill -9"]),
    "calls": partial(calls.prove, step=11),
    "order": partial(order.prove, readings=500),
    "broker": partial(broker.prove, rounds=2, backlog=10_000),
    "logins": broker.prove_logins,
    "silence": partial(silence.prove, rounds=4),
    "mutants": mutants.prove,
}
LEAST: dict[str, Proof] = {
    "kills": partial(kills.prove, sizes=kills.LEAST),
    "failpoints": partial(at_failpoints.prove, chosen=at_failpoints.LEAST),
    "swap": partial(at_failpoints.prove_swap, faults=[None]),
    "order": partial(order.prove, readings=300),
    "logins": partial(broker.prove_logins, only="session forgotten"),
}
"""What is enough to catch the mutants."""


def main() -> int:
    """Run the proofs and say what they found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_const", dest="size", const="short", help="in two minutes")
    size.add_argument("--least", action="store_const", dest="size", const="least", help="for the mutants")
    parser.add_argument("--seed", type=int, default=SEED, help="of the scenarios and the faults")
    parser.add_argument("--only", choices=FULL, action="append", help="this proof; may be repeated")
    parser.add_argument("--jobs", type=int, help="so many proofs at a time")
    said = parser.parse_args()
    proofs = {"short": SHORT, "least": LEAST, None: FULL}[said.size]
    names = said.only or list(proofs)
    jobs = said.jobs or (JOBS_A_PROCESSOR * len(os.sched_getaffinity(0)) if said.size == "short" else 1)
    _say(f"{versions()}; {Path(stream_detector.__file__).parent}")
    if jobs == 1 or len(names) == 1:
        failed = [name for name in names if not _prove(name, proofs[name], said.seed)]
    else:
        failed = _side_by_side(names, said.size, said.seed, jobs)
    if failed and len(names) > 1:
        _say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _prove(name: str, proof: Proof, seed: int) -> bool:
    """Run a proof here, say what it found, and return whether it holds."""
    begin = monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ForkServer(models=name == "swap") as forks:
        try:
            result = proof(forks, Path(folder) / name, seed)
        except Exception as error:  # noqa: BLE001 - the other proofs still say what they find
            where = traceback.extract_tb(error.__traceback__)[1:]
            steps = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(where))
            result = Result(name, "ended early", [f"{type(error).__name__}: {error}", steps])
    _say(result.line(seed, monotonic() - begin))
    return not result.problems


def _side_by_side(names: list[str], size: str | None, seed: int, jobs: int) -> list[str]:
    """Run each proof in a process of its own, the longest first; return the names of those that fail."""
    options = ["--seed", str(seed), *([f"--{size}"] if size else [])]

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.faults", *options, "--only", name]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        longest_first = sorted(names, key=lambda name: name != "mutants")
        running = {pool.submit(run, name): name for name in longest_first}
        for ended in as_completed(running):
            done = ended.result()
            _say(done.stdout.partition("\n")[2].rstrip())  # without the first line, which has the versions
            if done.returncode:
                failed.append(running[ended])
    return failed


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
