"""What an alert says of the reading behind it: values, expectation, contributions and one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.alerts import sentences as explain
from stream_detector.core.events import Contribution, Expected
from stream_detector.core.scoring import rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.events import Kind
    from stream_detector.core.scoring.layouts import Part

EXPECTED_DEVIATIONS = 3.0
"""Expected is the window's mean, give or take so many of its standard deviations."""


@dataclass(frozen=True, slots=True)
class Description:
    """The part of an alert event that explains it; the fields are those of the contract."""

    values: Mapping[str, float]
    expected: Mapping[str, Expected]
    contributions: tuple[Contribution, ...]
    reason: str
    raw_score: float
    threshold: float
    confidence: float


def of_reading(kind: Kind, part: Part, j: int, *, over: int | None) -> Description:
    """Describe reading j of a part.

    Args:
        kind: ``point``, ``range`` or ``stuck``.
        part: What the layout found.
        j: Place of the reading in it.
        over: The alert ends with this reading, after so many normal ones; None: it goes on.
    """
    channels = part.layout.channels
    values = {
        name: float(x) for name, x in zip(channels, part.walk.values[j], strict=True) if not np.isnan(x)
    }
    describe = {"point": _point, "range": _range, "stuck": _stuck}[kind]
    expected, contributions, reason, raw, threshold, confidence = describe(part, j)
    if over is not None:
        reason = _over(kind, over, scored=_scored(part, j))
    return Description(values, expected, contributions, reason, raw, threshold, confidence)


def of_silence(quiet: float, cadence: float, arrivals: int, at_least: int) -> Description:
    """Describe a silence.

    Args:
        quiet: How long nothing came, µs; 0: the device speaks again.
        cadence: The longest usual time between two arrivals, µs.
        arrivals: How many of those were learned.
        at_least: Quiet time that is always allowed, µs.
    """
    allowed = max(float(at_least), rules.SILENCE_FACTOR * cadence)
    return Description(
        values={},
        expected={},
        contributions=(),
        reason=explain.silent(quiet, cadence) if quiet else "speaks again",
        raw_score=quiet / 1e6,
        threshold=allowed / 1e6,
        confidence=arrivals / (arrivals + 1),
    )


def of_words(reason: str, score: float) -> Description:
    """Describe what no reading has caused: a score without a model's number behind it."""
    return Description({}, {}, (), reason, raw_score=score, threshold=1.0, confidence=0.0)


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


def _scored(part: Part, j: int) -> bool:
    return part.verdicts is not None and not math.isnan(part.verdicts.score[j])


def _over(kind: Kind, readings: int, *, scored: bool) -> str:
    """Return why an alert ends."""
    what = "back to normal"
    if kind == "point":
        # What is new once is learned: a model says that nothing unusual came, not that all is as before.
        what = "nothing unusual" if scored else "no longer scored"
    return f"{what} for {readings} readings" if readings > 1 else what


_Parts = tuple["dict[str, Expected]", "tuple[Contribution, ...]", str, float, float, float]


def _point(part: Part, j: int) -> _Parts:
    layout, verdicts = part.layout, part.verdicts
    expected = {}
    for c, name in enumerate(layout.channels):
        mean, deviation = part.walk.mean[j, c], part.walk.deviation[j, c]
        if not np.isnan(mean):
            reach = EXPECTED_DEVIATIONS * deviation
            expected[name] = Expected(float(mean), float(mean - reach), float(mean + reach))
    if verdicts is None or not _scored(part, j):  # as only the end of an alert can be
        return expected, (), "no longer scored", 0.0, layout.detector.threshold, 0.0
    names = layout.channels if layout.detector.channels is None else layout.detector.channels
    contributions = shares(names, verdicts.shares(j))
    reason = "the reading is unlike those before"
    if contributions:
        top = contributions[0]
        place = layout.place[top.channel]
        value = float(part.walk.values[j, place])
        reason = explain.unusual(top, value, expected.get(top.channel), layout.limits[place].unit)
    return (
        expected,
        contributions,
        reason,
        float(verdicts.raw[j]),
        layout.detector.threshold,
        verdicts.confidence(j),
    )


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
    reason = explain.out_of_range(layout.channels[worst], value, limit.low, limit.high, limit.unit)
    # A limit is the user's word: whatever is beyond it is wrong for certain.
    return expected, shares(layout.channels, scores), reason, float(scores[worst]), 1.0, 1.0


def _stuck(part: Part, j: int) -> _Parts:
    layout = part.layout
    scores = part.stuck.score[j]
    worst = int(scores.argmax())
    name = layout.channels[worst]
    longest, changes = int(part.stuck.longest[j, worst]), int(part.stuck.changes[j, worst])
    allowed = rules.allowed_repeats(longest)
    repeats = round(float(scores[worst]) * allowed)
    value = float(part.walk.values[j, worst])
    reason = explain.stuck(name, value, repeats, longest, layout.limits[worst].unit)
    weights = np.where(scores >= 1.0, scores, 0.0)
    contributions = shares(layout.channels, weights if weights.any() else scores)
    return {}, contributions, reason, float(repeats), allowed, changes / (changes + 1)
