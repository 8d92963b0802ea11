"""The hour of the day: what is usual now, on weekdays and at weekends, and how far from it the readings are.

Each of 48 slots keeps the mean of its days and the mean distance from it, both over about ten days. How far
readings are from their hours' means, and those hours' spreads, are smoothed over 24 readings: their quotient
is what is judged, as a band (`bands.py`). A slot says something from its second day on, as the first gives no
spread. All that only where the hour explains something: where the hours' spread is well below that of all
readings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.kernel import kernel

if TYPE_CHECKING:
    from stream_detector.detectors.default.memory import Channel

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
WEEKDAYS = 5
THURSDAY = 3
"""The day of the week of 1970-01-01, from Monday."""
LEAST_WEIGHT = 0.1
"""A day counts for at least a tenth of the mean of its hour."""
FIRST_HOURS = 72
EXPLAINS = 0.7
FLOOR = 0.3
"""An hour's spread is at least this share of the typical one, ..."""
OF_RANGE = 0.02
"""... and at least this share of the channel's range, ..."""
UNCERTAIN = 2.0
"""... and larger while few days are known: times 1 + 2 / days."""
UNKNOWN = 3.0
"""An hour with a single day has three times the typical spread."""
FARTHEST = 8.0
SMOOTHED = 24
DECAY = 2.0 ** (-1 / 2000)
FACTOR = 0.8
AT_LEAST = 3.5
SLOWEST = 0.0005


@kernel
def look(m: Channel, x: float, ts: int) -> tuple[float, float, float]:
    """Return the level (NaN where nothing can be said), and mean and spread of the hours that it is about."""
    day = ts // DAY_US
    hour = ts % DAY_US // HOUR_US
    slot = int(hour if (day + THURSDAY) % 7 < WEEKDAYS else hour + 24)
    if m.slot != slot + 1 or m.day != day:
        _complete(m)
        m.slot, m.day = slot + 1, day
    if m.hour_days[slot] == 0 or m.hours < FIRST_HOURS:
        return np.nan, np.nan, np.nan
    m.judged += 1
    slowly = max(1.0 / m.judged, SLOWEST)
    m.mean += (x - m.mean) * slowly
    m.deviation += (abs(x - m.mean) - m.deviation) * slowly
    spread = UNKNOWN * m.typical
    if m.hour_days[slot] > 1:
        spread = m.hour_spread[slot] * (1.0 + UNCERTAIN / m.hour_days[slot])
        m.compared += 1
        m.typical += (spread - m.typical) * max(1.0 / m.compared, 2 * SLOWEST)
    spread = max(spread, FLOOR * m.typical, OF_RANGE * (m.high - m.low))
    if spread <= 0.0:
        return np.nan, np.nan, np.nan
    mean = float(m.hour_mean[slot])
    away = min(max(x - mean, -FARTHEST * spread), FARTHEST * spread)
    m.levels += 1
    lately = max(1.0 / m.levels, 2.0 / (SMOOTHED + 1))
    m.away_lately += (away - m.away_lately) * lately
    m.mean_lately += (mean - m.mean_lately) * lately
    m.spread_lately += (spread - m.spread_lately) * lately
    level = m.away_lately / m.spread_lately
    if m.levels < SMOOTHED or m.typical >= EXPLAINS * m.deviation:
        level = np.nan
    return level, m.mean_lately, m.spread_lately


@kernel
def learn(m: Channel, x: float) -> None:
    """Add a healthy reading to its hour; `look` has set which one that is."""
    m.total += x
    m.count += 1
    slot = m.slot - 1
    if m.hour_days[slot] > 0:
        m.away += abs(x - m.hour_mean[slot])


@kernel
def _complete(m: Channel) -> None:
    """Let the hour that is over become a part of what is usual."""
    if m.slot > 0 and m.count > 0:
        slot = m.slot - 1
        if m.hour_days[slot] < 255:  # noqa: PLR2004 - what a byte holds
            m.hour_days[slot] += 1
        days = int(m.hour_days[slot])
        mean, away = m.total / m.count, m.away / m.count
        if days == 1:
            m.hour_mean[slot] = mean
        else:
            spread = float(m.hour_spread[slot])
            m.hour_spread[slot] = spread + (away - spread) * max(1.0 / (days - 1), LEAST_WEIGHT)
            before = float(m.hour_mean[slot])
            m.hour_mean[slot] = before + (mean - before) * max(1.0 / days, LEAST_WEIGHT)
        m.hours += 1
    m.total = m.away = 0.0
    m.count = 0
