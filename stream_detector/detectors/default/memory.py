"""What is remembered of each channel of each device: one record, about 2 kB. A blank one is all zeros.

Kernels get the record of one channel as ``m`` and change it in place. Readings are counted from 1, so that 0
can mean "never".
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from stream_detector.detectors.default.views import VIEWS

PROTOTYPES = 64
SLOTS = 48
"""Hours of a day, on weekdays and at weekends."""
WORD = 8
ZONES = 16
"""Parts of a channel's range."""

PACE = [
    ("seen", "<i8"),  # readings
    ("first_ts", "<i8"),  # event time of the first one and of the last one, µs
    ("last_ts", "<i8"),
    ("interval", "<f8"),  # smoothed time between two readings, s
    ("last", "<f8"),  # value of the last one
    ("changes", "<i8"),  # how often the value was another than before
    ("changing", "<f8"),  # the share of readings of which that is true, lately
    ("rises", "<i8"),
    ("falls", "<i8"),
    ("repeats", "<i4"),  # how often the last value came again
    ("broken", "<u1"),  # this reading follows a long rest or a gap: no step leads to it
    ("monotone", "<u1"),  # it only rises, or only falls: a counter, a battery
]
COVER = [
    ("prototypes", "<f4", (PROTOTYPES,)),  # minus `origin`
    ("visited", "<i4", (PROTOTYPES,)),  # the reading that came near it last
    ("quarantined", "<u1", (PROTOTYPES,)),  # seen in a fault: no part of the baseline
    ("episode_of", "<u1", (PROTOTYPES,)),  # the last episode in which it was seen, and in how many it was
    ("episodes", "<u1", (PROTOTYPES,)),
    ("used", "<i4"),
    ("known", "<i8"),  # values that were learned from
    ("origin", "<f8"),  # the first value
    ("low", "<f8"),  # range of the baseline
    ("high", "<f8"),
    ("low_all", "<f8"),  # range of everything
    ("high_all", "<f8"),
    ("largest", "<f8"),  # magnitude of the baseline
    ("record", "<f8"),  # the highest novelty lately, and the reading that set it
    ("record_at", "<i8"),
    ("episode", "<u1"),  # number of the last one, which begins anew after 255
    ("farthest", "<f8"),  # how far this one went from the baseline, in ranges
    ("near", "<i4"),  # readings of this one that came near to the known range
    ("readings", "<i4"),  # of this one
    ("isolated", "<f8"),  # how often one reading alone was unusual, lately
    ("pending", "<i4"),  # 1 + the prototype of the last reading, if that awaits its confirmation
    ("pending_low", "<f8"),  # the baseline before it
    ("pending_high", "<f8"),
]
EPISODES = [
    ("open", "<u1", (len(VIEWS),)),
    ("calm", "<i4", (len(VIEWS),)),  # readings in a row that are usual again
    ("held", "<i4", (len(VIEWS),)),  # readings that were unusual
    ("since", "<i4", (len(VIEWS),)),  # the reading that began it, and its event time
    ("since_ts", "<i8", (len(VIEWS),)),
    ("ended", "<i4", (len(VIEWS),)),  # the reading that ended the last one, 0 where none goes on
    ("peak", "<f8", (len(VIEWS),)),
    ("raises", "<f8", (len(VIEWS),)),  # how many there were, lately
]
BANDS = [
    ("learned", "<i4", (len(VIEWS),)),  # readings
    ("center", "<f8", (len(VIEWS),)),
    ("up", "<f8", (len(VIEWS),)),  # how far above the center it went, decaying
    ("down", "<f8", (len(VIEWS),)),
    ("extreme", "<f8", (len(VIEWS),)),  # the farthest of this episode, with its sign
]
RECENT = [  # healthy readings; a fault empties it, so that nothing mixes it with what comes after
    ("recent", "<i4"),  # how many
    ("one", "<f8"),  # the last value, the one before it, and the one before that
    ("two", "<f8"),
    ("three", "<f8"),
    ("movement", "<f8"),  # smoothed magnitude of the steps
    ("away_lately", "<f8"),  # smoothed distance from what is usual at the hour, that, and its spread
    ("mean_lately", "<f8"),
    ("spread_lately", "<f8"),
    ("levels", "<i4"),  # readings in them
]
HOURS = [
    ("hour_mean", "<f4", (SLOTS,)),
    ("hour_spread", "<f4", (SLOTS,)),  # mean distance from the mean
    ("hour_days", "<u1", (SLOTS,)),
    ("slot", "<i4"),  # 1 + the hour that it is, and its day
    ("day", "<i8"),
    ("total", "<f8"),  # of this hour so far: the sum of the values and of their distances, and how many
    ("away", "<f8"),
    ("count", "<i4"),
    ("hours", "<i4"),  # complete ones
    ("judged", "<i4"),  # readings that had an hour to be compared with
    ("compared", "<i4"),  # of them, those whose hour has a spread
    ("typical", "<f8"),  # smoothed spread of the hours
    ("mean", "<f8"),  # of all readings whatever the hour, and their mean distance from it
    ("deviation", "<f8"),
]
DWELL = [
    ("tube_low", "<f8"),
    ("tube_high", "<f8"),
    ("dwell", "<i4"),  # readings in the tube; 0: it begins with the next
    ("longest", "<f4", (ZONES,)),  # dwell that was usual
    ("visits", "<u2", (ZONES,)),
    ("zones_low", "<f8"),  # the range that the zones divide
    ("zones_high", "<f8"),
]


def _record(*parts: list[Any]) -> np.dtype[np.void]:
    """Return fields as one record without gaps: the widest first, filled up to whole words."""
    fields = sorted(
        (field for part in parts for field in part), key=lambda field: -np.dtype(field[1]).itemsize
    )
    size = np.dtype(fields).itemsize
    if size % WORD:
        fields.append(("unused", "<u1", (WORD - size % WORD,)))
    return np.dtype(fields, align=True)


CHANNEL = _record(PACE, COVER, EPISODES, BANDS, RECENT, HOURS, DWELL)

Channel: TypeAlias = Any
"""A record of `CHANNEL`, as kernels get it."""
