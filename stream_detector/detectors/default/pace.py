"""How a channel reports: how often, how often it changes, and whether it only ever rises or falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.core.kernel import kernel

if TYPE_CHECKING:
    from stream_detector.detectors.default.memory import Channel

COARSE_CHANGES = 20
"""A channel that has changed less often is not known by its range: it may be a setpoint, or hardly move."""
CHANGING = 0.5
"""A channel whose value changes in at least this share of its readings has a spread that says something."""
SLOW_S = 10.0
"""Devices that report less often are given a day to be known, as days have their own pattern."""
DAY_S = 86_400.0

RESTED = 16
GAP = 10.0
"""What follows so many equal values, or a gap of so many intervals, is a beginning."""

MOVES = 60
MONOTONE, NOT_MONOTONE = 0.01, 0.03
"""A channel is monotone once at most 1 % of its moves are against the rest, until more than 3 % are."""


@kernel
def follow(m: Channel, x: float, ts: int) -> None:
    """Take note of a reading, at `ts` µs."""
    if m.seen == 0:
        m.first_ts = ts
    else:
        gap = max(0.0, (ts - m.last_ts) / 1e6)
        moved = x != m.last
        m.broken = (moved and m.repeats >= RESTED) or (m.seen > RESTED and gap > GAP * m.interval)
        m.repeats = 0 if moved else m.repeats + 1
        m.interval += (gap - m.interval) * max(1.0 / m.seen, 0.01)
        m.rises += x > m.last
        m.falls += x < m.last
        m.changes += moved
        m.changing += (moved - m.changing) * max(1.0 / m.seen, 0.002)
        moves = m.rises + m.falls
        if moves >= MOVES:
            against = min(m.rises, m.falls) / moves
            m.monotone = against <= (NOT_MONOTONE if m.monotone else MONOTONE)
    m.seen += 1
    m.last = x
    m.last_ts = ts


@kernel
def is_slow(m: Channel) -> bool:
    """Return whether the channel reports so rarely that its age in days matters."""
    return bool(m.interval >= SLOW_S)


@kernel
def age_days(m: Channel) -> float:
    """Return how long the channel is known, by event time."""
    return float((m.last_ts - m.first_ts) / 1e6 / DAY_S)
