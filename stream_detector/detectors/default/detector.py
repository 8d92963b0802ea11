"""The detector: runs the kernel over a batch, and says what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.table import Column
from stream_detector.core.kernel import kernel
from stream_detector.core.scoring.detector import MAX_SCORE, ChannelVerdicts, Verdicts, significant
from stream_detector.detectors.default import channel
from stream_detector.detectors.default.memory import CHANNEL
from stream_detector.detectors.default.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Table

BINS = 32
BINS_PER_SCORE = 16.0


class Default:
    """Learns each channel of each device by itself, without training; keeps learning for ever."""

    name = "default"
    version = "2"
    threshold = 1.0
    channels: tuple[str, ...] | None = None
    features: tuple[str, ...] = ()
    raise_after = (1, 1)  # it holds what it has found, and asks for confirmation by itself

    def columns(self) -> Mapping[str, Column]:
        """Return what is learned of a device: a record a channel (`memory.py`), and how it usually scores."""
        return {
            "channels": Column(CHANNEL, per_channel=True),
            "usual": Column(np.int32, (BINS,)),
        }

    def score(
        self,
        learned: Table,
        slots: NDArray[np.int32],
        values: NDArray[np.float64],
        rows: NDArray[np.float64],  # noqa: ARG002 - the promise of all detectors; this one needs none
        ts: NDArray[np.int64],
    ) -> Verdicts:
        """Score a batch in arrival order and learn it; see `Detector.score`."""
        said = np.empty((*values.shape, 7))
        highest, confidence = np.empty(len(values)), np.empty(len(values))
        _judge(slots, values, ts, learned["channels"], learned["usual"], said, highest, confidence)
        score = np.minimum(significant(said[:, :, channel.SCORE]), MAX_SCORE)
        unusual: NDArray[np.bool_] = said[:, :, channel.ANOMALOUS] > 0
        by_channel = ChannelVerdicts(
            score=score,
            anomalous=unusual,
            accepted=said[:, :, channel.ACCEPTED] > 0,
            seen=said[:, :, channel.SEEN],
            lower=said[:, :, channel.LOWER],
            upper=said[:, :, channel.UPPER],
            view=said[:, :, channel.VIEW].astype(np.int8),
        )
        overall = np.minimum(significant(highest), MAX_SCORE)
        return Verdicts(
            raw=overall,
            score=overall,
            anomalous=np.logical_or.reduce(unusual, axis=1),
            confidence=lambda i: float(confidence[i]),
            shares=lambda i: np.nan_to_num(score[i]),
            by_channel=by_channel,
            views=VIEWS,
        )


@kernel
def _judge(
    slots: NDArray[np.int32],
    values: NDArray[np.float64],
    ts: NDArray[np.int64],
    memory: NDArray[np.void],
    usual: NDArray[np.int32],
    said: NDArray[np.float64],
    highest: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> None:
    """Judge n readings of some channels each, in order; the last three are written."""
    n, channels = values.shape
    for i in range(n):
        s = slots[i]
        highest[i] = np.nan
        unusual = False
        for c in range(channels):
            if np.isnan(values[i, c]):
                said[i, c] = np.nan
                said[i, c, channel.ANOMALOUS] = said[i, c, channel.ACCEPTED] = said[i, c, channel.VIEW] = 0.0
                continue
            channel.judge(memory[s, c], values[i, c], ts[i], said[i, c])
            score = said[i, c, channel.SCORE]
            if np.isnan(highest[i]) or score > highest[i]:
                highest[i] = score
            unusual = unusual or said[i, c, channel.ANOMALOUS] == 1.0
        # How many of this device's normal readings scored lower (a conformal rank).
        if np.isnan(highest[i]):
            confidence[i] = np.nan
            continue
        place = min(BINS - 1, int(highest[i] * BINS_PER_SCORE))
        total, below = 0, 0
        for b in range(BINS):
            total += usual[s, b]
            if b < place:
                below += usual[s, b]
        confidence[i] = below / (total + 1.0)
        if not unusual:
            usual[s, place] += 1
