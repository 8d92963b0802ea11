"""Proofs that nothing that arrives can harm the service.

They are run by `tests.faults` beside its own, and called the same way: what forks services (which none of
them needs), a folder for their files, a seed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.abuse import clocks, fuzz, names, order, soak
from tests.abuse import poison as pills

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.proof import Result

FULL: dict[str, Callable[[object, Path, int], Result]] = {
    "fuzz": fuzz.prove,
    "fuzz-wire": fuzz.prove_on_the_wire,
    "pills": pills.prove,
    "names": names.prove,
    "strangers": names.prove_on_the_wire,
    "soak": soak.prove,
    "clocks": clocks.prove,
    "disorder": order.prove,
}
SHORT: dict[str, Callable[[object, Path, int], Result]] = {
    "fuzz": partial(fuzz.prove, payloads=20_000),
    "fuzz-wire": partial(fuzz.prove_on_the_wire, payloads=2000),
    "pills": partial(pills.prove, payload_mb=20, ways=[("bulk", "5"), ("stock", "3.1.1")]),
    "names": partial(names.prove, names=60_000),
    "strangers": partial(names.prove_on_the_wire, names=5000),
    "soak": partial(soak.prove, readings=40_000, slope_mb=25.0),
    "clocks": partial(clocks.prove, parts=((0, False), (-1, False), (1, True), (-1, True))),
    "disorder": partial(order.prove, size=2000),
}
"""The same in less than a minute; short runs cannot tell slow growth, so there only fast growth fails."""
