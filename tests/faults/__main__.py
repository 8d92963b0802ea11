"""``python -m tests.faults``: the proofs that nothing is lost, one line each; 1 where one fails."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import stream_detector
from tests.faults import broker, calls, kills, mutants, order, places, silence
from tests.faults.forks import ForkServer
from tests.faults.proof import Result, versions

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 7

FULL: dict[str, Callable[[ForkServer, Path, int], Result]] = {
    "kills": partial(kills.prove, sizes=kills.FULL),
    "places": places.prove,
    "calls": calls.prove,
    "swap": places.prove_swap,
    "order": order.prove,
    "broker": broker.prove,
    "logins": broker.prove_logins,
    "silence": silence.prove,
    "mutants": mutants.prove,
}
SHORT: dict[str, Callable[[ForkServer, Path, int], Result]] = {
    "kills": partial(kills.prove, sizes=kills.SHORT),
    "places": places.prove,
    "calls": partial(calls.prove, step=11),
    "swap": partial(places.prove_swap, faults=["kill -9", "exception"]),
    "order": partial(order.prove, readings=500),
    "broker": partial(broker.prove, rounds=2, backlog=10_000),
    "logins": broker.prove_logins,
    "silence": partial(silence.prove, rounds=4),
    "mutants": mutants.prove,
}


def main() -> int:
    """Run the proofs and say what they found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="in some minutes; fewer of everything")
    parser.add_argument("--seed", type=int, default=SEED, help="of the stories and the faults")
    parser.add_argument("--only", choices=FULL, action="append", help="this proof; may be repeated")
    said = parser.parse_args()
    proofs = SHORT if said.short else FULL
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
