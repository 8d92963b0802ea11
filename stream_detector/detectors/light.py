"""The built-in detector `light`: novelty against everything seen, in units of the historical range.

Each channel remembers up to 64 prototypes, values that stand for all it has seen. How far a new
value lies from the nearest one, divided by the range seen so far, is comparable over devices without
any training. Scores are damped while the history is short, and a value is anomalous only as a
record: higher than a maximum that decays over 200 readings, so one happening is one alarm.

The channel's first 40 readings are passed over (a sensor that starts up settles). For those after
them, counted by t, in this order:

    d = min |x - prototype| / range          range of the readings before this one
    S = log10(1 + 20 d) * t / (t + 300)      if t >= 60 and d > 1/32, else 0
    record if S > M * max(0, 1 - (t - t0) / 200); then M, t0 = S, t
    anomalous if record and S >= 0.21

and the value becomes a prototype where d > 1/32; when there is no room the one visited longest ago
goes. `score` = S / 0.21. Where the order and the numbers come from: docs/decisions.md, "The first
detector".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.devices.table import Column
from stream_detector.core.kernel import kernel
from stream_detector.core.scoring.detector import MAX_SCORE, Verdicts, significant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Table

PROTOTYPES = 64
SETTLING = 40
WARM_UP = 60
NEAR = 1 / 32
GAIN = 20.0
DAMPING = 300.0
RECORD_LENGTH = 200.0
THRESHOLD = 0.21
FARTHEST = 1000.0
"""Distances are capped: the first change of a channel that never moved is infinitely far."""
LARGEST = float(np.finfo(np.float32).max)
BINS = 32
BINS_PER_SCORE = 16.0


class LightState(NamedTuple):
    """What is learned of each device; (devices, channels) unless said."""

    prototypes: NDArray[np.float32]  # (devices, channels, PROTOTYPES), minus the first value
    visited: NDArray[np.int64]  # (devices, channels, PROTOTYPES)
    used: NDArray[np.int32]
    seen: NDArray[np.int64]
    first: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    record: NDArray[np.float64]
    record_at: NDArray[np.int64]
    usual: NDArray[np.int64]  # (devices, BINS): scores of normal readings, counted in bins


class Novelty(NamedTuple):
    """What the kernel says of n readings.

    Attributes:
        of_channel: Novelty of each channel; NaN where there is none yet, (n, channels).
        raw: The highest, (n,).
        anomalous: Whether one of them is a record beyond the threshold, (n,).
        confidence: Share of the device's normal readings that scored lower, (n,).
    """

    of_channel: NDArray[np.float64]
    raw: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    confidence: NDArray[np.float64]


class Light:
    """Learns each device by itself, without training; keeps learning for ever."""

    name = "light"
    version = "1"
    threshold = THRESHOLD
    channels: tuple[str, ...] | None = None
    features: tuple[str, ...] = ()
    raise_after = (1, 1)  # the record filter already holds repeats back

    def columns(self) -> Mapping[str, Column]:
        """Return what is learned of a device: 0.8 kB a channel; see `LightState`."""
        return {
            "prototypes": Column(np.float32, (PROTOTYPES,), per_channel=True),
            "visited": Column(np.int64, (PROTOTYPES,), per_channel=True),
            "used": Column(np.int32, per_channel=True),
            "seen": Column(np.int64, per_channel=True),
            "first": Column(np.float64, per_channel=True),
            "low": Column(np.float64, per_channel=True),
            "high": Column(np.float64, per_channel=True),
            "record": Column(np.float64, per_channel=True),
            "record_at": Column(np.int64, per_channel=True),
            "usual": Column(np.int64, (BINS,)),
        }

    def score(
        self,
        learned: Table,
        slots: NDArray[np.int32],
        values: NDArray[np.float64],
        rows: NDArray[np.float64],  # noqa: ARG002 - the promise of all detectors; this one needs none
        ts: NDArray[np.int64],  # noqa: ARG002
    ) -> Verdicts:
        """Score a batch in arrival order and learn it; see `Detector.score`."""
        n = len(values)
        out = Novelty(np.empty(values.shape), np.empty(n), np.empty(n, dtype=np.bool_), np.empty(n))
        _novelty(slots, values, learned.record(LightState), out)
        score = np.minimum(significant(out.raw / THRESHOLD), MAX_SCORE)
        score[out.anomalous & (score < 1.0)] = 1.0
        return Verdicts(
            raw=out.raw,
            score=score,
            anomalous=out.anomalous,
            confidence=lambda i: float(out.confidence[i]),
            shares=lambda i: np.nan_to_num(out.of_channel[i]),
        )


@kernel
def _novelty(  # noqa: C901, PLR0912, PLR0915 - one pass over memory; in parts it takes more than twice as long
    slots: NDArray[np.int32], values: NDArray[np.float64], state: LightState, out: Novelty
) -> None:
    prototypes, visited, used, seen = state.prototypes, state.visited, state.used, state.seen
    first, low, high = state.first, state.low, state.high
    record, record_at, usual = state.record, state.record_at, state.usual
    of_channel, raw, anomalous, confidence = out.of_channel, out.raw, out.anomalous, out.confidence
    n, channels = values.shape
    for i in range(n):
        s = slots[i]
        highest = np.nan
        alarm = False
        for c in range(channels):
            of_channel[i, c] = np.nan
            if np.isnan(values[i, c]):
                continue
            t = seen[s, c] - SETTLING
            seen[s, c] += 1
            if t < 0:
                continue
            if t == 0:
                first[s, c] = values[i, c]
            x = np.float64(np.float32(min(max(values[i, c] - first[s, c], -LARGEST), LARGEST)))
            # The nearest prototype.
            nearest = 0
            distance = np.inf
            for p in range(used[s, c]):
                gap = abs(x - prototypes[s, c, p])
                if gap < distance:
                    distance, nearest = gap, p
            span = high[s, c] - low[s, c]
            if used[s, c] == 0 or distance == 0.0:
                d = 0.0
            elif distance >= FARTHEST * span:
                d = FARTHEST
            else:
                d = distance / span
            is_new = used[s, c] == 0 or d > NEAR
            # Its novelty, and whether that is a record.
            if t >= WARM_UP:
                novelty = math.log10(1.0 + GAIN * d) * t / (t + DAMPING) if is_new else 0.0
                of_channel[i, c] = novelty
                if np.isnan(highest) or novelty > highest:
                    highest = novelty
                if novelty > record[s, c] * max(0.0, 1.0 - (t - record_at[s, c]) / RECORD_LENGTH):
                    record[s, c] = novelty
                    record_at[s, c] = t
                    alarm = alarm or novelty >= THRESHOLD
            # Learn it.
            if is_new:
                if used[s, c] < PROTOTYPES:
                    nearest = used[s, c]
                    used[s, c] += 1
                else:
                    nearest = int(np.argmin(visited[s, c]))  # the one visited longest ago goes
                prototypes[s, c, nearest] = x
            visited[s, c, nearest] = t
            low[s, c] = x if t == 0 else min(low[s, c], x)
            high[s, c] = x if t == 0 else max(high[s, c], x)
        raw[i] = highest
        anomalous[i] = alarm
        # How many of this device's normal readings scored lower (a conformal rank).
        if np.isnan(highest):
            confidence[i] = np.nan
            continue
        place = min(BINS - 1, int(highest / THRESHOLD * BINS_PER_SCORE))
        total, below = 0, 0
        for b in range(BINS):
            total += usual[s, b]
            if b < place:
                below += usual[s, b]
        confidence[i] = below / (total + 1.0)
        if not alarm:
            usual[s, place] += 1
