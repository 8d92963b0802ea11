"""What an alert says of the reading behind it: values, expectation, contributions and one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

import numpy as np

from stream_detector.core.alerts import sentences
from stream_detector.core.devices.acceptance import LATELY
from stream_detector.core.events import Contribution, Expected
from stream_detector.core.scoring import rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.events import Ending
    from stream_detector.core.records import Role
    from stream_detector.core.scoring.batch import ScoredBatch
    from stream_detector.core.scoring.detector import ChannelVerdicts, Verdicts
    from stream_detector.core.scoring.layouts import Part

ReadingKind: TypeAlias = Literal["point", "range", "stuck"]
"""Kinds of alert that a reading raises."""

IN_UNITS = frozenset({"value", "hour"})
"""Views whose bands are in the channel's own unit."""
EXPECTED_DEVIATIONS = 3.0
"""Expected is the window's mean, give or take so many of its standard deviations."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The part of an alert event that explains it; the fields are those of the contract."""

    values: Mapping[str, float]
    expected: Mapping[str, Expected]
    contributions: tuple[Contribution, ...]
    reason: str
    raw_score: float
    threshold: float
    confidence: float


def of_reading(
    kind: ReadingKind, batch: ScoredBatch, i: int, role: Role, *, over: tuple[Ending, int] | None
) -> Explanation:
    """Explain what an alert says of reading i.

    Args:
        kind: Of the alert.
        batch: Holds the reading.
        i: Its place in the batch.
        role: Whose verdict it is about.
        over: The alert ends with this reading: why, and after how many normal ones it may; None: it goes on.
    """
    part, j = batch.details(i)
    channels = part.layout.channels
    values = {
        name: float(x) for name, x in zip(channels, part.walk.values[j], strict=True) if not np.isnan(x)
    }
    match kind:
        case "point":
            expected, contributions, reason, raw, threshold, confidence = _point(part, j, role)
        case "range":
            expected, contributions, reason, raw, threshold, confidence = _range(part, j)
        case "stuck":
            expected, contributions, reason, raw, threshold, confidence = _stuck(part, j)
        case _:
            assert_never(kind)
    if over is not None:
        reason = _over(*over)
    return Explanation(values, expected, contributions, reason, raw, threshold, confidence)


def of_lateness(late: int, behind: int | None) -> Explanation:
    """Describe that a device's readings are not judged.

    Args:
        late: How many of its last readings were late.
        behind: How much older than the newest this one is, µs; None: they are judged again.
    """
    reason = "its readings are judged again" if behind is None else sentences.not_judged(late, behind)
    allowed = float(rules.MOSTLY)
    return Explanation({}, {}, (), reason, raw_score=float(late), threshold=allowed, confidence=late / LATELY)


def of_silence(quiet: float, cadence: float, allowed: float, arrivals: int, at_least: int) -> Explanation:
    """Describe a silence.

    Args:
        quiet: How long nothing came, µs; 0: the device speaks again.
        cadence: The longest usual time between two arrivals, µs.
        allowed: How long the device may say nothing by what is usual with it, µs.
        arrivals: How many pauses that was learned from.
        at_least: Quiet time that is always allowed, µs.
    """
    return Explanation(
        values={},
        expected={},
        contributions=(),
        reason=sentences.silent(quiet, cadence) if quiet else "speaks again",
        raw_score=quiet / 1e6,
        threshold=max(allowed, float(at_least)) / 1e6,
        confidence=arrivals / (arrivals + 1),
    )


def of_words(reason: str, score: float) -> Explanation:
    """Describe what no reading has caused: a score without a model's number behind it."""
    return Explanation({}, {}, (), reason, raw_score=score, threshold=1.0, confidence=0.0)


def shares(channels: tuple[str, ...], weights: NDArray[np.float64]) -> tuple[Contribution, ...]:
    """Return contributions that sum to 1, the largest first; channels that add nothing are left out.

    Example:
        >>> [(c.channel, c.share) for c in shares(("a", "b", "c"), np.array([1.0, 3.0, 0.0]))]
        [('b', 0.75), ('a', 0.25)]
    """
    # Plain Python: for a handful of channels it costs a fifth of what numpy does.
    positive = [
        (weight, name)
        for weight, name in zip(weights.tolist(), channels, strict=True)
        if 0 < weight < math.inf
    ]
    largest = max((weight for weight, _ in positive), default=0.0)
    parts = [(weight / largest, name) for weight, name in positive]  # so that no sum is infinite
    total = sum(part for part, _ in parts)
    parts.sort(key=lambda pair: -pair[0])
    return tuple(Contribution(name, part / total) for part, name in parts)


def _scored(part: Part, j: int, role: Role) -> bool:
    return role in part.verdicts and not math.isnan(part.verdicts[role].score[j])


