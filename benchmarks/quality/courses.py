"""What the courses of measured values are made of; all chance comes from the generator given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Course = NDArray[np.float64]

DAY_S = 86_400.0
WORKDAYS = 5


def hour(t: Course) -> Course:
    """Return the hour of the day, 0 to 24, of times in s since a Monday's midnight."""
    return t % DAY_S / 3600


def workday(t: Course) -> NDArray[np.bool_]:
    """Return where it is Monday to Friday."""
    return (t // DAY_S) % 7 < WORKDAYS


def bump(t: Course, at: float, width: float) -> Course:
    """Return a hill of height 1 around an hour of every day, `width` hours to each side."""
    away = (hour(t) - at + 12) % 24 - 12
    return np.exp(-((away / width) ** 2))


def wander(rng: np.random.Generator, n: int, memory: float, size: float = 1.0) -> Course:
    """Return a first-order autoregressive course around 0.

    Args:
        rng: The source of chance.
        n: How long.
        memory: Readings after which 1/e of a deviation is left.
        size: Its standard deviation.
    """
    keep = np.exp(-1 / memory)
    steps = rng.normal(0, size * np.sqrt(1 - keep * keep), n)
    steps[0] = rng.normal(0, size)
    return lfilter([1.0], [1.0, -keep], steps)


def follow(x: Course, length: float) -> Course:
    """Return what follows `x` with a time constant of `length` readings, from its first value."""
    a = 1 / length
    return lfilter([a], [1.0, a - 1.0], x - x[0]) + x[0]


def turns(rng: np.random.Generator, n: int, length: int, states: int) -> Course:
    """Return 0, 1, … in turn, each for about `length` readings, give or take a third."""
    changes = np.cumsum(rng.integers(length * 2 // 3, length * 4 // 3, n * 2 // length + 2))
    return (np.searchsorted(changes, np.arange(n), side="right") % states).astype(float)


def pulses(rng: np.random.Generator, starts: NDArray[np.intp], n: int, shape: Course) -> Course:
    """Return `shape` laid down at each start, stretched by up to a fifth; later ones cover earlier."""
    out = np.zeros(n)
    for start in starts.tolist():
        length = max(2, int(len(shape) * rng.uniform(0.8, 1.2)))
        stop = min(n, start + length)
        stretched = np.interp(np.linspace(0, len(shape) - 1, length), np.arange(len(shape)), shape)
        out[start:stop] = stretched[: stop - start]
    return out
