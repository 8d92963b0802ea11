"""A batch with its verdicts, put together again from the layouts in arrival order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.devices.registry import Acceptance
    from stream_detector.core.events import ChannelAdded
    from stream_detector.core.records import Readings
    from stream_detector.core.scoring.layouts import Part


@dataclass(slots=True)
class ScoredBatch:
    """What the alert machine reads; arrays are (n,), in arrival order.

    Attributes:
        readings: The batch.
        slots: Slot of each reading.
        identity: Identity of each reading.
        acceptance: What acceptance said of each.
        score: Of the detector; NaN where it cannot say yet.
        anomalous: The detector's verdict.
        beyond: Out of the allowed range, the worst channel; 1.0 is the limit.
        stuck: Stuck, the worst channel; 1.0 is the limit.
        part: Which of `parts` holds the details.
        place: Place in that part.
        parts: What the layouts found.
        added: New channels, by the reading that brought them.
    """

    readings: Readings
    slots: NDArray[np.int32]
    identity: NDArray[np.uint64]
    acceptance: Acceptance
    score: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    beyond: NDArray[np.float64]
    stuck: NDArray[np.float64]
    part: NDArray[np.int32]
    place: NDArray[np.int32]
    parts: list[Part] = field(default_factory=list)
    added: dict[int, list[ChannelAdded]] = field(default_factory=dict)

    @classmethod
    def blank(
        cls,
        readings: Readings,
        slots: NDArray[np.int32],
        identity: NDArray[np.uint64],
        acceptance: Acceptance,
    ) -> ScoredBatch:
        """Return a batch that nothing else is known about yet."""
        n = len(readings)
        return cls(
            readings=readings,
            slots=slots,
            identity=identity,
            acceptance=acceptance,
            score=np.full(n, np.nan),
            anomalous=np.zeros(n, dtype=np.bool_),
            beyond=np.zeros(n),
            stuck=np.zeros(n),
            part=np.zeros(n, dtype=np.int32),
            place=np.zeros(n, dtype=np.int32),
        )

    def fill(self, where: NDArray[np.int64], part: Part) -> None:
        """Enter what a layout found for the readings at `where`."""
        self.part[where] = len(self.parts)
        self.place[where] = np.arange(len(where))
        self.parts.append(part)
        if part.beyond.any():  # looking first is ten times as fast as the maximum of short rows
            self.beyond[where] = part.beyond.max(axis=1)
        self.stuck[where] = part.stuck.worst
        if part.verdicts is not None:
            self.score[where] = part.verdicts.score
            self.anomalous[where] = part.verdicts.anomalous

    def details(self, i: int) -> tuple[Part, int]:
        """Return the part that holds reading i, and its place there."""
        return self.parts[self.part[i]], int(self.place[i])
