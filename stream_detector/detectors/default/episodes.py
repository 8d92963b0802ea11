"""Episodes: what a view has found, from the reading that raised it to its end.

    x x x . x . . . . . . . . . .        x unusual, . usual again
    R                           E        raised; ended after ten usual readings in a row

An episode that begins soon after the last one goes on with its patience: what comes and goes is accepted as
the new normal as what stays is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.core.kernel import kernel
from stream_detector.detectors.default.views import CALM, RATE, RATE_HALF_LIFE, RELAPSE

if TYPE_CHECKING:
    from stream_detector.detectors.default.memory import Channel

GOES_ON, RETURNED, NEW_NORMAL = range(3)
"""How a reading leaves an episode."""

DECAY = 2.0 ** (-1.0 / RATE_HALF_LIFE)


@kernel
def pass_time(m: Channel, view: int) -> float:
    """Let a view forget a little of its raises; return by what its threshold is higher for them."""
    m.raises[view] *= DECAY
    return float(1.0 + RATE * m.raises[view])


@kernel
def begin(m: Channel, view: int, ts: int) -> bool:
    """Open an episode; return whether it is a new one, and not the last one again."""
    fresh = m.ended[view] == 0 or m.seen - m.ended[view] > RELAPSE
    if fresh:
        m.since[view] = m.seen
        m.since_ts[view] = ts
    m.open[view] = 1
    m.calm[view] = 0
    m.held[view] = 0
    m.peak[view] = 0.0
    m.raises[view] += 1.0
    return bool(fresh)


@kernel
def hold(m: Channel, view: int, unusual: bool) -> None:  # noqa: FBT001 - kernels take no keywords
    """Count a reading of an open episode."""
    if unusual:
        m.calm[view] = 0
        m.held[view] += 1
    else:
        m.calm[view] += 1


@kernel
def has_returned(m: Channel, view: int) -> bool:
    """Return whether an open episode is over, as readings are usual again."""
    return bool(m.calm[view] >= CALM)


@kernel
def lasts(m: Channel, view: int) -> int:
    """Return for how many readings an open episode has lasted."""
    return int(m.seen - m.since[view])


@kernel
def end(m: Channel, view: int, accepted: bool) -> None:  # noqa: FBT001
    """Close an episode."""
    m.open[view] = 0
    m.ended[view] = 0 if accepted else m.seen
