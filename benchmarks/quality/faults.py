"""Faults put into a healthy course, by kind, and how large they are.

R is the range of the channel before the fault, without the outermost 0.2 % on either side; "beyond" is
beyond the smallest or largest value before it.

=========  ==================================================================================
judged     what people expect to be told
spike      2 readings 0.6 R beyond
shift      60 to 300 readings 0.4 R beyond; it comes twice, at the same level
drift      up over 400 readings until 0.2 R beyond and more, then 100 there
stuck      240 readings without any change, on a channel that changes from one to the next
silence    60 readings do not come
garbage    one reading of 65535, or of 100 x the extreme; what follows must be found all the same
hard       each value by itself is usual
context    60 to 150 readings of another time
rhythm     300 readings of one usual value with the usual noise
noise      150 readings with 6 times the usual noise
relation   200 readings of another time, played backwards: the channel no longer fits the others
change     nothing is wrong
normal     from here on 0.5 R beyond, for good
=========  ==================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.quality.courses import Course

JUDGED = ("spike", "shift", "drift", "stuck", "silence", "garbage")
LASTING = ("shift", "drift", "stuck", "silence")
HARD = ("context", "rhythm", "noise", "relation")
CHANGE = "normal"
KINDS = (*JUDGED, *HARD, CHANGE)
UPWARDS = 0.7
"""Share of the faults that go up rather than down."""
SHORTEST = 400
"""So many readings have to lie before a fault: what another time was is taken from them."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What of a healthy course says how large a fault is to be."""

    lowest: float
    low: float
    high: float
    highest: float
    noise: float

    @property
    def range(self) -> float:
        """Return R."""
        return max(self.high - self.low, 1e-9)


def measure(before: Course) -> Measure:
    """Measure a course; its noise by the median step from one reading to the next."""
    low, high = np.percentile(before, [0.2, 99.8])
    noise = float(np.median(np.abs(np.diff(before)))) / 0.95  # of a normal step: 0.674 x sqrt(2) sigma
    return Measure(float(before.min()), float(low), float(high), float(before.max()), noise)


def inject(rng: np.random.Generator, x: Course, healthy: Course, kind: str, at: int) -> int:
    """Put a fault into a channel, in place; return its last row, the last of all for a change for good.

    Args:
        rng: The source of chance.
        x: The channel, (n,), changed in place.
        healthy: The same without any fault: it says how large the fault is to be.
        kind: A key of `FAULTS`.
        at: Its first row; at least `SHORTEST`.
    """
    if at < SHORTEST:
        raise ValueError(f"a fault at row {at} has less than {SHORTEST} readings before it")
    before = healthy[:at]
    return at - 1 + FAULTS[kind](rng, x[at:], before, measure(before))


def _spike(rng: np.random.Generator, x: Course, _before: Course, m: Measure) -> int:
    x[:2] = m.highest + 0.6 * m.range if _up(rng) else m.lowest - 0.6 * m.range
    return 2


def _shift(rng: np.random.Generator, x: Course, _before: Course, m: Measure) -> int:
    part = x[: rng.integers(60, 301)]
    part += m.highest + 0.4 * m.range - part.min() if _up(rng) else m.lowest - 0.4 * m.range - part.max()
    return len(part)


def _drift(_rng: np.random.Generator, x: Course, _before: Course, m: Measure) -> int:
    x[:500] += np.minimum(1, np.arange(500) / 400) * (1.2 * m.range + m.highest - m.high)
    return 500


def _stuck(_rng: np.random.Generator, x: Course, _before: Course, _m: Measure) -> int:
    x[:240] = x[0]
    return 240


def _garbage(_rng: np.random.Generator, x: Course, _before: Course, m: Measure) -> int:
    x[0] = max(65535.0, 100 * abs(m.highest))
    return 1


def _context(rng: np.random.Generator, x: Course, before: Course, _m: Measure) -> int:
    part = x[: rng.integers(60, 151)]
    part[:] = _another_time(before, part)
    return len(part)


def _rhythm(rng: np.random.Generator, x: Course, before: Course, m: Measure) -> int:
    x[:300] = np.percentile(before, 60) + rng.normal(0, max(m.noise, 1e-6) / np.sqrt(2), 300)
    return 300


def _noise(rng: np.random.Generator, x: Course, _before: Course, m: Measure) -> int:
    x[:150] += rng.normal(0, 6 * m.noise, 150)
    return 150


def _relation(_rng: np.random.Generator, x: Course, before: Course, _m: Measure) -> int:
    x[:200] = _another_time(before, x[:200])[::-1]
    return 200


def _normal(_rng: np.random.Generator, x: Course, _before: Course, m: Measure) -> int:
    x += 0.5 * m.range + m.highest - m.high
    return len(x)


FAULTS: dict[str, Callable[[np.random.Generator, Course, Course, Measure], int]] = {
    "spike": _spike,
    "shift": _shift,
    "drift": _drift,
    "stuck": _stuck,
    "garbage": _garbage,
    "context": _context,
    "rhythm": _rhythm,
    "noise": _noise,
    "relation": _relation,
    CHANGE: _normal,
}
"""(chance, the channel from the fault on, its healthy course before, measured) -> readings it takes.

``silence`` is not among them: it is no channel's.
"""


def _up(rng: np.random.Generator) -> bool:
    return bool(rng.random() < UPWARDS)


def _another_time(before: Course, now: Course) -> Course:
    """Return the stretch before that differs most from what is now."""
    length = len(now)
    starts = range(1, len(before) - length, 10)
    best = max(starts, key=lambda start: float(np.abs(before[start : start + length] - now).mean()))
    return before[best : best + length].copy()
