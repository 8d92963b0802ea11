"""When a tick can be news again for devices that are silent already: a recording leaves out those before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stream_detector.core.alerts.machine import next_news
from stream_detector.core.scoring.detector import MAX_SCORE
from stream_detector.core.scoring.rules import allowed_quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.core.alerts.policy import AlertPolicy
    from stream_detector.core.alerts.track import Track
    from stream_detector.core.devices.table import Table

CLOSE = 1 - 1e-6
"""Scores are rounded: what is so close to a score may reach it."""


def next_tick(
    silences: Mapping[int, Track], devices: Table, policy: AlertPolicy, at_least: int
) -> int | None:
    """Return an instant before which no tick changes one of these silences; None: no tick does.

    Args:
        silences: The machines of kind ``silence``, by slot.
        devices: The table of the stream's devices.
        policy: Of silences.
        at_least: Quiet time that is always allowed, µs.
    """
    found = []
    for slot, track in silences.items():
        news = next_news(track, policy)
        if news is None:
            continue
        since = int(devices["heard"][slot] + devices["unheard"][slot])
        if track.open is not None and since > track.open.published_at:
            return 0  # heard meanwhile, by a late reading or a duplicate: any tick may end it
        at, score = news
        if score <= MAX_SCORE:
            allowed = float(allowed_quiet(devices["allowed"][slot], at_least))
            found.append(max(at, since + math.floor(score * allowed * CLOSE) - 1))
    return min(found, default=None)
