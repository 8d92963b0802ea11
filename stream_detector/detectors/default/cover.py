"""The value: novelty against everything seen, in units of the historical range, with quarantine.

A channel's values are covered by up to 64 prototypes. How far a value lies from the nearest one, divided by
the range, is comparable over devices without any training:

    d = min |x - prototype| / range          range: of the readings before this one
    novelty = log10(1 + 20 d) * t / (t + 300)    if d > 1/32, else 0; t readings were learned from

Two sets of the same prototypes answer two questions. *Everything* raises: a value is news if it is unlike all
that was seen, and a record, so that nothing is told twice. The *baseline* holds: prototypes of a fault are in
quarantine, and as long as readings are unlike the baseline, the fault goes on, whatever else was seen.

    raised        novelty against everything >= THRESHOLD, and higher than a maximum that decays over 200
                  readings; or again near a quarantined prototype, far from the baseline
    held          novelty against the baseline >= HOLD, and at least half of the episode's peak
    returned      ten readings in a row are not held; the episode's prototypes stay in quarantine if it went
                  far and did not come often, else they are learned
    new normal    it lasts; all are learned

A value that comes alone, between usual ones, is told three times; then such a value has to be confirmed by
the next reading, or to lie a whole range away. Where the numbers come from: docs/detection.md.
"""

from __future__ import annotations

import math
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
from stream_detector.detectors.default.memory import PROTOTYPES
from stream_detector.detectors.default.pace import COARSE_CHANGES, age_days, is_slow
from stream_detector.detectors.default.views import (
    BELOW,
    FAR_PATIENCE_S,
    HELD_LONG,
    NOT_CRITICAL,
    PATIENCE,
    VALUE,
)

if TYPE_CHECKING:
    from stream_detector.detectors.default.memory import Channel

NEAR = 1 / 32
"""Of the range: closer than that is the same value."""
GAIN = 20.0
DAMPING = 300.0
WARM_UP = 15
RECORD_LENGTH = 200.0
THRESHOLD = 0.28
HOLD = 0.23
HOLD_OF_PEAK = 0.5
FARTHEST = 1000.0
"""Distances are capped, in ranges."""

LEARNED_WITHIN = 0.25
"""An episode that stayed so close to the baseline, in ranges, is learned when it is over."""
HABIT, FAR_HABIT = 3, 4
"""What has come in so many episodes is a habit, and learned; the latter where it lies a range away."""
FAR = 1.0
BEYOND = 3.0
"""What lies farther than that, in ranges, does not even stretch the range of everything."""
NEAR_THE_RANGE = 0.35
FAR_KNOWN = 300
MOSTLY = 0.05
"""A fault never came near to what was known if at most 5 % of its readings were within 0.35 ranges of it."""

ISOLATED = 2.5
ISOLATED_DECAY = 2.0 ** (-1 / 20_000)
CONFIRMS = 0.3
"""The next reading confirms an isolated one if it goes at least so far beyond the old range, as a share."""

SHORT = 10
"""A fault of at most so many readings, three ranges away, is no state that a device may have."""
YOUNG_DAYS = 1.0
YOUNG_PATIENCE = 100
MONOTONE_PATIENCE = 20
"""What a counter says after a reset is its new normal."""
CAUTION, CAUTIOUS_DAYS = 0.6, 2.0
"""In its first two days a slow channel has to be more unusual, at first by two thirds."""


@kernel
def distances(m: Channel, x: float) -> tuple[int, float, float]:
    """Return the nearest prototype, its distance, and that of the nearest one of the baseline."""
    nearest, of_all, of_baseline = 0, np.inf, np.inf
    for p in range(m.used):
        gap = abs(x - m.prototypes[p])
        if gap < of_all:
            of_all, nearest = gap, p
        if gap < of_baseline and not m.quarantined[p]:
            of_baseline = gap
    return nearest, of_all, of_baseline


@kernel
def novelty(d: float, confidence: float) -> float:
    """Return how new something is that lies `d` ranges away."""
    return math.log10(1.0 + GAIN * d) * confidence if d > NEAR else 0.0


@kernel
def is_young(m: Channel) -> bool:
    """Return whether the channel is still getting known: then only short faults far away stay quarantined."""
    return is_slow(m) and age_days(m) < YOUNG_DAYS


