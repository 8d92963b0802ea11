"""What a reading says to the alert machines of its device: one verdict a kind, one observation each.

A late reading was not scored, and its values stand in no window. It says two things: whether it is beyond
its limits, which need no memory, and that one more reading was not judged otherwise. What it says is about
the past: it ends no alert that a newer reading holds, and opens none again that has ended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stream_detector.core.alerts import explanation
from stream_detector.core.alerts.machine import Observation
from stream_detector.core.devices.acceptance import LATE
from stream_detector.core.devices.registry import NEVER
from stream_detector.core.scoring.rules import MOSTLY

if TYPE_CHECKING:
    from stream_detector.core.alerts.machine import Alert
    from stream_detector.core.events import Kind
    from stream_detector.core.scoring.batch import ScoredBatch

HOVERING = 32
"""Of readings that are hardly back within their limits, so many count as one that is."""
NEWER = 4
"""Of newer readings, so many count as one where a late one holds the alert: its past is still coming in."""


def verdicts(batch: ScoredBatch, i: int, score: float, *, point: bool) -> list[tuple[Kind, float, bool]]:
    """Return each kind's score of reading i, and whether it is anomalous, in the order of `KINDS`.

    Args:
        batch: Holds the reading.
        i: Its place in the batch.
        score: Of the detectors; NaN: none can say.
        point: Whether an alert of kind ``point`` is open.
    """
    beyond, stuck = float(batch.beyond[i]), float(batch.stuck[i])
    if batch.acceptance.verdict[i] == LATE:
        mostly = float(batch.acceptance.late[i]) / MOSTLY
        return [("range", beyond, beyond >= 1.0), ("data_quality", mostly, mostly >= 1.0)]
    rest: list[tuple[Kind, float, bool]] = [
        ("range", beyond, beyond >= 1.0),
        ("stuck", stuck, stuck >= 1.0),
        ("silence", 0.0, False),  # which a reading can only end
        ("data_quality", 0.0, False),
    ]
    if not math.isnan(score):
        return [("point", score, bool(batch.anomalous[i])), *rest]
    # An open alert would stay so if the device never had a score again.
    return [("point", 0.0, False), *rest] if point else rest


def observe(
    verdict: tuple[Kind, float, bool], batch: ScoredBatch, i: int, alert: Alert | None, held_by: int
) -> Observation:
    """Return a verdict on reading i as the alert machine sees it.

    Args:
        verdict: One of `verdicts`.
        batch: Holds the reading.
        i: Its place in the batch.
        alert: The open alert of that kind.
        held_by: Event time of the late reading that was the last beyond its limits; `NEVER`: it was not late.
    """
    kind, score, anomalous = verdict
    ts, late = int(batch.readings.ts[i]), bool(batch.acceptance.verdict[i] == LATE)
    at = ts + int(batch.acceptance.behind[i]) if kind == "data_quality" else ts
    carries, one_in = True, 1
    if kind == "data_quality" and late and alert is not None:
        score, anomalous = max(score, 1.0), True  # it goes on, however few were late lately
    if kind == "range" and alert is not None:
        if late:
            carries = held_by != NEVER and (anomalous or ts > held_by)
        elif held_by != NEVER:
            one_in = NEWER
        if not anomalous and explanation.hovers(batch, i, alert):
            one_in = HOVERING
    return Observation(
        at=at,
        ts=at,
        identity=int(batch.identity[i]),
        score=score,
        anomalous=anomalous,
        channels=explanation.holding(kind, batch, i) if anomalous else (),
        carries=carries,
        one_in=one_in,
        late=late,
    )
