"""The service without its sockets, for tests: messages in, publications, metrics and log lines out."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from stream_detector.service.admission import NothingOnDisk
from stream_detector.service.decision import Decision
from stream_detector.service.engine import offline
from stream_detector.settings import Settings

if TYPE_CHECKING:
    import pytest

    from stream_detector.core.records import Record
    from stream_detector.outputs.device_series import DeviceSeries

NOW = 1_770_000_000_000_000
SECOND = 1_000_000


class Bench:
    """The service without its sockets, and what its metrics say.

    Args:
        series: The series of single devices.
        max_devices: The setting.
        stream: Settings of the stream, which is called pumps.
    """

    def __init__(self, *, series: DeviceSeries | None = None, max_devices: int = 5, **stream: Any) -> None:
        settings = Settings.model_validate(
            {
                "streams": {"pumps": {"topic": "plant/{site}/{device}", **stream}},
                "max_devices": max_devices,
            }
        )
        self.engine = offline(settings, lambda: NOW, on_disk=NothingOnDisk(settings.streams), series=series)
        self.metrics = self.engine.metrics
        self.processing = self.engine.processing
        self.now = NOW

    def send(self, *messages: tuple[str, object], flags: int = 0) -> list[dict[str, Any]]:
        """Take messages in as one batch; return the states and alerts that are published."""
        payloads = [one if isinstance(one, bytes) else json.dumps(one).encode() for _, one in messages]
        topics = [topic.encode() for topic, _ in messages]
        self.now += SECOND
        decision = Decision()
        self.processing.messages(decision, topics, payloads, [flags] * len(messages), self.now)
        return self.told(decision)

    def record(self, record: Record) -> list[dict[str, Any]]:
        """Take a record in; return what is published."""
        decision = Decision()
        self.processing.record(decision, record)
        return self.told(decision)

    def told(self, decision: Decision) -> list[dict[str, Any]]:
        """Tell what was decided; return what is published, but what is emptied."""
        self.engine.reporting.report(decision)
        published = [publication.payload for _, publication in decision.publications]
        return [json.loads(payload) for payload in published if payload]

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return all samples."""
        return {
            (sample.name.removeprefix("stream_detector_"), frozenset(sample.labels.items())): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a metric that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, its), value in self.samples().items() if found == name and wanted <= its)


def listen(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `caplog` hear our log lines, whatever other tests have set up."""
    monkeypatch.setattr(logging.getLogger("stream_detector"), "propagate", True)
    caplog.set_level(logging.INFO, "stream_detector")