@kernel
def smallest_range(m: Channel, x: float) -> float:
    """Return what the range is at least."""
    least = 1e-9 + 1e-6 * abs(x)
    return max(least, 0.5 * m.largest) if m.changes < COARSE_CHANGES else least


@kernel
def look(m: Channel, x: float, ts: int) -> tuple[float, int]:  # noqa: C901, PLR0912, PLR0915 - one pass
    """Judge a value and learn it.

    Args:
        m: The channel, with this reading counted.
        x: The value, minus `origin`.
        ts: Event time, µs.

    Returns:
        The score (1.0 is the threshold; NaN where there is none yet), and how the reading leaves the episode.
    """
    stricter = pass_time(m, VALUE)
    m.isolated *= ISOLATED_DECAY
    m.known += 1
    if m.used == 0:
        m.prototypes[0], m.visited[0], m.used = x, m.seen, 1
        m.low = m.high = m.low_all = m.high_all = x
        m.largest = abs(x + m.origin)
        return np.nan, GOES_ON
    nearest, gap, base_gap = distances(m, x)
    least = smallest_range(m, x + m.origin)
    d = min(gap / max(m.high_all - m.low_all, least), FARTHEST)
    base = max(m.high - m.low, least)
    d_base = min(base_gap / base, FARTHEST)

    # How new it is, to everything and to the baseline.
    known = m.changes >= COARSE_CHANGES or m.largest > 0.0
    is_warm = m.known >= WARM_UP and known
    confidence = m.known / (m.known + DAMPING) if is_warm else 0.0
    if is_slow(m):
        confidence *= min(1.0, CAUTION + (1.0 - CAUTION) * age_days(m) / CAUTIOUS_DAYS)
    s, s_base = novelty(d, confidence), novelty(d_base, confidence)
    threshold = THRESHOLD * stricter
    is_record = s > m.record * max(0.0, 1.0 - (m.seen - m.record_at) / RECORD_LENGTH)
    if is_record:
        m.record, m.record_at = s, m.seen

    # Raised?
    was_open = m.open[VALUE] == 1
    raised, confirmed, awaits = False, False, False
    if not was_open:
        raised = is_record and s >= threshold
        again = (
            m.quarantined[nearest] == 1
            and d <= NEAR
            and d_base >= LEARNED_WITHIN
            and m.episodes[nearest] < (FAR_HABIT if d_base >= FAR else HABIT)
            and s_base >= threshold
        )
        if m.pending > 0:
            confirmed = _goes_as_far(m, x)
        if raised and not again and m.isolated > ISOLATED and d_base < FAR and not m.low <= x <= m.high:
            raised, awaits = False, True
        raised = raised or again or confirmed
    if m.pending > 0:
        if confirmed:
            p = m.pending - 1
            m.quarantined[p], m.episode_of[p], m.episodes[p] = 1, m.episode + 1, 1
            _, _, base_gap = distances(m, x)
            d_base = min(base_gap / base, FARTHEST)
            s_base = novelty(d_base, confidence)
        else:
            pending = np.float64(m.prototypes[m.pending - 1])
            m.low, m.high = min(m.low, pending), max(m.high, pending)
        m.pending = 0
    if raised:
        m.episode += 1
        m.farthest = 0.0
        if begin(m, VALUE, ts):
            m.near = m.readings = 0
        m.peak[VALUE] = max(s, s_base)

    # Held, and ended?
    score = max(s, s_base) / threshold
    is_open = m.open[VALUE] == 1
    held, way = False, GOES_ON
    if is_open:
        m.peak[VALUE] = max(m.peak[VALUE], s_base)
        held = s_base >= max(HOLD, HOLD_OF_PEAK * m.peak[VALUE])
        hold(m, VALUE, held)
        if held:
            m.farthest = max(m.farthest, d_base)
        m.readings += 1
        m.near += max(x - m.high, m.low - x) / base < NEAR_THE_RANGE
        if has_returned(m, VALUE):
            way = RETURNED
        elif _is_accepted(m, ts):
            way = NEW_NORMAL
    score = max(score, 1.0) if held else min(score, BELOW)
    is_gross = d_base >= FAR and m.isolated <= ISOLATED and m.changes >= COARSE_CHANGES
    if not is_gross and not (is_open and m.held[VALUE] >= HELD_LONG and m.changes >= COARSE_CHANGES):
        score = min(score, NOT_CRITICAL)
    is_fault = is_open and s_base >= HOLD and way != RETURNED

    _learn(m, x, nearest, d, is_fault, awaits)
    if way != GOES_ON:
        _settle(m, way)
    return score if is_warm else np.nan, way


