"""The dwell: how long a channel stays about the same, by where in its range that is.

A tube of 8 % of the range opens at a reading and lasts as long as all readings since lie within such a width.
How many those are is compared with the longest dwell that was usual in that part of the range: twice as long,
and at least 80 readings, is unusual. So a compressor that no longer switches is found although all its values
are ordinary. A part of the range where the channel was hardly ever is not judged.
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
    hold,
    lasts,
    pass_time,
)
from stream_detector.detectors.default.memory import ZONES
from stream_detector.detectors.default.views import DWELL, FAR_PATIENCE_S, PATIENCE

if TYPE_CHECKING:
    from stream_detector.detectors.default.memory import Channel

WIDTH = 0.08
LONGER = 2.0
AT_LEAST = 80
KNOWN = 600
VISITS = 6
AT_MOST_LEARNED = 1.5
"""After a fault the usual dwell grows by half at most."""


@kernel
def look(m: Channel, x: float, moved: bool, ts: int) -> tuple[float, float, int]:  # noqa: FBT001
    """Judge a healthy value, at `ts` µs; one that has not moved at all is left to the rule `stuck`.

    Returns:
        The score (NaN: not judged); the dwell that is allowed, in readings; how the reading leaves
        the episode.
    """
    stricter = pass_time(m, DWELL)
    low, high = m.low, m.high
    way = GOES_ON
    if m.zones_low != low or m.zones_high != high:
        _divide_anew(m, low, high)
    if m.dwell > 0 and max(m.tube_high, x) - min(m.tube_low, x) > WIDTH * (high - low):
        way = _leave(m)
    if m.dwell == 0:
        m.tube_low = m.tube_high = x
    m.tube_low, m.tube_high = min(m.tube_low, x), max(m.tube_high, x)
    m.dwell += moved or m.dwell == 0
    zone = _zone(m)
    visits, usual = 0, 0.0
    for z in range(max(0, zone - 1), min(ZONES, zone + 2)):
        visits += m.visits[z]
        usual = max(usual, m.longest[z])
    if m.known < KNOWN or visits < VISITS:
        return np.nan, 0.0, way
    allowed = max(LONGER * usual, AT_LEAST) * stricter
    score = m.dwell / allowed
    if not m.open[DWELL] and score >= 1.0:
        begin(m, DWELL, ts)
    if m.open[DWELL] == 1:
        hold(m, DWELL, unusual=True)
        score = max(score, 1.0)
        if lasts(m, DWELL) >= PATIENCE and ts - m.since_ts[DWELL] >= FAR_PATIENCE_S * 1e6:
            way = NEW_NORMAL
            m.longest[zone] = max(m.longest[zone], m.dwell)
            end(m, DWELL, accepted=True)
    return score, allowed, way


@kernel
def _zone(m: Channel) -> int:
    middle = (m.tube_low + m.tube_high) / 2
    return int(min(ZONES - 1, max(0.0, (middle - m.zones_low) / (m.zones_high - m.zones_low) * ZONES)))


@kernel
def _leave(m: Channel) -> int:
    """Note how long the channel was in the tube that it leaves."""
    zone, way = _zone(m), GOES_ON
    usual = float(m.dwell)
    if m.open[DWELL] == 1:
        usual = min(usual, AT_MOST_LEARNED * max(float(m.longest[zone]), AT_LEAST / LONGER))
        end(m, DWELL, accepted=False)
        way = RETURNED
    m.longest[zone] = max(m.longest[zone], usual)
    m.visits[zone] = min(m.visits[zone] + 1, 1000)
    m.dwell = 0
    return way


@kernel
def _divide_anew(m: Channel, low: float, high: float) -> None:
    """Let the zones divide another range; a wider tube holds a channel for longer."""
    if m.zones_high > m.zones_low:
        longest, visits = m.longest.copy(), m.visits.copy()
        width, before = high - low, m.zones_high - m.zones_low
        longer = max(1.0, width / before)
        m.longest[:] = 0
        m.visits[:] = 0
        for z in range(ZONES):
            middle = m.zones_low + (z + 0.5) / ZONES * before
            to = int(min(ZONES - 1, max(0.0, (middle - low) / width * ZONES)))
            m.longest[to] = max(m.longest[to], longest[z] * longer)
            m.visits[to] = min(m.visits[to] + visits[z], 1000)
    m.zones_low, m.zones_high = low, high
