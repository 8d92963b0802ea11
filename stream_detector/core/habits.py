"""What sizes are usual: weights of past ones in classes of half an octave, that fade.

The rules judge how long something lasts (a pause, a run of one value) by how long it has lasted before.
One maximum cannot say that: it forgets a rare habit among many short ones, or keeps an outage for ever.
So each size adds weight to its class, all weights fade with time, and usual is what has weight enough:

    size      ... 1   1.5   2   3   4   6   8  12  16 ...     a class begins at each of these, times 2^n
    weight        0   40  900  60   0   0   0   1   0         usual: up to the class of 12

What ended in an alert adds less than it takes to be usual, unless it comes again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from stream_detector.core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

USUAL = 0.5
"""So much weight makes a size usual, together with what is larger."""
ONCE_TOLD = 0.3
"""Weight of what ended in an alert: it is usual when it has come twice within some days."""
FADE = 2.0 ** (-1 / 20)
"""What is left of each weight after one step of fading: half after twenty."""


@kernel
def size_class(size: float, smallest: int, classes: int) -> int:
    """Return the class of a size: 0 below 2^smallest, then two an octave; the last one is open."""
    mantissa, exponent = math.frexp(size)  # size = mantissa · 2^exponent, and the mantissa is in [1/2, 1)
    place = 2 * (exponent - 1 - smallest) + 1 + (1 if mantissa >= 0.75 else 0)  # noqa: PLR2004
    return min(max(place, 0), classes - 1)


@kernel
def class_begin(place: int, smallest: int) -> float:
    """Return the smallest size of a class; that of class 0 is 0."""
    if place <= 0:
        return 0.0
    half = (place - 1) % 2
    return math.ldexp(1.5 if half else 1.0, smallest + (place - 1) // 2)


@kernel
def usual_class(weights: NDArray[Any]) -> int:
    """Return the largest class that is usual; -1: none is.

    Args:
        weights: Of one habit, (classes,).
    """
    total = 0.0
    for place in range(weights.shape[0] - 1, -1, -1):
        total += weights[place]
        if total >= USUAL:
            return place
    return -1


@kernel
def weight_near(weights: NDArray[Any], place: int) -> float:
    """Return the weight of a class, of those up to an octave below it, and of all above."""
    total = 0.0
    for each in range(max(place - 2, 0), weights.shape[0]):
        total += weights[each]
    return total


@kernel
def commonest_class(weights: NDArray[Any]) -> int:
    """Return the upper one of the two neighbouring classes that have most weight together."""
    best, most = 0, weights[0]
    for place in range(1, weights.shape[0]):
        both = weights[place - 1] + weights[place]
        # The upper of two is empty where the habit has only one class.
        if both > most and weights[place] > 0.0:
            best, most = place, both
    return best
