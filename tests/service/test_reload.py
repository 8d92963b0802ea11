"""A new model takes over between two batches; a broken one changes nothing."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.models import bundle
from stream_detector.models.training import train
from tests.brokers import Peer, wait_for
from tests.service.sensor import TOPIC, healthy, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.brokers import Mosquitto
    from tests.service.running import RunningService

pytestmark = pytest.mark.mosquitto

WINDOW = 16
DEVICES = 3


def save_model(models_dir: Path) -> Path:
    """Train a model on healthy readings and save it as the next version."""
    values = np.array([healthy(number) for number in range(400)])
    means = np.convolve(values, np.full(WINDOW, 1 / WINDOW), mode="valid")
    trained = train(
        np.stack((values[-len(means) :], means), axis=1),
        name="pumps",
        channels=("vibration",),
        features=("value", "mean"),
        window=WINDOW,
        detector="hbos",
        contamination=0.01,
    )
    return bundle.save(trained, models_dir)


class Publisher(threading.Thread):
    """Publishes healthy readings of some pumps without pause, numbered by their time."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.published = 0  # by each device
        self._port = port
        self._stopped = threading.Event()

    def run(self) -> None:
        """Publish until stopped."""
        with Peer(self._port) as sensor:
            while not self._stopped.is_set():
                content = payload(reading(self.published))
                for device in range(DEVICES):
                    sensor.publish(f"plant/north/pump-{device}/telemetry", content)
                self.published += 1

    def stop(self) -> int:
        """End, and return how many readings each device has sent."""
        self._stopped.set()
        self.join()
        return self.published


def test_a_new_model_loses_and_doubles_nothing(
    mosquitto: Mosquitto, start_service: Callable[..., RunningService], tmp_path: Path
) -> None:
    """Each reading is scored once; from one reading on by version 2; no window warms up again.

    Then a broken version 3 comes, and version 2 goes on.
    """
    models_dir = tmp_path / "models"
    save_model(models_dir)
    streams = {
        "pumps": {
            "topic": TOPIC,
            "model": "pumps",
            "builtin": False,
            "window": WINDOW,
            "publish_scores": True,
        }
    }
    service = start_service(mosquitto.port, streams=streams, models_dir=str(models_dir))
    with Peer(mosquitto.port) as reader:
        reader.subscribe("stream_detector/score/#", qos=0)
        publisher = Publisher(mosquitto.port)
        publisher.start()
        service.wait_for_count("readings_scored_total", 30, model="pumps")
        assert version_in_use(service) == "1"

        loaded = service.count("model_reloads_total", model="pumps", result="loaded")
        save_model(models_dir)
        wait_for(lambda: version_in_use(service) == "2", what="version 2 scores")
        put_broken_version_3(models_dir, tmp_path / "elsewhere")
        service.wait_for_count("model_reloads_total", 1, model="pumps", result="refused")
        scored = service.count("readings_scored_total")
        service.wait_for_count("readings_scored_total", scored + 30, model="pumps")
        assert version_in_use(service) == "2"
        assert service.count("model_reloads_total", model="pumps", result="loaded") == loaded + 1

        count = publisher.stop()
        service.wait_for_count("messages_received_total", DEVICES * count)
        warming_up = service.count("readings_warming_up_total")
        assert service.count("readings_scored_total") + warming_up == DEVICES * count
        messages = reader.wait_for(lambda found: len(found) >= DEVICES * count - warming_up)
    assert warming_up == DEVICES * WINDOW
    assert "keeps its model: " in service.log()
    assert service.log().count("keeps its model: ") == 1
    for device in range(DEVICES):
        scores = [
            json.loads(message.payload)
            for message in messages
            if message.topic == f"stream_detector/score/pumps/pump-{device}"
        ]
        expected = [reading(number)["ts"] for number in range(WINDOW, count)]
        assert [score["ts"] for score in scores] == expected
        versions = [score["model"]["version"] for score in scores]
        assert versions == sorted(versions)
        assert set(versions) == {"1", "2"}


def version_in_use(service: RunningService) -> str:
    """Return the version that scores the pumps."""
    (found,) = [dict(labels) for (name, labels), _ in service.samples().items() if name == "model_info"]
    return found["version"]


def put_broken_version_3(models_dir: Path, elsewhere: Path) -> None:
    """Let a bundle appear whose estimator's file is cut."""
    *_, folder = (save_model(elsewhere) for _ in range(3))
    (folder / "model.skops").write_bytes(b"cut")
    folder.rename(models_dir / "pumps" / "3")