def _names(part: Part, role: Role) -> tuple[str, ...]:
    """Return the channels that a detector's shares are about."""
    wanted = part.layout.scorers[role].detector.channels
    return part.layout.channels if wanted is None else wanted


def _over(because: Ending, readings: int) -> str:
    """Return why an alert ends."""
    if because == "new_normal":
        return "it has lasted for so long that it is accepted as the new normal"
    what = "no longer scored" if because == "model_replaced" else "back to normal"
    return f"{what} for {readings} readings" if readings > 1 else what


_Parts = tuple["dict[str, Expected]", "tuple[Contribution, ...]", str, float, float, float]


def _point(part: Part, j: int, role: Role) -> _Parts:
    if role in part.verdicts and (said := part.verdicts[role].by_channel) is not None:
        return _by_channel(part, j, part.verdicts[role], said)
    layout = part.layout
    threshold = layout.scorers[role].detector.threshold
    expected = {}
    for c, name in enumerate(layout.channels):
        mean, deviation = part.walk.mean[j, c], part.walk.deviation[j, c]
        if not np.isnan(mean):
            reach = EXPECTED_DEVIATIONS * deviation
            expected[name] = Expected(float(mean), float(mean - reach), float(mean + reach))
    if not _scored(part, j, role):  # as only the end of an alert can be
        return expected, (), "no longer scored", 0.0, threshold, 0.0
    verdicts = part.verdicts[role]
    contributions = shares(_names(part, role), verdicts.shares(j))
    reason = "the reading is unlike those before"
    if contributions:
        top = contributions[0]
        place = layout.place[top.channel]
        value = float(part.walk.values[j, place])
        reason = sentences.unusual(top, value, expected.get(top.channel), layout.limits[place].unit)
    return (
        expected,
        contributions,
        reason,
        float(verdicts.raw[j]),
        threshold,
        verdicts.confidence(j),
    )


def _by_channel(part: Part, j: int, verdicts: Verdicts, said: ChannelVerdicts) -> _Parts:
    """Explain a verdict by what the detector looked at, and by the band that it used."""
    layout, names = part.layout, part.layout.channels
    expected = {}
    for c, name in enumerate(names):
        low, high, x = float(said.lower[j, c]), float(said.upper[j, c]), float(part.values[j, c])
        in_band = low <= x <= high
        # A band of another view, or one that this value alone does not leave, says nothing of the value.
        if (
            verdicts.views[said.view[j, c]] in IN_UNITS
            and low <= high
            and not (said.anomalous[j, c] and in_band)
        ):
            expected[name] = Expected((low + high) / 2, low, high)
    scores = np.nan_to_num(said.score[j])
    held = np.where(said.anomalous[j], scores, 0.0)
    contributions = shares(names, held if held.any() else scores)
    reason = "the reading is as those before"
    if contributions:
        top = contributions[0]
        c = layout.place[top.channel]
        reason = sentences.by_view(
            verdicts.views[said.view[j, c]],
            top,
            float(part.values[j, c]),
            float(said.seen[j, c]),
            (float(said.lower[j, c]), float(said.upper[j, c])),
            layout.limits[c].unit,
        )
    raw, confidence = float(verdicts.raw[j]), verdicts.confidence(j)
    if math.isnan(raw):  # as only the end of an alert can be
        return expected, (), "no longer scored", 0.0, 1.0, 0.0
    return expected, contributions, reason, raw, 1.0, confidence


def _range(part: Part, j: int) -> _Parts:
    layout = part.layout
    expected = {
        name: Expected(None, limit.low, limit.high)
        for name, limit in zip(layout.channels, layout.limits, strict=True)
        if limit.low is not None or limit.high is not None
    }
    scores = part.beyond[j]
    worst = int(scores.argmax())
    limit = layout.limits[worst]
    value = float(part.walk.values[j, worst])
    reason = sentences.out_of_range(layout.channels[worst], value, limit.low, limit.high, limit.unit)
    # A limit is the user's word: whatever is beyond it is wrong for certain.
    return expected, shares(layout.channels, scores), reason, float(scores[worst]), 1.0, 1.0


def _stuck(part: Part, j: int) -> _Parts:
    layout = part.layout
    scores = part.stuck.score[j]
    worst = int(scores.argmax())
    name = layout.channels[worst]
    changes, allowed = int(part.stuck.changes[j, worst]), float(part.stuck.allowed[j, worst])
    repeats = round(float(scores[worst]) * allowed)
    value = float(part.walk.values[j, worst])
    usual = int(part.stuck.usual[j, worst])
    reason = sentences.stuck(name, value, repeats, usual, layout.limits[worst].unit)
    weights = np.where(scores >= 1.0, scores, 0.0)
    contributions = shares(layout.channels, weights if weights.any() else scores)
    return {}, contributions, reason, float(repeats), allowed, changes / (changes + 1)
