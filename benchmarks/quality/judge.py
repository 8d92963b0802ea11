"""The judge: alerts against known faults, as the people who get them feel it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING

from benchmarks.quality.faults import CHANGE, HARD, JUDGED, LASTING
from benchmarks.quality.report import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.quality.product import Alert

SLACK = 20
"""So many intervals after its end a fault can still be told; twice as long for silence."""
SETTLED = 400
"""So many readings after a change for good nothing of it may be open any more."""
FEW = 2
"""So many alerts a change for good may raise."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong, from its first reading to its last; s since 1970."""

    device: str
    kind: str
    channel: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What the judge has to know of a family's recording.

    Attributes:
        faults: All that was wrong.
        interval: Between two readings, s.
        begin: Before it nothing is judged: it is for learning; s since 1970.
        weeks: Of one device, times the devices, after `begin`.
    """

    faults: Sequence[Fault]
    interval: float
    begin: float
    weeks: float


@dataclass(frozen=True, slots=True)
class Result:
    """How one fault was told.

    Attributes:
        fault: Which.
        caught: An alert was raised while it lasted, or soon after.
        alerts: So many of them.
        covered: Share of its time in which one was open; 0 where it was not caught.
        delay: Until the first, in intervals; NaN where it was not caught.
        named: The first named the faulty channel first; None where the fault has no channel.
        kind_right: The first is of the kind ``stuck`` or ``silence``, where the fault is; None for others.
        handled: For a change for good: few alerts, and not for long; None for others.
    """

    fault: Fault
    caught: bool
    alerts: int
    covered: float
    delay: float
    named: bool | None
    kind_right: bool | None
    handled: bool | None


@dataclass(slots=True)
class Judgement:
    """What the judge says of one family, or of several together.

    Attributes:
        results: One a fault.
        false: Alerts that no fault explains, by family.
        weeks: Weeks of one device, by family.
    """

    results: list[Result] = field(default_factory=list)
    false: dict[str, list[Alert]] = field(default_factory=dict)
    weeks: dict[str, float] = field(default_factory=dict)

    def add(self, other: Judgement) -> None:
        """Take in another one."""
        self.results += other.results
        for family, alerts in other.false.items():
            self.false.setdefault(family, []).extend(alerts)
            self.weeks[family] = self.weeks.get(family, 0.0) + other.weeks[family]


def judge(family: str, watched: Watched, alerts: Sequence[Alert]) -> Judgement:
    """Judge the alerts of one family.

    An alert explained by a fault is not false: it was open within the fault or soon after. It has caught
    the fault if it was also raised then; one that was open before and merely goes on has not. After a change
    for good nothing that the device raises is false, but too much of it is not handled.
    """
    judged = [(alert, [s for s in alert.spans if s[1] >= watched.begin]) for alert in alerts]
    judged = [(alert, spans) for alert, spans in judged if spans]
    results, explained = [], set()
    for fault in watched.faults:
        last = fault.end + SLACK * watched.interval * (2 if fault.kind == "silence" else 1)
        near = [
            (alert, spans)
            for alert, spans in judged
            if alert.device == fault.device and any(a <= last and b >= fault.start for a, b in spans)
        ]
        explained.update(id(alert) for alert, _ in near)
        results.append(_result(fault, near, last, watched.interval))
        if fault.kind == CHANGE:
            explained.update(
                id(alert)
                for alert, spans in judged
                if alert.device == fault.device and any(a >= fault.start for a, _ in spans)
            )
    false = [alert for alert, _ in judged if id(alert) not in explained]
    return Judgement(results, {family: false}, {family: watched.weeks})


def _result(
    fault: Fault, near: Sequence[tuple[Alert, list[list[float]]]], last: float, interval: float
) -> Result:
    """Return how a fault was told by the alerts that were open near it."""
    earliest = fault.start - interval
    raised = [
        (min(a for a, _ in spans if a >= earliest), alert, spans)
        for alert, spans in near
        if any(earliest <= a <= last for a, _ in spans)
    ]
    handled = None
    if fault.kind == CHANGE:
        settled = fault.start + SETTLED * interval
        handled = len(near) <= FEW and all(b <= settled for _, spans in near for _, b in spans)
    if not raised:
        return Result(fault, False, 0, 0.0, nan, None, None, handled)
    spans = sorted((a, b) for _, _, each in raised for a, b in each if b >= fault.start and a <= last)
    first = min(raised, key=lambda each: each[0])[1]
    covered, reached = 0.0, fault.start
    for a, b in spans:
        covered += max(0.0, min(b, fault.end) - max(a, reached))
        reached = max(reached, min(b, fault.end))
    return Result(
        fault,
        caught=True,
        alerts=len(raised),
        covered=covered / max(fault.end - fault.start, interval) if fault.end > fault.start else 1.0,
        delay=max(0.0, (spans[0][0] - fault.start) / interval),
        named=first.channel == fault.channel if fault.channel else None,
        kind_right=first.kind == fault.kind if fault.kind in {"stuck", "silence"} else None,
        handled=handled,
    )


def summary(judgement: Judgement) -> dict[str, float]:
    """Return the plant's figures; NaN where there was nothing to judge."""
    results = judgement.results
    judged = [each for each in results if each.fault.kind in JUDGED]
    lasting = [each for each in judged if each.fault.kind in LASTING]
    weeks = sum(judgement.weeks.values())
    false = [alert for alerts in judgement.false.values() for alert in alerts]
    return {
        "caught": mean([each.caught for each in judged]),
        "covered": mean([each.covered for each in lasting]),
        "alerts_a_fault": mean([each.alerts for each in judged if each.caught]),
        "named": mean([each.named for each in judged if each.named is not None]),
        "kind_right": mean([each.kind_right for each in judged if each.kind_right is not None]),
        "normal_handled": mean([each.handled for each in results if each.handled is not None]),
        "hard_caught": mean([each.caught for each in results if each.fault.kind in HARD]),
        "false": len(false) / weeks if weeks else nan,
        "critical_false": sum(alert.severity == "critical" for alert in false) / weeks if weeks else nan,
        "worst_family": max(
            (len(alerts) / judgement.weeks[family] for family, alerts in judgement.false.items()), default=nan
        ),
    }
