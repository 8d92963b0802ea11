"""What keeps memory over a crash: decisions go to disk, and memory comes back from there.

    journal     every record that can change an event, with a position
    outbox      what is to be published, until the broker has confirmed it
    rows        each device's memory as it was after some position, a few in every transaction
    alerts      the open ones, as they were told

Memory = the rows, each followed by the records after its position. Some records concern all devices
(gaps, models); they stay in the journal for as long as a row is older. Streams differ in what is kept
of them (`durability`): the journal and all the rest; everything but their readings, with all changed
rows every few seconds; or nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.events import AlertChanged
from stream_detector.core.records import Gap, ModelSet, Readings, Started, Tick
from stream_detector.errors import BundleError
from stream_detector.storage.dirty import LARGEST_SLICE, Dirty
from stream_detector.storage.store import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stream_detector.core.records import Record
    from stream_detector.core.stream import Stream
    from stream_detector.processing import Decision, Processing
    from stream_detector.publications import Publication
    from stream_detector.settings import Settings
    from stream_detector.storage.history import Historian
    from stream_detector.storage.store import Store
    from stream_detector.telemetry import Telemetry

LATER_S = 2.0
"""What need not be written at once waits at most so long."""
ROUND_S = 5.0
"""Streams without a journal have their changed rows written so often."""
ROOM = 0.9
"""From this share of the allowed devices on, those that cannot be missed are moved to disk."""
FEWEST_MOVED = 256
GAPS = 1000
"""Gaps that are remembered for devices on disk."""


class Keeper:
    """Writes what was decided, and restores it.

    Args:
        settings: The configuration.
        processing: What decides; its memory is restored.
        store: Where everything is written.
        historian: Takes over what a start does not need.
        telemetry: Is told of commits and damage.
        clock: Service clock, µs.

    Attributes:
        evicted: Devices of each stream that are only on disk.
    """

    def __init__(
        self,
        settings: Settings,
        processing: Processing,
        store: Store,
        historian: Historian,
        telemetry: Telemetry,
        clock: Callable[[], int],
    ) -> None:
        kept = {name: stream.kept for name, stream in settings.streams.items()}
        self._journalled = {name for name, how in kept.items() if how == "journal"}
        self._kept = {name for name, how in kept.items() if how != "none"}
        self._max_devices = settings.max_devices
        self._processing = processing
        self._store = store
        self._historian = historian
        self._telemetry = telemetry
        self._clock = clock
        self._keep_deliveries = max(4096, 4 * settings.broker.receive_maximum)
        self._forget_everything()

    # -- from decisions to disk -----------------------------------------------------------------

    def keep(self, decision: Decision) -> list[tuple[int, Publication]]:
        """Take a decision into the open transaction.

        Returns:
            What is to be published once it is committed, each with its number in the outbox (0: it
            is not in there).
        """
        now = self._clock()
        for record, outcomes in decision.records:
            touched = {name: outcome.touched for name, outcome in outcomes.items()}
            self._number(record, touched)
        outgoing = []
        for stream, publication in decision.publications:
            number = 0
            if publication.qos and (stream in self._kept or not stream):
                number = self._last_number = self._last_number + 1
                self._change.outbox.append((number, publication, now))
                self._sync = self._sync or stream in self._journalled
                self._urgent = True
            outgoing.append((number, publication))
        self._change.alerts += [
            event
            for event in decision.events
            if isinstance(event, AlertChanged) and event.stream in self._kept
        ]
        self._change.deliveries += self._processing.intake.deliveries.changes()
        return outgoing

    def confirm(self, numbers: Iterable[int]) -> None:
        """Take messages that the broker has confirmed out of the outbox, with the next commit."""
        self._confirmed += [number for number in numbers if number]

    def note(self, key: str, fact: object) -> None:
        """Keep a small fact, with the next commit."""
        self._change.facts[key] = json.dumps(fact)

    def fact(self, key: str) -> object:
        """Return a small fact; None where it was never noted."""
        found = self._store.get(key)
        return None if found is None else json.loads(found)

    @property
    def due(self) -> bool:
        """Whether something waits that must be on disk before anybody is told, or has waited long enough."""
        return self._urgent or self._prepared or time.monotonic() - self._committed_at >= LATER_S

    def commit(self) -> None:
        """Write the open transaction; after a failure, the same one again.

        Raises:
            StorageError: It could not be written.
        """
        if not self._prepared:
            self._prepare()
        begin = time.perf_counter()
        self._store.commit(self._change, sync=self._sync)
        self._telemetry.committed(time.perf_counter() - begin)
        self._after_commit()

    def finish(self, deadline: float) -> None:
        """Write all changed rows, so that the next start has nothing to replay; until a monotonic time.

        Raises:
            StorageError: They could not be written.
        """
        self._everything = True
        self.commit()
        while any(map(len, self._dirty.values())) and time.monotonic() < deadline:
            self.commit()

    def _number(self, record: Record, touched: dict[str, np.ndarray]) -> None:
        """Give a record its place in the journal, and note whom it changed."""
        match record:
            case Readings():
                in_journal = record.stream in self._journalled
                self._urgent = self._urgent or in_journal
                self._sync = self._sync or in_journal
                self._readings[record.stream] = self._readings.get(record.stream, 0) + len(record)
            case Tick():
                in_journal = any(len(slots) for name, slots in touched.items() if name in self._kept)
            case Gap() | ModelSet() | Started():
                in_journal = self._urgent = self._sync = True
        if in_journal:
            self._position += 1
            self._change.records.append((self._position, record))
        self._mark(self._position, record, touched)

    def _mark(self, position: int, record: Record, touched: dict[str, np.ndarray]) -> None:
        if isinstance(record, Gap):
            self._gaps.append((position, record))
            del self._gaps[:-GAPS]
        if isinstance(record, ModelSet):
            self._models[record.stream] = record
        if isinstance(record, Readings):
            at = int(record.arrival[-1])
        else:
            at = record.at if isinstance(record, Tick) else self._clock()
        for name, slots in touched.items():
            if name in self._kept:
                self._dirty[name].note(slots, max(1, position), at)

    def _prepare(self) -> None:
        """Add to the open transaction what goes along with every one."""
        change = self._change
        self._prepared = True
        change.keep_deliveries = self._keep_deliveries
        change.confirmed, self._confirmed = self._confirmed, []
        change.alive_at = max(self._clock(), self._processing.intake.next_instant)
        change.trim = self._historian.moved
        round_due = time.monotonic() - self._round_at >= ROUND_S
        for name in self._kept:
            stream, dirty = self._processing.pipeline.streams[name], self._dirty[name]
            readings = self._readings.pop(name, 0)
            if self._everything or (name not in self._journalled and round_due):
                count = LARGEST_SLICE
            else:
                count = dirty.due(readings) if name in self._journalled else 0
            for slot in dirty.take(count).tolist():
                change.rows.append((self._position, name, stream.state_of(slot)))
            self._move_out(name, stream)
        if round_due and not any(len(self._dirty[name]) for name in self._kept - self._journalled):
            self._round_at = time.monotonic()

    def _move_out(self, name: str, stream: Stream) -> None:
        """Move devices to disk where there are many: those that nobody would miss, the longest unheard."""
        if len(stream.devices) < ROOM * self._max_devices:
            return
        for slot in stream.idle_devices(max(FEWEST_MOVED, self._max_devices // 64)):
            if self._dirty[name].is_dirty(slot):
                self._change.rows.append((self._position, name, stream.state_of(slot)))
                self._dirty[name].written(slot)
            self._change.evicted.append((name, stream.devices.names[slot]))

    def _after_commit(self) -> None:
        for name, device in self._change.evicted:
            stream = self._processing.pipeline.streams[name]
            stream.forget(stream.devices.slot_of[device])
            self._processing.intake.forget(name, device)
            self.evicted[name] += 1
        self._change = Change()
        self._urgent = self._sync = self._prepared = False
        self._committed_at = time.monotonic()
        waiting = [dirty.oldest for name, dirty in self._dirty.items() if name in self._journalled]
        oldest = min((found for found in waiting if found), default=None)
        self._historian.offer(oldest[0] - 1 if oldest else self._position)
        stale = [found[1] for dirty in self._dirty.values() if (found := dirty.oldest)]
        self._telemetry.checkpointed(min(stale, default=self._clock()))

    # -- from disk to memory --------------------------------------------------------------------

    def restore(self) -> None:
        """Put memory back as it was at the last commit; what was not committed is forgotten."""
        store, processing = self._store, self._processing
        self._forget_everything()
        processing.begin()
        processing.intake.next_instant = max(processing.intake.next_instant, store.alive_at)
        processing.intake.deliveries.restore(store.deliveries())
        rows = store.rows()
        row = next(rows, None)
        positions = store.row_positions()
        for position, record in store.records():
            while row is not None and row[0] < position:
                self._put_back(*row)
                row = next(rows, None)
            self._replay(position, record, positions)
        while row is not None:
            self._put_back(*row)
            row = next(rows, None)
        self._reconcile()
        for name, stream in processing.pipeline.streams.items():
            self._telemetry.model(name, stream.detector.name, stream.detector.version)
            self._telemetry.seed(name, stream.census(), stream.open_alerts())
        if store.damaged:
            self._telemetry.complain(
                "damaged",
                "%d rows or records in state_dir are damaged and were left out: those devices begin anew (%s)",
                len(store.damaged),
                ", ".join("/".join(filter(None, each)) for each in store.damaged[:5]),
            )

    def fetch(self, stream: str, device: str) -> bool:
        """Bring a device back from disk; return whether it was there."""
        if not self.evicted[stream]:
            return False
        found = self._store.row(stream, device)
        if found is None:
            return False
        self._put_back(found[0], stream, found[1])
        self.evicted[stream] -= 1
        return True

    def scores(self, wanted: ModelSet) -> bool:
        """Return whether a stream is scored by this model already."""
        found = self._models.get(wanted.stream)
        return found is not None and replace(found, at=wanted.at) == wanted

    def _forget_everything(self) -> None:
        store, streams = self._store, self._processing.settings.streams
        self._position = store.last_position
        self._last_number = store.last_number
        self._change = Change()
        self._confirmed: list[int] = []
        self._dirty = {name: Dirty() for name in streams}
        self._gaps: list[tuple[int, Gap]] = []
        self._models: dict[str, ModelSet] = {}
        self._readings: dict[str, int] = {}
        self._urgent = self._sync = self._prepared = self._everything = False
        self._committed_at = self._round_at = time.monotonic()
        self.evicted = {name: store.evicted_devices(name) for name in streams}

    def _put_back(self, position: int, name: str, state: object) -> None:
        """Restore a device from its row, and let it miss what it missed since."""
        stream = self._processing.pipeline.streams.get(name)
        if stream is None:
            return
        slot = stream.restore(state)
        for at, gap in self._gaps:
            if at > position:
                stream.miss(gap.start, gap.stop, np.array([slot]))

    def _replay(self, position: int, record: Record, positions: dict[tuple[str, str], int]) -> None:
        pipeline = self._processing.pipeline
        if isinstance(record, Readings | ModelSet) and record.stream not in pipeline.streams:
            return
        if isinstance(record, Readings):
            record = self._not_in_rows(position, record, positions)
            if not len(record):
                return
        try:
            outcomes = pipeline.process(record)
        except BundleError as error:
            self._telemetry.complain("model of the past", "%s; what it learned since is lost", error)
            return
        self._mark(position, record, {name: outcome.touched for name, outcome in outcomes.items()})

    def _not_in_rows(
        self, position: int, readings: Readings, positions: dict[tuple[str, str], int]
    ) -> Readings:
        """Return the readings that no row holds yet; devices that are only on disk are brought back."""
        name = readings.stream
        slot_of = self._processing.pipeline.streams[name].devices.slot_of
        held = set()
        for device in set(readings.devices):
            row = positions.get((name, device), 0)
            if not row and device not in slot_of and self.evicted[name]:
                found = self._store.row(name, device)
                if found is not None:
                    row = found[0]
                    if row < position:
                        self.fetch(name, device)
            if row >= position:
                held.add(device)
        if not held:
            return readings
        return readings.select(np.array([device not in held for device in readings.devices]))

    def _reconcile(self) -> None:
        """Let the open alerts be those that were told, whatever a new version would compute."""
        told = self._store.open_alerts()
        for name in self._kept:
            stream = self._processing.pipeline.streams[name]
            changed = stream.reconcile([alert for alert in told if alert.stream == name])
            if changed and name in self._journalled:
                self._telemetry.complain(
                    f"reconcile {name}",
                    "%d alerts of %s are not what the journal gives now; they go on as they were told",
                    changed,
                    name,
                )
