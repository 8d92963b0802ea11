"""What a reading says to the alert machines of its device: an observation a kind, a judgement each holder.

A late reading was not scored, and its values stand in no window. It says two things: whether it is beyond
its limits, which need no memory, and that one more reading was not judged otherwise. What it says is about
the past: it ends no alert that a newer reading holds, and opens none again that has ended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

import numpy as np

from stream_detector.core.alerts.track import DEVICE, Holder, Judgement, Observation
from stream_detector.core.devices.acceptance import LATE
from stream_detector.core.devices.registry import NEVER
from stream_detector.core.scoring import rules
from stream_detector.core.scoring.batch import RAISING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stream_detector.core.alerts.track import Track
    from stream_detector.core.events import Kind
    from stream_detector.core.records import Role
    from stream_detector.core.scoring.batch import ScoredBatch
    from stream_detector.core.scoring.detector import ChannelVerdicts
    from stream_detector.core.scoring.layouts import Part

HOVERING = 32
"""Of readings that are hardly back within their limits, so many count as one that is."""
NEWER = 4
"""Of newer readings, so many count as one where a late one holds the alert: its past is still coming in."""


def observe(kind: Kind, batch: ScoredBatch, i: int, track: Track | None, held_by: int) -> Observation | None:
    """Return what reading i says; None: nothing that could change an alert of this kind.

    Args:
        kind: Of the alert.
        batch: Holds the reading.
        i: Its place in the batch.
        track: What is remembered of the device and kind: of others, only what is anomalous counts.
        held_by: Event time of the late reading that was the last beyond its limits; `NEVER`: it was not late.
    """
    ts, late = int(batch.readings.ts[i]), bool(batch.acceptance.verdict[i] == LATE)
    known = () if track is None else tuple(track.counts)
    part, j = batch.details(i)
    match kind:
        case "point":
            found = [] if late else [each for role in RAISING for each in _point(part, j, role, known)]
        case "range":
            is_open = track is not None and track.open is not None
            found = list(_range(part, j, known))
            if is_open and late:  # it counts where a late one holds the alert
                found = [each for each in found if held_by != NEVER and (each.anomalous or ts > held_by)]
            elif is_open and held_by != NEVER:
                found = [each._replace(one_in=max(each.one_in, NEWER)) for each in found]
        case "stuck":
            found = [] if late else list(_by_rule(part, j, part.stuck.score[j], known))
        case "silence":  # which a reading can only end; a late one leaves that to the next tick
            found = [] if late else [Judgement(holder, 0.0, anomalous=False) for holder in known]
        case "data_quality":
            found = list(_data_quality(batch, i, known, late=late))
            ts += int(batch.acceptance.behind[i])
        case _:
            assert_never(kind)
    if not found:
        return None
    arrival = int(batch.readings.arrival[i])
    return Observation(ts, ts, int(batch.identity[i]), arrival, tuple(found), late)


def _data_quality(
    batch: ScoredBatch, i: int, known: tuple[Holder, ...], *, late: bool
) -> Iterator[Judgement]:
    """Yield whether the device's readings are mostly late; one more late one ends nothing."""
    mostly = float(batch.acceptance.late[i]) / rules.MOSTLY if late else 0.0
    if mostly >= 1.0 or (known and not late):
        yield Judgement(DEVICE, mostly, mostly >= 1.0)


def _point(part: Part, j: int, role: Role, known: tuple[Holder, ...]) -> Iterator[Judgement]:
    verdicts = part.verdicts.get(role)
    if verdicts is None:
        yield from (Judgement(each, 0.0, anomalous=False, gone=True) for each in known if each.role == role)
        return
    whole = Holder(role, "")
    if verdicts.by_channel is not None:
        yield from _by_channel(part, j, role, verdicts.by_channel, known)
    if verdicts.by_channel is None or whole in known:
        score, anomalous = float(verdicts.score[j]), bool(verdicts.anomalous[j])
        if math.isnan(score):
            if whole in known:
                yield Judgement(whole, 0.0, anomalous=False, gone=True)
        elif anomalous or whole in known:
            yield Judgement(whole, score, anomalous)


def _by_channel(
    part: Part, j: int, role: Role, verdicts: ChannelVerdicts, known: tuple[Holder, ...]
) -> Iterator[Judgement]:
    anomalous = verdicts.anomalous[j]
    for c in _places(part, anomalous, [each for each in known if each.role == role]):
        score = float(verdicts.score[j, c])
        holder = Holder(role, part.layout.channels[c])
        if not math.isnan(score):
            yield Judgement(holder, score, bool(anomalous[c]), bool(verdicts.accepted[j, c]))
        elif not math.isnan(part.values[j, c]):
            yield Judgement(holder, 0.0, anomalous=False, gone=True)


def _range(part: Part, j: int, known: tuple[Holder, ...]) -> Iterator[Judgement]:
    """Yield what the limits say; what is hardly back within them is nearly as if it were not."""
    found = list(_by_rule(part, j, part.beyond[j], known))
    if all(each.anomalous for each in found):
        yield from found
        return
    near = rules.near(part.walk.values[j], part.within[j], part.layout.low, part.layout.high)
    for each in found:
        is_near = near.any() if each.holder == DEVICE else near[part.layout.place[each.holder.channel]]
        yield each._replace(one_in=HOVERING) if is_near and not each.anomalous else each


def _by_rule(
    part: Part, j: int, scores: NDArray[np.float64], known: tuple[Holder, ...]
) -> Iterator[Judgement]:
    """Yield what a rule says of the channels that were really reported; a held value is no reading."""
    for c in _places(part, scores >= 1.0, known):
        if not math.isnan(part.values[j, c]):
            score = float(scores[c])
            yield Judgement(Holder("live", part.layout.channels[c]), score, score >= 1.0)
    if DEVICE in known:  # an alert of an earlier version, which did not know its channels
        yield Judgement(DEVICE, float(scores.max(initial=0.0)), bool((scores >= 1.0).any()))


def _places(part: Part, anomalous: NDArray[np.bool_], known: tuple[Holder, ...] | list[Holder]) -> list[int]:
    """Return the channels that are anomalous, or of which something is remembered."""
    places = part.layout.place
    named = [places[each.channel] for each in known if each.channel in places]
    return sorted({*np.flatnonzero(anomalous).tolist(), *named})
