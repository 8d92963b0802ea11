"""Recordings with known events -> messages to a real broker, and the alerts that came back -> figures."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tests.brokers import Peer
from tests.service.running import RunningService

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATIENCE_S = 90.0


@dataclass(frozen=True)
class Recording:
    """What one device said, and when something was wrong with it.

    Attributes:
        device: Its name.
        rows: Time and values of each reading.
        events: First and last instant of each labelled event.
    """

    device: str
    rows: list[tuple[datetime, dict[str, float]]]
    events: list[tuple[datetime, datetime]]


@dataclass(frozen=True)
class Figures:
    """How the alerts of one device compare with its labelled events.

    A `point` alert that starts within an event has caught it; one that starts outside of all is false.
    """

    events: int
    caught: int
    false: int


def nab(folder: Path) -> list[Recording]:
    """Return the series of the Numenta Anomaly Benchmark in a folder."""
    found = []
    for name, events in json.loads((folder / "windows.json").read_text()).items():
        with gzip.open(folder / f"{name}.csv.gz", "rt") as file:
            rows = [(_utc(row["timestamp"]), {"value": float(row["value"])}) for row in csv.DictReader(file)]
        found.append(Recording(name, rows, [(_utc(first), _utc(last)) for first, last in events]))
    return found


def skab(file: Path) -> Recording:
    """Return a run of the Skoltech Anomaly Benchmark: eight sensors; its events are runs of ``anomaly``."""
    rows, events = [], []
    last_label = 0.0
    with gzip.open(file, "rt") as text:
        for row in csv.DictReader(text):
            at = _utc(row.pop("datetime"))
            label = float(row.pop("anomaly"))
            del row["changepoint"]
            rows.append((at, {name: float(value) for name, value in row.items()}))
            if label and not last_label:
                events.append((at, at))
            elif label:
                events[-1] = (events[-1][0], at)
            last_label = label
    return Recording(file.name.removesuffix(".csv.gz"), rows, events)


def replay(recordings: Sequence[Recording], folder: Path, port: int) -> list[dict[str, Any]]:
    """Publish all recordings at once through a broker to the real service; return the alert events.

    Everything is as configured by default but one: silence is not judged. It compares arrival times,
    and here a month of arrivals takes a second, after which the devices say nothing for as long as the
    test looks at the alerts.
    """
    streams = {"recorded": {"topic": "recorded/{device}", "silence": False}}
    service = RunningService(folder, broker={"url": f"mqtt://127.0.0.1:{port}"}, streams=streams)
    with service, Peer(port) as sensors, Peer(port, mqtt5=False) as reader:
        service.wait_ready()
        reader.subscribe("stream_detector/alert/#")
        count = _publish_interleaved(recordings, sensors)
        service.wait_for_count("messages_received_total", count, PATIENCE_S, stream="recorded")
        assert service.count("messages_accepted_total", stream="recorded") == count
        expected = service.count("alert_events_total", stream="recorded")
        return [
            json.loads(message.payload)
            for message in reader.wait_for(lambda messages: len(messages) >= expected, PATIENCE_S)
        ]


def compare(recording: Recording, alerts: Sequence[dict[str, Any]]) -> Figures:
    """Return what the `point` alerts of a device caught."""
    starts = [
        datetime.fromisoformat(alert["started_at"])
        for alert in alerts
        if alert["device"] == recording.device and alert["kind"] == "point" and alert["event"] == "raise"
    ]
    hits = [[first <= start <= last for first, last in recording.events] for start in starts]
    return Figures(
        events=len(recording.events),
        caught=sum(any(hit[k] for hit in hits) for k in range(len(recording.events))),
        false=sum(not any(hit) for hit in hits),
    )


def _publish_interleaved(recordings: Sequence[Recording], sensors: Peer) -> int:
    """Publish a row of each device in turn at QoS 1, and return how many once the broker has them all."""
    told = []
    for rows in zip_longest(*(recording.rows for recording in recordings)):
        for recording, row in zip(recordings, rows, strict=True):
            if row is not None:
                payload = json.dumps({"ts": row[0].isoformat(), "values": row[1]})
                told.append(sensors.client.publish(f"recorded/{recording.device}", payload, qos=1))
    for info in told:
        info.wait_for_publish(PATIENCE_S)
    return len(told)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
