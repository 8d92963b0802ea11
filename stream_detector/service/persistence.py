"""What keeps decisions over a crash: each goes to disk before any of it takes effect.

    journal     every record that can change an event, with a position
    outbox      what is to be published, until the broker has confirmed it
    rows        each device's memory as it was after some position, a few in every transaction
    alerts      the open ones, as they were published

Streams differ in what is kept of them (`durability`): all of this; everything but their readings, with
all changed rows every few seconds; or nothing. `recovery` describes how memory comes back.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, assert_never

from stream_detector.core.events import AlertChanged, DeviceForgotten
from stream_detector.core.records import (
    Acknowledged,
    Feedback,
    Forgotten,
    Gap,
    ModelSet,
    Readings,
    Started,
    Tick,
    TopicState,
)
from stream_detector.storage.change import Change
from stream_detector.storage.dirty import LARGEST_SLICE, Dirty

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from stream_detector.core.records import Record
    from stream_detector.core.stream import Stream
    from stream_detector.outputs.log import Log
    from stream_detector.outputs.messages import Publication
    from stream_detector.outputs.metrics import Metrics
    from stream_detector.service.decision import Decision
    from stream_detector.service.engine import Engine
    from stream_detector.service.recovery import Recovery
    from stream_detector.storage.history import Historian
    from stream_detector.storage.store import Store

LATER_S = 2.0
"""What need not be written at once waits at most so long."""
ROUND_S = 5.0
"""Streams without a journal have the rows that have changed written so often ..."""
ROUND_SLICE = 32
"""... so many with one commit, so that none takes long ..."""
IN_ROUND_S = 0.02
"""... and with commits so close together while there is nothing else to write."""
OVERDUE = 600_000_000
"""A row that has changed so long ago (µs) is written, however few readings there are."""
ROOM = 0.9
"""From this share of `max_devices` on, devices that nobody waits for move to disk."""
FEWEST_MOVED = 256


class Persistence:
    """Writes what was decided, and restores it.

    Args:
        engine: What decides; its memory is written and restored.
        recovery: Restores memory; knows what is only on disk.
        store: Where everything is written.
        historian: Takes over what a start does not need.
        durability: What outlives a crash, by stream: ``journal``, ``checkpoint`` or ``none``.
        max_devices: Of a stream, in memory.
    """

    def __init__(
        self,
        engine: Engine,
        recovery: Recovery,
        store: Store,
        historian: Historian,
        durability: Mapping[str, str],
        *,
        max_devices: int,
    ) -> None:
        self._journalled = {name for name, how in durability.items() if how == "journal"}
        self._kept = {name for name, how in durability.items() if how != "none"}
        self._max_devices = max_devices
        self._intake = engine.intake
        self._memory = engine.memory
        self._fleet = engine.fleet
        self._metrics: Metrics = engine.metrics
        self._log: Log = engine.log
        self._clock = engine.clock
        self._recovery = recovery
        self._store = store
        self._historian = historian
        self._committed_at = self._round_at = time.monotonic()
        self._confirmed: list[int] = []
        self._begin()

    def _begin(self) -> None:
        """Begin with nothing but what is on disk."""
        self._position = self._store.last_position
        self._last_number = self._store.last_number
        self._dirty = {name: Dirty() for name in self._kept}
        self._readings: dict[str, int] = {}
        self._round: dict[str, int] = {}
        self._everything = False
        self._open_transaction()

    def _open_transaction(self) -> None:
        self._change = Change()
        self._urgent = False  # something waits for the commit
        self._sync = False  # it has to survive a power cut, too
        self._prepared = False  # it was complete when it could not be written

    def restore(self) -> None:
        """Put memory back as it was at the last commit; what was not committed is forgotten."""
        # What the broker has, it has: sent again, an old state would follow the new one.
        self._confirmed = [*self._change.confirmed, *self._confirmed]
        self._begin()
        self._intake.begin()
        self._intake.restore(self._store.topic_states())
        self._intake.next_instant = max(self._intake.next_instant, self._store.alive_at)
        self._intake.deliveries.restore(self._store.deliveries())
        self._recovery.restore(self._mark)

    def keep(self, decision: Decision) -> list[tuple[int, Publication]]:
        """Take a decision into the open transaction.

        Returns:
            What is to be published once it is committed, each with its number in the outbox (0: it
            is not in there).
        """
        now = self._clock()
        for record, outcomes in decision.records:
            self._number(record, {name: outcome.touched for name, outcome in outcomes.items()})
        outgoing = []
        for stream, publication in decision.publications:
            number = 0
            if publication.qos and not publication.once and (stream in self._kept or not stream):
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
        self._change.forgotten += [
            (event.stream, event.device) for event in decision.events if isinstance(event, DeviceForgotten)
        ]
        if decision.replies:
            self._change.replies += [(*what, *said) for what, said in decision.replies.items()]
            self._urgent = self._sync = True
        self._change.deliveries += self._intake.deliveries.changes()
        return outgoing

    def confirm(self, numbers: Iterable[int]) -> None:
        """Take messages that the broker has confirmed out of the outbox, with the next commit."""
        self._confirmed += [number for number in numbers if number]

    @property
    def confirmed(self) -> frozenset[int]:
        """Numbers of messages that the broker has, but that are not out of the outbox yet."""
        return frozenset(self._confirmed)

    def note(self, key: str, fact: object) -> None:
        """Keep a small fact, with the next commit."""
        self._change.facts[key] = json.dumps(fact)

    def fact(self, key: str) -> object:
        """Return a small fact; None where it was never noted."""
        found = self._store.get(key)
        return None if found is None else json.loads(found)

    @property
    def due(self) -> bool:
        """Whether something that waits has to be written now: it takes effect only then, or waited long."""
        waited = time.monotonic() - self._committed_at
        return (
            self._urgent or self._prepared or waited >= (IN_ROUND_S if any(self._round.values()) else LATER_S)
        )

    def commit(self) -> None:
        """Write the open transaction; after a failure, the same one again.

        Raises:
            StorageError: It could not be written.
        """
        if not self._prepared:
            self._prepare()
        begin = time.perf_counter()
        self._store.commit(self._change, sync=self._sync)
        self._metrics.committed(time.perf_counter() - begin)
        self._move_out()
        self._recovery.committed()
        self._open_transaction()
        self._committed_at = time.monotonic()
        self._offer()

    def finish(self, deadline: float) -> None:
        """Write all changed rows, so that the next start has nothing to replay; until a monotonic time.

        Raises:
            StorageError: They could not be written.
        """
        self._everything = True
        self.commit()
        while any(map(len, self._dirty.values())) and time.monotonic() < deadline:
            self.commit()

    def _number(self, record: Record, touched: Mapping[str, NDArray[np.int64]]) -> None:
        """Give a record its place in the journal, and note which devices it changed."""
        match record:
            case Readings():
                in_journal = record.stream in self._journalled
                self._urgent = self._urgent or in_journal
                self._sync = self._sync or in_journal
                self._readings[record.stream] = self._readings.get(record.stream, 0) + len(record)
            case Tick():
                in_journal = any(len(slots) for name, slots in touched.items() if name in self._kept)
            case Gap() | ModelSet() | Started() | Feedback():
                in_journal = self._urgent = self._sync = True
            case Acknowledged() | Forgotten() | TopicState():
                in_journal = record.stream in self._kept
                self._urgent = self._urgent or in_journal
                self._sync = self._sync or in_journal
            case _:
                assert_never(record)
        if in_journal:
            self._position += 1
            self._change.records.append((self._position, record))
        self._recovery.note(self._position, record)
        self._mark(self._position, record, touched)

    def _mark(self, position: int, record: Record, touched: Mapping[str, NDArray[np.int64]]) -> None:
        match record:
            case Readings():
                at = int(record.arrival[-1])
            case Tick() | Acknowledged():
                at = record.at
            case _:
                at = self._clock()
        for name, slots in touched.items():
            if name not in self._kept:
                continue
            if isinstance(record, Forgotten):
                for slot in slots.tolist():
                    self._dirty[name].written(slot)  # whoever gets the slot next is another device
            else:
                self._dirty[name].note(slots, max(1, position), at)

    def _prepare(self) -> None:
        """Add to the open transaction what goes along with every one."""
        change = self._change
        self._prepared = True
        change.keep_deliveries = self._intake.deliveries.keep
        change.confirmed, self._confirmed = self._confirmed, []
        change.alive_at = max(self._clock(), self._intake.next_instant)
        change.trim = self._historian.moved
        self._begin_round()
        for name, dirty in self._dirty.items():
            stream = self._memory.streams[name]
            readings = self._readings.pop(name, 0)
            if self._everything:
                count = LARGEST_SLICE
            elif name in self._journalled:
                count = dirty.due(readings)
                if (oldest := dirty.oldest) is not None and self._clock() - oldest[1] >= OVERDUE:
                    count = max(count, ROUND_SLICE)  # else a slow stream would hold the journal of a fast one
            else:
                count = min(ROUND_SLICE, self._round.get(name, 0))
                self._round[name] = self._round.get(name, 0) - count
            for slot in dirty.take(count).tolist():
                change.rows.append((self._position, name, stream.state_of(slot)))
            if len(stream.devices) >= ROOM * self._max_devices:
                self._choose(name, stream)

    def _begin_round(self) -> None:
        """Now and then, let the rows of streams without a journal be written that have changed by now."""
        if time.monotonic() - self._round_at >= ROUND_S and not any(self._round.values()):
            self._round_at = time.monotonic()
            self._round = {name: len(self._dirty[name]) for name in self._kept - self._journalled}

    def _choose(self, name: str, stream: Stream) -> None:
        """Choose devices that only the disk shall keep: those that nobody waits for."""
        dirty = self._dirty[name]
        for slot in stream.idle_devices(max(FEWEST_MOVED, self._max_devices // 64)):
            if dirty.is_dirty(slot):
                self._change.rows.append((self._position, name, stream.state_of(slot)))
                dirty.written(slot)
            self._change.evicted.append((name, stream.devices.names[slot]))

    def _move_out(self) -> None:
        """Forget the devices that are on disk now."""
        for name, device in self._change.evicted:
            stream = self._memory.streams[name]
            stream.forget(stream.devices.slot_of[device])
            self._intake.forget(name, device)
            self._fleet.forget(name, device)
            self._recovery.evicted[name] += 1

    def _offer(self) -> None:
        """Offer to history what a start does not need, and say from when on it does."""
        waiting = {name: dirty.oldest for name, dirty in self._dirty.items()}
        needed = [found[0] for name, found in waiting.items() if found and name in self._journalled]
        self._historian.offer(min(needed) - 1 if needed else self._position)
        if self._historian.problem:
            self._log.warn("history", "%s", self._historian.problem)
        self._metrics.checkpointed(
            min((found[1] for found in waiting.values() if found), default=self._clock())
        )
