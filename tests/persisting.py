"""The service with its disk but without its sockets: what is kept over a crash, seen from outside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from stream_detector.core.records import Tick
from stream_detector.outputs.log import Log
from stream_detector.outputs.metrics import Metrics
from stream_detector.service.decision import Decision
from stream_detector.service.engine import Engine
from stream_detector.service.fleet_view import FleetView
from stream_detector.service.memory import Memory
from stream_detector.service.persistence import Persistence
from stream_detector.service.recovery import Recovery
from stream_detector.service.scoring_models import ScoringModels
from stream_detector.settings import Settings
from stream_detector.storage.history import Historian
from stream_detector.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.core.records import Record
    from stream_detector.outputs.messages import Publication

SECOND = 1_000_000
NOW = 1_770_000_000_000_000


class Kept:
    """Processing, store and persistence on a folder.

    Args:
        folder: Where state_dir stands.
        settings: Beside the stream's; `stream` holds those.
    """

    def __init__(self, folder: Path, *, stream: dict[str, Any] | None = None, **settings: Any) -> None:
        self.settings = Settings.model_validate(
            {
                "streams": {"pumps": {"topic": "plant/{site}/{device}", **(stream or {})}},
                "state_dir": str(folder / "state"),
                **settings,
            }
        )
        self.now = NOW
        self.published: list[Publication] = []
        self.open()

    def open(self) -> None:
        """Start as a service does."""
        self.store = Store(self.settings.state_dir)
        streams = self.settings.streams
        durability = {name: stream.kept for name, stream in streams.items()}
        self.metrics, log, fleet = Metrics(streams, CollectorRegistry()), Log(), FleetView()
        models = ScoringModels()
        memory = Memory([stream.spec(name) for name, stream in streams.items()], models)
        self.recovery = Recovery(memory, self.store, durability, self.metrics, log, fleet)
        self.engine = Engine(
            self.settings,
            lambda: self.now,
            models=models,
            memory=memory,
            metrics=self.metrics,
            log=log,
            fleet=fleet,
            on_disk=self.recovery,
        )
        self.processing = self.engine.processing
        historian = Historian(self.settings.state_dir, keep_us=0, keep_bytes=0)
        self.persistence = Persistence(
            self.engine,
            self.recovery,
            self.store,
            historian,
            durability,
            max_devices=self.settings.max_devices,
        )
        self.persistence.restore()

    def crash(self) -> None:
        """End as a kill ends it: what is not on disk is gone."""
        self.let_go()
        self.open()

    def let_go(self) -> None:
        """Close the files without noting an orderly end."""
        self.store._marked_open = False
        self.store.close()

    def send(
        self, *messages: tuple[str, object], ids: list[int] | None = None, flags: int = 0, tell: bool = True
    ) -> list[dict[str, Any]]:
        """Take messages in as one batch; return what is published once it is committed."""
        payloads = [one if isinstance(one, bytes) else json.dumps(one).encode() for _, one in messages]
        decision = Decision()
        self.processing.messages(
            decision,
            [topic.encode() for topic, _ in messages],
            payloads,
            [flags] * len(messages),
            self.now,
            packet_ids=ids,
        )
        return self.conclude(decision) if tell else []

    def record(self, record: Record) -> list[dict[str, Any]]:
        """Take a record in."""
        decision = Decision()
        self.processing.record(decision, record)
        return self.conclude(decision)

    def tick(self) -> list[dict[str, Any]]:
        """Let time pass to now."""
        return self.record(Tick(self.now))

    def conclude(self, decision: Decision) -> list[dict[str, Any]]:
        """Write and tell a decision; what empties a retained message has no content."""
        outgoing = self.persistence.keep(decision)
        if self.persistence.due:
            self.persistence.commit()
        self.engine.reporting.report(decision)
        self.published += [publication for _, publication in outgoing]
        return [json.loads(publication.payload) for _, publication in outgoing if publication.payload]

    def state(self, device: str) -> DeviceState:
        """Return the memory of a device."""
        stream = self.engine.memory.streams["pumps"]
        return stream.state_of(stream.devices.slot_of[device])

    def states(self) -> dict[str, DeviceState]:
        """Return the memory of all devices, by name."""
        return {name: self.state(name) for name in self.engine.memory.streams["pumps"].devices.slot_of}

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a metric that have these labels."""
        wanted = set(labels.items())
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"stream_detector_{name}" and wanted <= set(sample.labels.items())
        )