@kernel
def expected(m: Channel, x: float, low: float, high: float) -> tuple[float, float]:
    """Return where a value would have been usual: the range, or what is nearest to it in the range.

    Args:
        m: The channel.
        x: The value, which is far from the baseline.
        low: Of the baseline before it.
        high: The same.
    """
    if not low <= x <= high:
        return low, high
    middle, gap = low, np.inf
    for p in range(m.used):
        if not m.quarantined[p] and abs(x - m.prototypes[p]) < gap:
            middle, gap = np.float64(m.prototypes[p]), abs(x - m.prototypes[p])
    reach = min(NEAR * (high - low), 0.99 * gap)
    return middle - reach, middle + reach


@kernel
def _goes_as_far(m: Channel, x: float) -> bool:
    """Return whether a reading confirms the one before, which went beyond the range that was known then."""
    pending = np.float64(m.prototypes[m.pending - 1])
    if pending > m.pending_high:
        return bool(x > m.pending_high + CONFIRMS * (pending - m.pending_high))
    return bool(x < m.pending_low - CONFIRMS * (m.pending_low - pending))


@kernel
def _is_accepted(m: Channel, ts: int) -> bool:
    """Return whether an episode has lasted for so long that it is the new normal."""
    if m.monotone:
        return lasts(m, VALUE) >= MONOTONE_PATIENCE
    if is_young(m):
        return lasts(m, VALUE) >= YOUNG_PATIENCE
    if lasts(m, VALUE) < PATIENCE:
        return False
    is_far = m.near <= MOSTLY * m.readings and m.known >= FAR_KNOWN
    return not is_far or ts - m.since_ts[VALUE] >= FAR_PATIENCE_S * 1e6


@kernel
def _learn(m: Channel, x: float, nearest: int, d: float, is_fault: bool, awaits: bool) -> None:  # noqa: FBT001
    """Let a prototype stand for the value: in quarantine where it is a fault."""
    p = nearest
    if d > NEAR:
        if m.used < PROTOTYPES:
            p = m.used
            m.used += 1
        else:
            p = 0  # the one visited longest ago goes
            for each in range(1, PROTOTYPES):
                if m.visited[each] < m.visited[p]:
                    p = each
        m.prototypes[p] = x
        m.quarantined[p] = m.episodes[p] = is_fault
        m.episode_of[p] = m.episode
    elif m.quarantined[p] == 1 and is_fault and m.episode_of[p] != m.episode:
        m.episode_of[p] = m.episode
        m.episodes[p] += 1
    m.visited[p] = m.seen
    if not (is_fault and d > BEYOND):
        m.low_all, m.high_all = min(m.low_all, x), max(m.high_all, x)
    if is_fault:
        return
    m.largest = max(m.largest, abs(x + m.origin))
    if awaits:
        m.pending, m.pending_low, m.pending_high = p + 1, m.low, m.high
    elif m.quarantined[p] == 0:
        m.low, m.high = min(m.low, x), max(m.high, x)


@kernel
def _settle(m: Channel, way: int) -> None:
    """End the episode: its prototypes are learned, or stay in quarantine for the next time."""
    accepted = way == NEW_NORMAL
    habit = FAR_HABIT if m.farthest >= FAR else HABIT
    is_garbage = m.farthest >= BEYOND and m.held[VALUE] <= SHORT
    learn = accepted or m.farthest < LEARNED_WITHIN or (is_young(m) and not is_garbage)
    for p in range(m.used):
        if m.quarantined[p] == 1 and m.episode_of[p] == m.episode and (learn or m.episodes[p] >= habit):
            m.quarantined[p] = 0
            x = np.float64(m.prototypes[p])
            m.low, m.high = min(m.low, x), max(m.high, x)
            m.low_all, m.high_all = min(m.low_all, x), max(m.high_all, x)
    if m.held[VALUE] <= 1:
        m.isolated += 1.0
    end(m, VALUE, accepted)
