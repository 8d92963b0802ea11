"""How memory comes back from disk: rows and records, walked through in the order of their positions.

    position   812      813       814       815
    journal    record   record    record    record
    rows                 pump-1                       pump-1 as it was after record 813

A row is put back when its turn comes, so a record that concerns everybody (a gap, a tick, a model) finds
exactly those devices that have not seen it. Readings that a row holds already are passed over. What is
only on disk comes back when a reading asks for it, and misses what it missed meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stream_detector.core.records import Acknowledged, Forgotten, Gap, ModelSet, Readings
from stream_detector.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.records import Record
    from stream_detector.outputs.log import Log
    from stream_detector.outputs.metrics import Metrics
    from stream_detector.service.fleet_view import FleetView
    from stream_detector.service.memory import Memory
    from stream_detector.storage.store import Store

OfOneStream: TypeAlias = Readings | ModelSet | Acknowledged | Forgotten
GAPS = 1000
"""Gaps that are remembered for devices on disk."""

Changed: TypeAlias = "Callable[[int, Record, Mapping[str, NDArray[np.int64]]], None]"
"""Called with the position of a record, the record, and the slots that it changed, by stream."""


class Recovery:
    """Puts memory back.

    Args:
        memory: What is restored.
        store: Where it comes from.
        durability: What outlives a crash, by stream: ``journal``, ``checkpoint`` or ``none``.
        metrics: Gets the devices and alerts that were found.
        log: Gets what was restored, and what was damaged.
        fleet: Gets the devices that are in memory then.

    Attributes:
        evicted: How many devices of each stream are only on disk.
    """

    def __init__(
        self,
        memory: Memory,
        store: Store,
        durability: Mapping[str, str],
        metrics: Metrics,
        log: Log,
        fleet: FleetView,
    ) -> None:
        self._memory = memory
        self._store = store
        self._durability = durability
        self._metrics = metrics
        self._log = log
        self._fleet = fleet
        self._gaps: list[tuple[int, Gap]] = []
        self._models: dict[tuple[str, str], ModelSet] = {}
        self._leaving: set[tuple[str, str]] = set()
        self.evicted: dict[str, int] = {}

    def restore(self, changed: Changed) -> None:
        """Put memory back as it was at the last commit; what was not committed is forgotten."""
        store, memory = self._store, self._memory
        begin, replayed = time.monotonic(), 0
        self._gaps, self._models = [], {}
        self._leaving.clear()
        self.evicted = {name: store.evicted_devices(name) for name in self._durability}
        memory.begin()
        rows = store.rows()
        row = next(rows, None)
        held = store.row_positions()
        for position, record in store.records():
            while row is not None and row[0] < position:
                self._put_back(*row)
                row = next(rows, None)
            replayed += self._replay(position, record, held, changed)
        while row is not None:
            self._put_back(*row)
            row = next(rows, None)
        self._reconcile()
        self._fleet.begin(memory)
        devices = alerts = 0
        for name, stream in memory.streams.items():
            self._metrics.model(name, stream.detector.name, stream.detector.version)
            still_open = stream.open_alerts()
            self._metrics.seed(name, stream.census(), still_open)
            devices, alerts = devices + len(stream.devices), alerts + len(still_open)
        if devices:
            self._log.info(
                "restored %d devices and %d open alerts, %d readings replayed, in %.2f s",
                devices,
                alerts,
                replayed,
                time.monotonic() - begin,
            )
        if store.damaged:
            self._log.warn(
                "damaged",
                "%d rows or records in state_dir are damaged and were left out; those devices begin anew: %s",
                len(store.damaged),
                ", ".join("/".join(filter(None, each)) for each in store.damaged[:5]),
            )

    def note(self, position: int, record: Record) -> None:
        """Remember what devices that are only on disk will have to catch up with."""
        if isinstance(record, Gap):
            self._gaps.append((position, record))
            del self._gaps[:-GAPS]
        elif isinstance(record, ModelSet):
            self._models[record.stream, record.role] = record

    def scores(self, wanted: ModelSet) -> bool:
        """Return whether a stream is scored by this model already; a record without a name wants none."""
        found = self._models.get((wanted.stream, wanted.role))
        if not wanted.name and (found is None or not found.name):
            return True
        return found is not None and replace(found, at=wanted.at) == wanted

    def fetch(self, stream: str, device: str) -> bool:
        """Bring a device back that is only on disk; return whether it was there."""
        if not self.evicted[stream] or (stream, device) in self._leaving:
            return False
        found = self._store.row(stream, device)
        if found is None:
            return False
        self._put_back(found[0], stream, found[1])
        self._fleet.add(self._memory.streams[stream].published_state(device))
        self.evicted[stream] -= 1
        return True

    def forget(self, stream: str, device: str) -> None:
        """Know that the row of a device goes with the next commit: until then it is there no more."""
        self._leaving.add((stream, device))

    def committed(self) -> None:
        """Know that everything is on disk."""
        self._leaving.clear()

    def devices(self, stream: str) -> Iterator[tuple[str, Mapping[str, str]] | None]:
        """Yield every device that is known of a stream with its tags; None now and then, for a pause.

        Between two of them anything may happen: a device that is known all the while comes once, be it in
        memory or on disk. The stream may be one that is not configured any more.
        """
        seen = set()
        if stream in self._memory.streams:
            for device in list(self._memory.streams[stream].devices.slot_of):
                devices = self._memory.streams[stream].devices
                if device in devices.slot_of:
                    seen.add(device)
                    yield device, devices.tags.get(devices.slot_of[device], {})
        for names in self._store.names(stream):
            for device in names:
                row = None if device in seen else self._store.row(stream, device)
                if row is not None:
                    yield device, row[1].tags
            yield None

    def _put_back(self, position: int, name: str, state: DeviceState) -> None:
        stream = self._memory.streams.get(name)
        if stream is None:
            return  # it is not configured any more
        slot = stream.restore(state)
        for at, gap in self._gaps:
            if at > position:
                stream.miss(gap.start, gap.stop, np.array([slot]))

    def _replay(
        self, position: int, record: Record, held: Mapping[tuple[str, str], int], changed: Changed
    ) -> int:
        """Take a record in again; return how many readings that were."""
        pipeline = self._memory.pipeline
        if isinstance(record, OfOneStream) and record.stream not in pipeline.streams:
            return 0  # it is not configured any more
        if isinstance(record, Readings):
            record = self._not_held(position, record, held)
            if not len(record):
                return 0
        try:
            outcomes = pipeline.process(record)
        except BundleError as error:
            self._log.warn("model of the past", "%s; what it learned since is lost", error)
            return 0
        self.note(position, record)
        changed(position, record, {name: outcome.touched for name, outcome in outcomes.items()})
        return len(record) if isinstance(record, Readings) else 0

    def _not_held(self, position: int, readings: Readings, held: Mapping[tuple[str, str], int]) -> Readings:
        """Return the readings that no row holds; devices that are only on disk are brought back for them."""
        name = readings.stream
        slot_of = self._memory.streams[name].devices.slot_of
        known = set()
        for device in set(readings.devices):
            row = held.get((name, device), 0)
            if not row and device not in slot_of and self.evicted[name]:
                found = self._store.row(name, device)
                row = 0 if found is None else found[0]
                if 0 < row < position:
                    self.fetch(name, device)
            if row >= position:
                known.add(device)
        if not known:
            return readings
        return readings.select(np.array([device not in known for device in readings.devices]))

    def _reconcile(self) -> None:
        """Let the open alerts be those that were published, whatever a new version would compute."""
        published = self._store.open_alerts()
        for name, durability in self._durability.items():
            if durability == "none":
                continue
            stream = self._memory.streams[name]
            count = stream.reconcile([alert for alert in published if alert.stream == name])
            if count and durability == "journal":
                self._log.warn(
                    f"reconcile {name}",
                    "%d alerts of %s are not what the journal gives now; they go on as they were published",
                    count,
                    name,
                )
