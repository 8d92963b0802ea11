"""How long a device may say nothing: learned from its own pauses between arrivals.

A steady device may pause for five of its usual pauses. One that speaks in bursts, sleeps at night or
reports only what changes has long pauses beside its short ones: it may pause for three of the longest
that are usual with it, up to eight while few of these are known. See `stream_detector.core.habits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream_detector.core.habits import (
    FADE,
    ONCE_TOLD,
    class_begin,
    commonest_class,
    size_class,
    usual_class,
    weight_near,
)
from stream_detector.core.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KNOWN = 20
"""So many pauses have to be known before a device can be silent."""
JUDGED = 5
"""From so many on, a pause that would be a silence counts as one for what is learned of it."""
CLASSES, SHORTEST = 56, 17
"""Classes of pauses, in half octaves from 2^17 µs (131 ms) up to 2^44 µs (200 days)."""

STEADY = 5.0
"""Allowed: so many of the commonest pause ..."""
SPREAD, MARGIN = 4.0, 2.5
"""... and so much of the longest usual one, where that is not longer than four of the commonest ..."""
LONG, SCARCE, MOST = 3.0, 10.0, 8.0
"""... else three of the longest, and 10 ÷ the weight of those as long more, eight in all at most."""

IRREGULAR_TOLD = 0.6
"""Weight of a pause that was told, with a device that often pauses for long: it is usual for a week."""
REGULAR = 0.9
"""A device is regular where so much of the weight is in two neighbouring classes."""

LOOKED_AT = 64
"""What is allowed is found anew with so many pauses, and where one is longer than usual, or weights fade."""
FADES_EVERY = 1.5 * 86_400e6
"""Weights fade by one step in this time, µs: half in thirty days."""
LASTING = 0.99
"""The longest recent pause fades by this with each arrival."""


class Pauses(NamedTuple):
    """The arrays of `registry.COLUMNS` that hold what is known of pauses, (devices,) unless said; µs.

    Attributes:
        cadence: The longest pause that is usual.
        allowed: How long the device may say nothing; 0: not known yet.
        recent: Slowly fading maximum of pauses that were not told.
        aged: Time since weights faded.
        weights: Of each class of pauses, (devices, CLASSES).
        arrivals: How many pauses were learned.
    """

    cadence: NDArray[np.float64]
    allowed: NDArray[np.float64]
    recent: NDArray[np.float64]
    aged: NDArray[np.float64]
    weights: NDArray[np.float32]
    arrivals: NDArray[np.int64]


@kernel
def learn(pauses: Pauses, s: int, pause: float, at_least: float) -> None:
    """Take a pause into account.

    Args:
        pauses: Changed in place.
        s: The device's slot.
        pause: Time between two arrivals, µs, more than 0.
        at_least: Quiet time that is always allowed, µs.
    """
    weights = pauses.weights[s]
    if pauses.allowed[s] == 0.0 and pauses.arrivals[s] > 0:
        # The row comes from a version that remembered only this.
        weights[size_class(pauses.cadence[s], SHORTEST, CLASSES)] += 1.0
        pauses.recent[s] = pauses.cadence[s]
        pauses.allowed[s] = STEADY * pauses.cadence[s]
    told = pauses.arrivals[s] >= JUDGED and pause >= max(at_least, pauses.allowed[s])
    place = size_class(pause, SHORTEST, CLASSES)
    if not told:
        weights[place] += 1.0
        pauses.recent[s] = max(pause, LASTING * pauses.recent[s])
    elif _regular(weights, pauses.cadence[s]):
        weights[place] += ONCE_TOLD
    else:
        weights[place] += IRREGULAR_TOLD
    pauses.arrivals[s] += 1
    pauses.aged[s] += min(pause, FADES_EVERY)
    if pauses.aged[s] >= FADES_EVERY:
        pauses.aged[s] -= FADES_EVERY
        for k in range(CLASSES):
            weights[k] *= FADE
    _allow(pauses, s, weights)


@kernel
def _regular(weights: NDArray[np.float32], cadence: float) -> bool:
    common = commonest_class(weights)
    total = 0.0
    for k in range(CLASSES):
        total += weights[k]
    together = weights[common] + (weights[common - 1] if common > 0 else 0.0)
    return together >= REGULAR * total and cadence < SPREAD * class_begin(common + 1, SHORTEST)


@kernel
def _exactly(place: int, recent: float) -> float:
    """Return the longest pause of a class, as exactly as it is known: else what lies in its middle."""
    begin, end = class_begin(place, SHORTEST), class_begin(place + 1, SHORTEST)
    return recent if begin <= recent < end else (begin + end) / 2


@kernel
def _allow(pauses: Pauses, s: int, weights: NDArray[np.float32]) -> None:
    longest = usual_class(weights)
    if longest < 0:
        return
    usual = _exactly(longest, pauses.recent[s])
    common = _exactly(commonest_class(weights), pauses.recent[s])
    margin = MARGIN
    if usual > SPREAD * common:
        margin = min(LONG + SCARCE / weight_near(weights, longest), MOST)
    pauses.cadence[s] = usual
    pauses.allowed[s] = max(STEADY * common, margin * usual)
