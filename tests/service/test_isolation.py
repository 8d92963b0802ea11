"""An error inside costs memory, never data: the service as a thread of the test, so that it can be broken."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector import failpoints
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import Readings
from stream_detector.errors import StreamDetectorError
from stream_detector.service.assembly import Service
from stream_detector.settings import Settings
from tests.brokers import PATIENCE_S, Mosquitto, Peer, wait_for
from tests.service.sensor import payload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mosquitto
GOOD = payload({"ts": 1_767_225_600, "values": {"x": 1.0}})


@contextmanager
def running(folder: Path, port: int, errors: list[StreamDetectorError] | None = None) -> Iterator[Service]:
    """Run the service in a thread; what `run` raises goes to `errors`."""
    settings = Settings.model_validate(
        {
            "broker": {"url": f"mqtt://127.0.0.1:{port}", "keepalive_s": 5},
            "streams": {"pumps": {"topic": "plant/{device}"}},
            "http": {"listen": "127.0.0.1:0"},
            "state_dir": str(folder / "state"),
        }
    )
    service = Service(settings)

    def run() -> None:
        try:
            service.run()
        except StreamDetectorError as error:
            if errors is not None:
                errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: service.ready, what="it is ready")
        yield service
    finally:
        service.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def total(service: Service, name: str, **labels: str) -> float:
    """Return the sum over all series of a metric that have these labels."""
    wanted = set(labels.items())
    return sum(
        sample.value
        for family in service.metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"stream_detector_{name}" and wanted <= set(sample.labels.items())
    )


def test_the_message_that_breaks_the_core_is_found(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone becomes a dead letter; those that came with it, and those before, count as ever."""
    process = Pipeline.process

    def poisoned(pipeline: Pipeline, record: Any) -> Any:
        outcome = process(pipeline, record)  # memory has changed by then
        if isinstance(record, Readings) and "poison" in record.devices:
            raise ZeroDivisionError("broken")
        return outcome

    monkeypatch.setattr(Pipeline, "process", poisoned)
    with running(tmp_path, mosquitto.port) as service, Peer(mosquitto.port) as sensor:
        sensor.subscribe("stream_detector/deadletter/#")
        for k in range(20):
            name = "poison" if k % 7 == 3 else f"p{k}"
            sensor.client.publish(f"plant/{name}", GOOD, qos=1)
        wait_for(
            lambda: total(service, "messages_received_total", stream="pumps") == 20, what="all are counted"
        )
        assert total(service, "messages_accepted_total") == 17
        assert total(service, "messages_rejected_total", reason="internal_error") == 3
        assert total(service, "readings_accepted_total") == 17
        assert total(service, "devices") == 17
        letters = sensor.wait_for(lambda found: len(found) == 3)
        assert {letter.topic for letter in letters} == {"stream_detector/deadletter/internal_error"}
        assert service.ready


@pytest.mark.parametrize(
    "place", ["after receive", "after commit", "before acknowledgements", "after publish"]
)
def test_an_error_anywhere_else_begins_anew_from_disk(
    place: str, tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is made anew, what was not acknowledged comes again, and each reading counts once."""
    with running(tmp_path, mosquitto.port) as service, Peer(mosquitto.port) as sensor:
        left = [1]

        def fail() -> None:
            if left:
                left.pop()
                raise RuntimeError("unexpected")

        for k in range(10):
            if k == 5:
                monkeypatch.setitem(failpoints.armed, place, fail)
            sensor.publish(f"plant/p{k}", GOOD)
        wait_for(lambda: not left, what="it has failed")
        wait_for(lambda: total(service, "devices") == 10, what="all devices are known")
        wait_for(lambda: service.ready, what="it is ready again")


def test_errors_without_end_end_the_service(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five, with one sentence: a supervisor can start it anew."""
    errors: list[StreamDetectorError] = []

    def fail() -> None:
        raise RuntimeError("unexpected")

    with running(tmp_path, mosquitto.port, errors):
        monkeypatch.setitem(failpoints.armed, "after publish", fail)
        wait_for(lambda: errors, what="it gives up")
    assert "failed 5 times within ten minutes (RuntimeError: unexpected)" in str(errors[0])
