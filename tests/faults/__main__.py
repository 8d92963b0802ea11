"""``python -m tests.faults``: the proofs that nothing is lost, one line each; 1 where one fails."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import stream_detector
from tests import abuse
from tests.faults import at_failpoints as places
from tests.faults import broker, calls, kills, mutants, order, silence
from tests.faults.forks import ForkServer
from tests.faults.proof import Result, versions

SEED = 7

Proof = Callable[[ForkServer, Path, int], Result]

FULL: dict[str, Proof] = {
    "kills": partial(kills.prove, sizes=kills.FULL),
    "places": places.prove,
    "swap": places.prove_swap,
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
    "places": lambda forks, folder, seed: places.prove(forks, folder, seed, places.cases(seed, faults=2)),
    "swap": partial(places.prove_swap, faults=["kill -9"]),
    "calls": partial(calls.prove, step=11),
    "order": partial(order.prove, readings=500),
    "broker": partial(broker.prove, rounds=2, backlog=10_000),
    "logins": broker.prove_logins,
    "silence": partial(silence.prove, rounds=4),
    "mutants": mutants.prove,
}
LEAST: dict[str, Proof] = {
    "kills": partial(kills.prove, sizes=kills.LEAST),
    "places": partial(places.prove, chosen=places.LEAST),
    "swap": partial(places.prove_swap, faults=[None]),
    "order": partial(order.prove, readings=300),
    "logins": partial(broker.prove_logins, only="session forgotten"),
}
"""What is enough to catch the mutants."""


def main() -> int:
    """Run the proofs and say what they found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_const", dest="proofs", const=SHORT, help="in some minutes")
    size.add_argument("--least", action="store_const", dest="proofs", const=LEAST, help="for the mutants")
    parser.add_argument("--seed", type=int, default=SEED, help="of the stories and the faults")
    parser.add_argument("--only", choices=FULL, action="append", help="this proof; may be repeated")
    said = parser.parse_args()
    proofs = said.proofs or FULL
    _say(f"{versions()}; {Path(stream_detector.__file__).parent}")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for name in said.only or proofs:
            begin = monotonic()
            with ForkServer(models=name == "swap") as forks:
                try:
                    result = proofs[name](forks, Path(folder) / name, said.seed)
                except Exception as error:  # noqa: BLE001 - the other proofs still say what they find
                    where = traceback.extract_tb(error.__traceback__)[1:]
                    steps = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(where))
                    result = Result(name, "ended early", [f"{type(error).__name__}: {error}", steps])
            failed += bool(result.problems)
            _say(result.line(said.seed, monotonic() - begin))
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
