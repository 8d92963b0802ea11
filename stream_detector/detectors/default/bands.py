"""Bands: views whose usual range is a center and how far they went from it, above and below, lately.

    score = (z - center) / up  or  (center - z) / down, over a factor; 1.0 is the threshold

`up` and `down` are maxima that decay by half in some thousands of readings, so what was usual once is not for
ever. While an episode is open nothing is learned from what is unusual; what has come and gone is learned by
half, so the third time it is a habit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.kernel import kernel
from stream_detector.detectors.default.episodes import (
    GOES_ON,
    NEW_NORMAL,
    RETURNED,
    begin,
    end,
    has_returned,
    hold,
    lasts,
    pass_time,
)
from stream_detector.detectors.default.views import BELOW, PATIENCE

if TYPE_CHECKING:
    from stream_detector.detectors.default.memory import Channel

WARM_UP = 200
HOLD = 0.7
HOLD_OF_PEAK = 0.5
FORGIVEN = 0.5
"""The share of an episode's extreme that is learned when it has returned."""
TINY = 1e-12


@kernel
def look(
    m: Channel, view: int, z: float, ts: int, factor: float, at_least: float, decay: float
) -> tuple[float, float, int]:
    """Judge what a view sees, and learn it.

    Args:
        m: The channel, with this reading counted.
        view: Which one.
        z: What it sees.
        ts: Event time, µs.
        factor: How much farther than before is unusual.
        at_least: What is closer to the center than that is not, whatever came before.
        decay: Of `up` and `down`, in one reading.

    Returns:
        The score, NaN while too little is known; the half width of the band that it was judged by, on the
        side of `z`; how the reading leaves the episode.
    """
    stricter = pass_time(m, view)
    away = z - m.center[view]
    reach = max(factor * stricter * (m.up[view] if away > 0 else m.down[view]), at_least, TINY)
    is_warm = m.learned[view] >= WARM_UP
    score = abs(away) / reach if is_warm else 0.0
    if not m.open[view] and score >= 1.0:
        begin(m, view, ts)
        m.extreme[view] = 0.0
    is_open, held, way = m.open[view] == 1, False, GOES_ON
    if is_open:
        m.peak[view] = max(m.peak[view], score)
        if abs(away) > abs(m.extreme[view]):
            m.extreme[view] = away
        held = score >= max(HOLD, HOLD_OF_PEAK * m.peak[view])
        hold(m, view, held)
        if has_returned(m, view):
            way = RETURNED
        elif lasts(m, view) >= PATIENCE:
            way = NEW_NORMAL
        if way != GOES_ON:
            _settle(m, view, away, way)
    if not is_open or way != GOES_ON or score < HOLD:
        _learn(m, view, away, decay)
    if not is_warm:
        return np.nan, reach, way
    return (max(score, 1.0) if held else min(score, BELOW)), reach, way


@kernel
def _learn(m: Channel, view: int, away: float, decay: float) -> None:
    m.learned[view] += 1
    m.up[view] = max(decay * m.up[view], away)
    m.down[view] = max(decay * m.down[view], -away)
    m.center[view] += max(1.0 / m.learned[view], 1.0 - decay) * away


@kernel
def _settle(m: Channel, view: int, away: float, way: int) -> None:
    """End the episode, and learn of it."""
    extreme = m.extreme[view]
    if extreme > 0:
        m.up[view] = max(m.up[view], m.up[view] + FORGIVEN * (extreme - m.up[view]))
    else:
        m.down[view] = max(m.down[view], m.down[view] + FORGIVEN * (-extreme - m.down[view]))
    if way == NEW_NORMAL:
        m.up[view] = max(m.up[view], away)
        m.down[view] = max(m.down[view], -away)
    end(m, view, way == NEW_NORMAL)
