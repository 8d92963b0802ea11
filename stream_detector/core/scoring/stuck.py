"""Whether a value is stuck: it came again more often in a row than is usual with the channel.

A run is a row of equal values. How long runs may be is learned from the channel's own ones: a noisy
temperature has none, a coarse one has long ones, a counter stands still at night. What is usual is found
in a histogram of runs (`stream_detector.core.habits`), and three of the longest usual run are allowed.

    power      0 0 0 0 0 0 0 0 0 3 7 9 8 9 6 4 1 0 0 0 0 0 0 0 0 0 2 ...     0 at night is no reason
                                     ^ stuck here is found at once            to allow that to 9 at noon

So a value at which the channel rests again and again has a place of its own: what is long at that value
is usual there, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.devices.table import Column
from stream_detector.core.habits import (
    FADE,
    ONCE_TOLD,
    class_begin,
    size_class,
    usual_class,
    weight_near,
)
from stream_detector.core.kernel import kernel
from stream_detector.core.scoring.detector import MAX_SCORE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

CLASSES, SHORTEST = 28, 2
"""Classes of runs, in half octaves from 4 repeats up to 2^15."""
RESTS = 4
"""Values at which a channel rests."""

JUDGED = 20
"""A channel that has changed less often may well be a setpoint or a switch."""
AT_LEAST, YOUNG = 16.0, 4000.0
"""So many repeats are always allowed, and this ÷ changes more: the less is known of a channel."""
DAY, NIGHT, SLOW = 86_400e6, 54_000e6, 10e6
"""On its first day a channel that is read every 10 s, or more slowly, may rest for a night of 15 h; in µs."""
MARGIN, SCARCE, MOST = 3.0, 1.0, 4.0
"""Allowed: three of the longest usual run, and 1 ÷ the weight of those as long more, four at most."""
DOUBTFUL = 0.6
"""Weight of a run that was not told because the channel is young: usual for a week, unless it comes again."""
EXTENDED = 4
"""What was told of a value at which the channel rests is learned up to so many times what was usual."""
NOTED, REST = 4, 8
"""Repeats from which a run is learned, and from which its value may be one at which the channel rests."""
ON_ITS_OWN = 1.5
"""A value that has weight above this is one at which the channel rests: it has done so twice."""
FADES_EVERY = 129_600_000_000
"""Weights fade by one step in this time, µs (36 h), and once a run: half in thirty days, or in 20 runs."""
LOOKED_AT = 512
"""Where there are no runs, that is looked at once in so many changes."""

COLUMNS: Mapping[str, Column] = {
    "value": Column(np.float64, per_channel=True, fill=np.nan),
    "repeats": Column(np.int64, per_channel=True),  # how often the value came again
    "longest": Column(np.int64, per_channel=True),  # most repeats that were no reason to say so
    "changes": Column(np.int64, per_channel=True),
    "limit": Column(np.int64, per_channel=True),  # how many repeats are allowed in this run; 0: not asked yet
    "runs": Column(np.float32, (CLASSES,), per_channel=True),  # weights, of runs at no value of their own
    "since": Column(np.int64, per_channel=True),  # event time of the first value, µs
    "faded": Column(np.int64, per_channel=True),  # event time at which the weights were looked at, µs
    "rest": Column(np.float64, (RESTS,), per_channel=True, fill=np.nan),  # the value; the last noted first
    "rest_longest": Column(np.int32, (RESTS,), per_channel=True),
    "rest_weight": Column(np.float32, (RESTS,), per_channel=True),
}


class StuckState(NamedTuple):
    """The arrays of `COLUMNS`, (devices, channels) or (devices, channels, …)."""

    value: NDArray[np.float64]
    repeats: NDArray[np.int64]
    longest: NDArray[np.int64]
    changes: NDArray[np.int64]
    limit: NDArray[np.int64]
    runs: NDArray[np.float32]
    since: NDArray[np.int64]
    faded: NDArray[np.int64]
    rest: NDArray[np.float64]
    rest_longest: NDArray[np.int32]
    rest_weight: NDArray[np.float32]


class Stuck(NamedTuple):
    """How stuck values are, and what is usual at that moment; (n, channels) unless said.

    Attributes:
        score: Repeats / allowed repeats; 0 while the channel is not judged.
        worst: The highest score of each reading, (n,).
        usual: Most repeats that are usual at that value, where there are more than allowed; else 0.
        allowed: How many repeats are allowed; 0 after fewer than always are.
        changes: How often the channel has changed.
    """

    score: NDArray[np.float64]
    worst: NDArray[np.float64]
    usual: NDArray[np.int64]
    allowed: NDArray[np.float64]
    changes: NDArray[np.int64]

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Stuck:
        """Return what is said of values that nobody judges."""
        score, allowed = np.zeros(shape), np.zeros(shape)
        return cls(
            score,
            np.zeros(shape[0]),
            np.zeros(shape, dtype=np.int64),
            allowed,
            np.zeros(shape, dtype=np.int64),
        )


def stuck(
    state: StuckState, rows: NDArray[np.int32], values: NDArray[np.float64], ts: NDArray[np.int64]
) -> Stuck:
    """Count how often values come again, in arrival order.

    Args:
        state: Changed in place.
        rows: The device's row of each reading, (n,).
        values: (n, channels); NaN: not reported, the channel stays as stuck as it was.
        ts: Event time, µs, (n,).
    """
    out = Stuck.none(values.shape)
    _stuck(rows, values, ts, state, out)
    return out


@kernel
def _stuck(  # noqa: C901 - one pass over memory
    rows: NDArray[np.int32],
    values: NDArray[np.float64],
    ts: NDArray[np.int64],
    state: StuckState,
    out: Stuck,
) -> None:
    last, repeats, changes, limit = state.value, state.repeats, state.changes, state.limit
    score, worst, usual_then, allowed_then, changes_then = (
        out.score,
        out.worst,
        out.usual,
        out.allowed,
        out.changes,
    )
    n, channels = values.shape
    for i in range(n):
        r = rows[i]
        for c in range(channels):
            x = values[i, c]
            if x == last[r, c]:
                repeats[r, c] += 1
            elif not np.isnan(x):
                if repeats[r, c] < NOTED:
                    state.longest[r, c] = max(state.longest[r, c], repeats[r, c])
                if repeats[r, c] >= NOTED or changes[r, c] % LOOKED_AT == LOOKED_AT - 1:
                    _learn(state, r, c, ts[i])
                if np.isnan(last[r, c]):
                    state.since[r, c] = ts[i]
                else:
                    changes[r, c] += 1
                repeats[r, c] = limit[r, c] = 0
                last[r, c] = x
            changes_then[i, c] = changes[r, c]
            if changes[r, c] >= JUDGED and repeats[r, c] >= AT_LEAST:
                # What is allowed hardly changes in a run: asked for once, and again where it is reached.
                if limit[r, c] == 0 or limit[r, c] == repeats[r, c]:
                    limit[r, c] = _allowed(state, r, c, ts[i])
                allowed_then[i, c] = limit[r, c]
                if repeats[r, c] >= limit[r, c]:
                    usual_then[i, c] = _known(state, r, c)[0]
                # A quotient of whole numbers has no digits that need rounding.
                score[i, c] = min(repeats[r, c] / limit[r, c], MAX_SCORE)
                worst[i] = max(worst[i], score[i, c])


@kernel
def _margin(weight: float) -> float:
    return min(MARGIN + SCARCE / weight, MOST)


@kernel
def _usual(state: StuckState, r: int, c: int) -> tuple[float, float]:
    """Return the longest usual run, and how many are allowed: of values of no place of their own."""
    runs = state.runs[r, c]
    place = usual_class(runs)
    if place < 0 and state.faded[r, c] == 0:  # a row of a version that remembered only the longest
        return float(state.longest[r, c]), MOST * state.longest[r, c]
    if place < 0:
        return min(float(state.longest[r, c]), NOTED - 1.0), 0.0
    begin, end = class_begin(place, SHORTEST), class_begin(place + 1, SHORTEST)
    exact = float(state.longest[r, c])
    usual = exact if begin <= exact < end else np.floor((begin + end) / 2)
    return usual, usual * _margin(weight_near(runs, place))


@kernel
def _known(state: StuckState, r: int, c: int) -> tuple[float, float]:
    """Return the longest run that is usual at the present value, and how many repeats that allows."""
    usual, allowed = _usual(state, r, c)
    k = _place(state, r, c)
    if k >= 0 and state.rest_weight[r, c, k] > ON_ITS_OWN and state.rest_longest[r, c, k] > usual:
        usual = float(state.rest_longest[r, c, k])
        allowed = max(allowed, usual * _margin(state.rest_weight[r, c, k]))
    return usual, max(allowed, AT_LEAST)


@kernel
def _allowed(state: StuckState, r: int, c: int, ts: int) -> int:
    """Return how many repeats are allowed at the present value."""
    _, allowed = _known(state, r, c)
    changes = max(state.changes[r, c], 1)
    interval = (ts - state.since[r, c]) / (changes + state.repeats[r, c])  # of readings, at most
    if interval >= SLOW and interval * changes < DAY:
        allowed = max(allowed, NIGHT / interval)
    return int(max(allowed, AT_LEAST + YOUNG / changes))


@kernel
def _place(state: StuckState, r: int, c: int) -> int:
    """Return where the present value stands among those at which the channel rests; -1: nowhere."""
    for k in range(RESTS):
        if state.rest[r, c, k] == state.value[r, c] and state.rest_weight[r, c, k] > 0.0:
            return k
    return -1


@kernel
def _learn(state: StuckState, r: int, c: int, ts: int) -> None:
    """Take a run that has ended into account."""
    runs, repeats = state.runs[r, c], state.repeats[r, c]
    if state.faded[r, c] == 0 and state.longest[r, c] >= NOTED:
        runs[size_class(float(state.longest[r, c]), SHORTEST, CLASSES)] += 1.0
    if ts - state.faded[r, c] >= FADES_EVERY:
        state.faded[r, c] = ts
        for k in range(CLASSES):
            runs[k] *= FADE
    if repeats < NOTED:
        return
    usual, known = _known(state, r, c)
    told = state.changes[r, c] >= JUDGED and 0 < state.limit[r, c] <= repeats
    k = _place(state, r, c)
    if k >= 0:
        _rested(state, r, c, k, told)
        return
    weight = 1.0
    if told:
        weight = ONCE_TOLD
    elif repeats >= known:
        weight = DOUBTFUL
    runs[size_class(float(repeats), SHORTEST, CLASSES)] += weight
    if not told:
        state.longest[r, c] = max(state.longest[r, c], repeats)
    if repeats >= REST and 2 * repeats >= usual:
        _note(state, r, c, weight)


@kernel
def _rested(state: StuckState, r: int, c: int, k: int, told: bool) -> None:  # noqa: FBT001 - a kernel
    """Take a run at a noted value into account; with the second one it is a value of its own."""
    repeats, longest, weight = state.repeats[r, c], state.rest_longest[r, c, k], state.rest_weight[r, c, k]
    if weight <= ON_ITS_OWN:
        if repeats < REST or 4 * repeats < longest:
            state.runs[r, c, size_class(float(repeats), SHORTEST, CLASSES)] += 1.0
            return
        # Its first run is no reason any more to allow others as much.
        first = size_class(float(longest), SHORTEST, CLASSES)
        state.runs[r, c, first] = max(state.runs[r, c, first] - weight, 0.0)
        state.rest_weight[r, c, k] = 2.0
        state.rest_longest[r, c, k] = max(longest, repeats)
        return
    if 4 * repeats >= longest:
        state.rest_weight[r, c, k] += 1.0
    # What was told is learned, but not as far as it went.
    state.rest_longest[r, c, k] = max(longest, min(repeats, EXTENDED * longest) if told else repeats)


@kernel
def _note(state: StuckState, r: int, c: int, weight: float) -> None:
    """Note the present value as one at which the channel may rest, in place of one that matters less."""
    rest, longest, weights = state.rest[r, c], state.rest_longest[r, c], state.rest_weight[r, c]
    place = -1
    for k in range(RESTS):  # the one noted longest ago that did not come again
        if weights[k] <= ON_ITS_OWN:
            place = k
    if place < 0:  # all are values of their own: perhaps one with shorter runs
        for k in range(RESTS):
            if longest[k] < state.repeats[r, c] and (place < 0 or longest[k] < longest[place]):
                place = k
        if place < 0:
            return
        state.runs[r, c, size_class(float(longest[place]), SHORTEST, CLASSES)] += 1.0
        state.longest[r, c] = max(state.longest[r, c], longest[place])
    for k in range(place, 0, -1):
        rest[k], longest[k], weights[k] = rest[k - 1], longest[k - 1], weights[k - 1]
    rest[0], longest[0], weights[0] = state.value[r, c], state.repeats[r, c], weight
