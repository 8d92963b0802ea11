"""The service without its sockets, for tests: messages in, publications, metrics and log lines out."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from stream_detector.outputs.telemetry import Telemetry
from stream_detector.service.admission import Admission
from stream_detector.service.processing import Decision, Processing
from stream_detector.settings import Settings

if TYPE_CHECKING:
    import pytest

    from stream_detector.core.records import Record
    from stream_detector.outputs.device_series import DeviceSeries

NOW = 1_770_000_000_000_000
SECOND = 1_000_000


class NothingOnDisk:
    """What admission asks for devices on disk, where there is no disk."""

    def __init__(self, streams: dict[str, Any]) -> None:
        self.evicted = dict.fromkeys(streams, 0)

    def fetch(self, _stream: str, _device: str) -> bool:
        """Return whether a device came back: never."""
        return False


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
        self.telemetry = Telemetry(settings.streams, CollectorRegistry(), series)
        nobody: Any = NothingOnDisk(settings.streams)
        self.processing = Processing(
            settings,
            self.telemetry,
            lambda: NOW,
            admission=lambda pipeline: Admission(settings, pipeline, lambda: nobody, lambda: NOW),
        )
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
        self.processing.tell(decision)
        published = [publication.payload for _, publication in decision.publications]
        return [json.loads(payload) for payload in published if payload]

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return all samples."""
        return {
            (sample.name.removeprefix("stream_detector_"), frozenset(sample.labels.items())): sample.value
            for family in self.telemetry.registry.collect()
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
