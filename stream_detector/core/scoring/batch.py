"""A batch with its verdicts, put together again from the layouts in arrival order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.records import ROLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.devices.acceptance import Acceptance
    from stream_detector.core.events import ChannelAdded
    from stream_detector.core.records import Readings, Role
    from stream_detector.core.scoring.detector import Verdicts
    from stream_detector.core.scoring.layouts import Part

RAISING: tuple[Role, ...] = tuple(role for role, may_raise in ROLES.items() if may_raise)


@dataclass(slots=True)
class ScoredBatch:
    """What the alert machine reads; arrays are (n,), in arrival order.

    Attributes:
        readings: The batch.
        slots: Slot of each reading.
        identity: Identity of each reading.
        acceptance: What acceptance said of each.
        score: Of the detectors that may raise alerts: that of the one that leads; NaN where none can say.
        anomalous: The verdict of the one that leads.
        leader: Which of `ROLES`, by its place there, leads: the live one, unless another one that may raise
            alerts scores higher and finds an anomaly.
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
    leader: NDArray[np.int8]
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
            leader=np.zeros(n, dtype=np.int8),
            beyond=np.zeros(n),
            stuck=np.zeros(n),
            part=np.zeros(n, dtype=np.int32),
            place=np.zeros(n, dtype=np.int32),
        )

    def fill(self, where: NDArray[np.int64], part: Part) -> None:
        """Enter what a layout found for the readings at `where`."""
        self.parts.append(part)
        if len(where) == len(self.part) and len(part.verdicts) < 2:  # noqa: PLR2004 - the live one, or none
            self._take_over(part)
            return
        self.part[where] = len(self.parts) - 1
        self.place[where] = np.arange(len(where))
        if part.any_beyond:
            self.beyond[where] = part.beyond.max(axis=1)
        self.stuck[where] = part.stuck.worst
        for role, verdicts in part.verdicts.items():
            if role == "live":
                self.score[where] = verdicts.score
                self.anomalous[where] = verdicts.anomalous
            elif ROLES[role]:
                self._lead(where, RAISING.index(role), verdicts)

    def _take_over(self, part: Part) -> None:
        """Take what a layout found for the whole batch as it is, which most batches are."""
        self.place = np.arange(len(self.part), dtype=np.int32)
        self.stuck = part.stuck.worst
        if part.any_beyond:
            self.beyond = part.beyond.max(axis=1)
        if verdicts := part.verdicts.get("live"):
            self.score, self.anomalous = verdicts.score, verdicts.anomalous

    def _lead(self, where: NDArray[np.int64], number: int, verdicts: Verdicts) -> None:
        """Let a detector lead where it finds an anomaly and scores highest, or is the first that can say."""
        # One that cannot say leads nowhere: whether it is asked depends on what else the batch brought.
        first = np.isnan(self.score[where]) & ~np.isnan(verdicts.score)
        higher = verdicts.anomalous & (verdicts.score > self.score[where])
        higher |= verdicts.anomalous & ~self.anomalous[where]
        leads = where[first | higher]
        self.score[leads] = verdicts.score[first | higher]
        self.anomalous[leads] = verdicts.anomalous[first | higher]
        self.leader[leads] = number

    def model(self, i: int) -> Role:
        """Return the role of the detector that leads at reading i."""
        return RAISING[int(self.leader[i])]

    def scores(self, role: Role) -> NDArray[np.float64]:
        """Return the scores of one detector, NaN where it cannot say, (n,)."""
        out = np.full(len(self.part), np.nan)
        for number, part in enumerate(self.parts):
            if role in part.verdicts:
                where = np.flatnonzero(self.part == number)
                out[where] = part.verdicts[role].score[self.place[where]]
        return out

    def details(self, i: int) -> tuple[Part, int]:
        """Return the part that holds reading i, and its place there."""
        return self.parts[self.part[i]], int(self.place[i])
