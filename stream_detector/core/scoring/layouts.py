"""Layouts: the devices of a stream that report the same channels, with arrays of their own.

A layout runs everything that looks at values: windows, feature rows, the detectors and the rules.
What it finds for a part of a batch is kept until the alert machine has asked for what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.snapshot import OBSERVED, learned_name
from stream_detector.core.devices.table import Table
from stream_detector.core.records import ROLES
from stream_detector.core.scoring import rules, stuck
from stream_detector.core.scoring.scorer import Scorer
from stream_detector.core.spec import Limits
from stream_detector.core.windows import rolling as windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.records import Role
    from stream_detector.core.scoring.detector import Detector, Verdicts


@dataclass(frozen=True, slots=True)
class Part:
    """What a layout found for m readings of a batch.

    Attributes:
        layout: The layout.
        rows: The device's row in the layout's tables, (m,).
        values: The readings as they came, NaN where not reported, (m, channels).
        walk: What was known before each, and the values held.
        verdicts: Of each detector that has all its channels here, by role.
        beyond: Out of the allowed range, 1.0 is the limit, (m, channels).
        within: How much values vary within their limits, (m, channels).
        stuck: How stuck the values are.
    """

    layout: Layout
    rows: NDArray[np.int32]
    values: NDArray[np.float64]
    walk: windows.Walk
    verdicts: Mapping[Role, Verdicts]
    beyond: NDArray[np.float64]
    within: NDArray[np.float64]
    stuck: stuck.Stuck

    @property
    def any_beyond(self) -> bool:
        """Whether a value is out of range; looking first is ten times as fast as the maximum of rows."""
        return self.layout.limited and bool(self.beyond.any())


class Layout:
    """One set of channels.

    Args:
        channels: Their names, in the order of the columns.
        window: Readings in a window.
        limits: What is known of channels, by name.
        detectors: What scores them, by role.
        watch_stuck: Whether values that do not move are judged.

    Attributes:
        table: What was observed of each device: windows, and what the rules remember.
        scorers: The detectors, each with what it has learned, in the order of `ROLES`.
    """

    def __init__(
        self,
        channels: tuple[str, ...],
        window: int,
        limits: Mapping[str, Limits],
        detectors: Mapping[Role, Detector],
        *,
        watch_stuck: bool,
    ) -> None:
        self.channels = channels
        self.place = {name: place for place, name in enumerate(channels)}
        self.window = window
        self.limits = [limits.get(name, Limits()) for name in channels]
        self.low = np.array([-np.inf if limit.low is None else limit.low for limit in self.limits])
        self.high = np.array([np.inf if limit.high is None else limit.high for limit in self.limits])
        self.limited = bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())
        self.watch_stuck = watch_stuck
        self.table = Table(
            {**windows.columns(window), **stuck.COLUMNS, **rules.WITHIN_COLUMNS}, len(channels)
        )
        self.scorers: dict[Role, Scorer] = {}
        for role, detector in detectors.items():
            self.use(role, detector)

    def use(self, role: Role, detector: Detector | None) -> None:
        """Score with another detector in a role from now on; what the old one learned is dropped."""
        self.scorers.pop(role, None)
        if detector is not None:
            self.scorers[role] = Scorer(detector, self.channels, self.window)
            self.scorers[role].learned.hold(self.table.size)
        self.scorers = {each: self.scorers[each] for each in ROLES if each in self.scorers}
        self.lags = tuple(sorted({lag for scorer in self.scorers.values() for lag in scorer.lags}))

    def tables(self) -> list[tuple[str, Table]]:
        """Return all tables with the names that a snapshot gives their cells; a device has a row in each."""
        learned = [(learned_name(role), scorer.learned) for role, scorer in self.scorers.items()]
        return [(OBSERVED, self.table), *learned]

    def add(self) -> int:
        """Return the number of a fresh row."""
        row = self.table.add()
        for scorer in self.scorers.values():
            scorer.learned.hold(self.table.size)
        return row

    def remove(self, row: int) -> None:
        """Blank a row and keep it for the next device."""
        self.table.remove(row)
        for scorer in self.scorers.values():
            scorer.learned.blank(row)

    def move(self, row: int, target: Layout, target_row: int) -> None:
        """Move a device to a layout that has all its channels and more; its row here is free then."""
        places = np.array([target.place[name] for name in self.channels], dtype=np.int64)
        self.table.copy_row(row, target.table, target_row, places)
        for role, scorer in self.scorers.items():
            scorer.learned.copy_row(row, target.scorers[role].learned, target_row, places)
        # The new channels' rings hold no values yet.
        fresh = [place for name, place in target.place.items() if name not in self.place]
        target.table["ring"][target_row, fresh] = np.nan
        self.remove(row)

    def process(self, rows: NDArray[np.int32], values: NDArray[np.float64], ts: NDArray[np.int64]) -> Part:
        """Take readings in, in arrival order.

        Args:
            rows: The device's row of each, (m,).
            values: (m, channels), NaN where not reported.
            ts: Event time, µs, (m,).
        """
        table = self.table
        walk = windows.walk(table.record(windows.WindowState), rows, values, ts, self.lags)
        return Part(
            layout=self,
            rows=rows,
            values=values,
            walk=walk,
            verdicts={
                role: scorer.score(rows, values, ts, walk)
                for role, scorer in self.scorers.items()
                if scorer.places is not None
            },
            beyond=rules.beyond(walk.values, self.low, self.high) if self.limited else np.zeros(values.shape),
            within=rules.within(table.record(rules.WithinState), rows, values, self.low, self.high)
            if self.limited
            else np.zeros(values.shape),
            stuck=stuck.stuck(table.record(stuck.StuckState), rows, values, ts)
            if self.watch_stuck
            else stuck.Stuck.none(values.shape),
        )

    def look_at(self, rows: NDArray[np.int32], values: NDArray[np.float64]) -> Part:
        """Judge late readings by their limits, and change nothing; see `process` for the arguments."""
        n, channels = values.shape
        walk = windows.Walk.blank(n, channels, ())
        walk.values[:] = values
        walk.previous[:] = walk.mean[:] = walk.deviation[:] = np.nan
        return Part(
            layout=self,
            rows=rows,
            values=values,
            walk=walk,
            verdicts={},
            beyond=rules.beyond(values, self.low, self.high),
            within=np.zeros(values.shape),
            stuck=stuck.Stuck.none(values.shape),
        )
