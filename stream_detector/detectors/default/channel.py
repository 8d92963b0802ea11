"""What happens with one reading of one channel: the algorithm, view by view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.kernel import kernel
from stream_detector.detectors.default import bands, cover, dwell, hours, pace
from stream_detector.detectors.default.episodes import NEW_NORMAL
from stream_detector.detectors.default.views import BELOW, DWELL, HOUR, NOT_CRITICAL, SPREAD, STEP, VALUE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.detectors.default.memory import Channel

SETTLING = 5
"""The first readings are passed over: a sensor starts up."""
LARGEST = float(np.finfo(np.float32).max)

SPREAD_FACTOR, SPREAD_AT_LEAST = 1.6, 0.7
STEP_FACTOR, STEP_OF_RANGE = 2.0, 0.02
DECAY = 2.0 ** (-1 / 4000)
SMOOTHED = 24
QUIET = 1e-3
"""Of the range: a movement that is always there."""

SCORE, ANOMALOUS, ACCEPTED, SEEN, LOWER, UPPER, VIEW = range(7)
"""Places in a verdict."""


@kernel
def judge(m: Channel, x: float, ts: int, verdict: NDArray[np.float64]) -> None:
    """Judge one value of one channel, and learn it.

    Args:
        m: The channel, changed in place.
        x: The value; not NaN.
        ts: Event time, µs.
        verdict: Gets score (NaN: not judged yet), whether it is anomalous, whether a fault has become the new
            normal, and of the view that says most: what it saw, the band that it expected, and which it is.
    """
    verdict[:] = np.nan
    verdict[ANOMALOUS] = verdict[ACCEPTED] = verdict[VIEW] = 0.0
    pace.follow(m, x, ts)
    if m.seen <= SETTLING:
        return
    if m.known == 0:
        m.origin = x
    x = np.float64(np.float32(min(max(x - m.origin, -LARGEST), LARGEST)))
    was_open, low, high = m.open[VALUE] == 1, m.low, m.high
    score, way = cover.look(m, x, ts)
    _say(verdict, VALUE, score, x, low, high, way)
    if was_open or m.open[VALUE] == 1:
        m.recent = m.levels = m.dwell = 0  # no view mixes a fault with what comes after it
        if verdict[ANOMALOUS] == 1.0:
            verdict[LOWER], verdict[UPPER] = cover.expected(m, x, low, high)
    else:
        if m.broken:
            m.recent = 0
        moved = m.recent == 0 or x != m.one
        if not m.monotone:
            _by_hour(m, x, ts, verdict)
        _by_moves(m, x, ts, verdict)
        if not m.monotone and m.used > 1 and m.high > m.low:
            score, allowed, way = dwell.look(m, x, moved, ts)
            _say(verdict, DWELL, min(score, NOT_CRITICAL), m.dwell, 0.0, allowed, way)
        if not (m.monotone or m.open[HOUR] or m.open[DWELL]):
            hours.learn(m, x)
    _conclude(m, verdict)


@kernel
def _by_hour(m: Channel, x: float, ts: int, verdict: NDArray[np.float64]) -> None:
    level, mean, spread = hours.look(m, x, ts)
    if math.isnan(level):
        return
    center = m.center[HOUR]
    score, reach, way = bands.look(m, HOUR, level, ts, hours.FACTOR, hours.AT_LEAST, hours.DECAY)
    low, high = mean + (center - reach) * spread, mean + (center + reach) * spread
    _say(verdict, HOUR, min(score, NOT_CRITICAL), mean + level * spread, low, high, way)


@kernel
def _by_moves(m: Channel, x: float, ts: int, verdict: NDArray[np.float64]) -> None:
    """Look at steps that stay (the last two values against the two before), and at how much it moves."""
    if m.recent > 0:
        moved = abs(x - m.one)
        m.movement += (moved - m.movement) * max(1.0 / m.recent, 2.0 / (SMOOTHED + 1))
        if m.recent >= SMOOTHED and m.changing >= pace.CHANGING and not m.monotone:
            z = math.log(m.movement + QUIET * (m.high - m.low) + 1e-12)
            center = m.center[SPREAD]
            score, reach, way = bands.look(m, SPREAD, z, ts, SPREAD_FACTOR, SPREAD_AT_LEAST, DECAY)
            low, high = math.exp(center - reach), math.exp(center + reach)
            _say(verdict, SPREAD, min(score, NOT_CRITICAL), m.movement, low, high, way)
    if m.recent > 2:  # noqa: PLR2004 - it takes the three before
        z = max(0.0, min(x, m.one) - max(m.two, m.three)) + min(0.0, max(x, m.one) - min(m.two, m.three))
        center = m.center[STEP]
        score, reach, way = bands.look(m, STEP, z, ts, STEP_FACTOR, STEP_OF_RANGE * (m.high - m.low), DECAY)
        _say(verdict, STEP, min(score, NOT_CRITICAL), z, center - reach, center + reach, way)
    m.three, m.two, m.one = m.two, m.one, x
    m.recent += 1


@kernel
def _say(
    verdict: NDArray[np.float64], view: int, score: float, seen: float, low: float, high: float, way: int
) -> None:
    """Take over what a view says, if it says more than those before."""
    if way == NEW_NORMAL:
        verdict[ACCEPTED] = 1.0
    if math.isnan(score):
        return
    if math.isnan(verdict[SCORE]) or score > verdict[SCORE]:
        verdict[SCORE], verdict[SEEN], verdict[LOWER], verdict[UPPER] = score, seen, low, high
        verdict[VIEW] = view
    if score >= 1.0 and way != NEW_NORMAL:
        verdict[ANOMALOUS] = 1.0


@kernel
def _conclude(m: Channel, verdict: NDArray[np.float64]) -> None:
    """Settle what several views have said, in the channel's own units."""
    if verdict[ANOMALOUS] == 1.0:
        verdict[ACCEPTED] = 0.0
    elif verdict[SCORE] > BELOW:
        verdict[SCORE] = BELOW
    if verdict[VIEW] == VALUE or verdict[VIEW] == HOUR:
        verdict[SEEN] += m.origin
        verdict[LOWER] += m.origin
        verdict[UPPER] += m.origin
