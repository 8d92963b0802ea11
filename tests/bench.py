"""The service without its sockets, for tests: messages in, publications, metrics and log lines out."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from stream_detector.processing import Processing
from stream_detector.settings import Settings
from stream_detector.telemetry import Telemetry

if TYPE_CHECKING:
    import pytest

NOW = 1_770_000_000_000_000
SECOND = 1_000_000


class Bench:
    """The service without its sockets, and what its metrics say."""

    def __init__(self, **stream: Any) -> None:
        settings = Settings.model_validate(
            {"streams": {"pumps": {"topic": "plant/{site}/{device}", **stream}}, "max_devices": 5}
        )
        self.telemetry = Telemetry(settings.streams, CollectorRegistry())
        self.processing = Processing(settings, self.telemetry, lambda: NOW)
        self.now = NOW

    def send(self, *messages: tuple[str, object], flags: int = 0) -> list[dict[str, Any]]:
        """Take messages in as one batch; return the states and alerts that are published."""
        payloads = [one if isinstance(one, bytes) else json.dumps(one).encode() for _, one in messages]
        topics = [topic.encode() for topic, _ in messages]
        self.now += SECOND
        published, _ = self.processing.messages(topics, payloads, [flags] * len(messages), self.now)
        return [json.loads(one.payload) for one in published]

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
