"""A recording through the product: what it scored, when an alert was open, and which alerts there were."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.events import SEVERITIES, AlertChanged
from stream_detector.core.records import NO_SEQ, Readings, Tick
from stream_detector.service.decision import Decision
from stream_detector.service.engine import offline
from stream_detector.settings import validate
from stream_detector.sources import playing
from stream_detector.sources.recordings import Recording

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.events import Event

STREAM = "quality"


@dataclass(slots=True)
class Alert:
    """One alert, from its events; times in s since 1970.

    Attributes:
        device: Whose.
        kind: ``point``, ``stuck``, …
        severity: The highest that it ever had.
        channel: The first that it named when it was first raised; empty where it named none.
        reason: Its first sentence.
        spans: [raised, cleared] for each time it was open; `inf` where it was never cleared.
    """

    device: str
    kind: str
    severity: str
    channel: str
    reason: str
    spans: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a recording of n rows.

    Attributes:
        score: NaN for a row that was not scored (warming up, late, a duplicate), (n,).
        open: After this row an alert of its device is open, (n,).
        raised: With this row, or since the device's row before it, an alert was raised, (n,).
        alerts: In the order in which they were first raised.
        seconds: How long the product took.
    """

    score: NDArray[np.float64]
    open: NDArray[np.bool_]
    raised: NDArray[np.bool_]
    alerts: list[Alert]
    seconds: float


def recording_of(
    devices: Mapping[str, tuple[NDArray[np.int64], Mapping[str, NDArray[np.float64]]]],
) -> tuple[Recording, dict[str, NDArray[np.int64]]]:
    """Put series together in the order of time.

    Args:
        devices: Times in µs, (n,), and the values of each channel, (n,), by device.

    Returns:
        The recording, and for each device where its rows are in it, in their own order.
    """
    channels = tuple(dict.fromkeys(name for _, values in devices.values() for name in values))
    ts = np.concatenate([each for each, _ in devices.values()])
    names = [device for device, (each, _) in devices.items() for _ in range(len(each))]
    values = np.full((len(ts), len(channels)), np.nan)
    start = 0
    for each, columns in devices.values():
        for name, column in columns.items():
            values[start : start + len(each), channels.index(name)] = column
        start += len(each)
    order = np.argsort(ts, kind="stable")
    place = np.empty(len(ts), dtype=np.int64)
    place[order] = np.arange(len(ts))
    found, start = {}, 0
    for device, (each, _) in devices.items():
        found[device] = place[start : start + len(each)]
        start += len(each)
    recording = Recording(
        devices=[names[i] for i in order.tolist()],
        ts=ts[order],
        seq=np.full(len(ts), NO_SEQ, dtype=np.int64),
        channels=channels,
        values=values[order],
    )
    return recording, found


def play(recording: Recording) -> Played:
    """Run a recording through the shipped configuration, as ``stream-detector replay`` does."""
    settings = validate({"streams": {STREAM: {"topic": "quality/{device}"}}}, where="quality")
    events: list[AlertChanged] = []

    def read(event: Event) -> None:
        if isinstance(event, AlertChanged):
            events.append(event)

    now, row = [0], 0
    engine = offline(settings, lambda: now[0], readers=[read])
    score = np.full(len(recording), np.nan)
    began = time.perf_counter()
    for record in playing.play(recording, engine.memory.streams[STREAM]):
        decision = Decision()
        if isinstance(record, Readings):
            now[0] = int(record.arrival[-1])
            engine.processing.readings(decision, record)
            outcome = decision.records[0][1][STREAM]
            score[row + outcome.scored] = outcome.scores
            row += len(record)
        elif isinstance(record, Tick):
            now[0] = record.at
            engine.processing.record(decision, record)
        engine.reporting.report(decision)
    seconds = time.perf_counter() - began
    is_open, raised = _by_row(recording, events)
    return Played(score, is_open, raised, alerts_of(events), seconds)


def alerts_of(events: Iterable[AlertChanged]) -> list[Alert]:
    """Put events together to alerts: one that is raised again is the same alert with another span."""
    found: dict[str, Alert] = {}
    for event in events:
        alert = found.get(event.id)
        if alert is None:
            channel = event.contributions[0].channel if event.contributions else ""
            alert = Alert(event.device, event.kind, event.severity, channel, event.reason)
            found[event.id] = alert
        alert.severity = max(alert.severity, event.severity, key=SEVERITIES.index)
        at = event.updated_at / 1e6
        if event.event == "raise":
            alert.spans.append([at, inf])
        elif event.event == "clear" and alert.spans:
            alert.spans[-1][1] = at
    return list(found.values())


def _by_row(
    recording: Recording, events: Sequence[AlertChanged]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each row whether an alert of its device is open then, and whether one was raised.

    What a tick raised is told at the device's next row: at the one before it nobody knew.
    """
    n = len(recording)
    is_open, raised = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    devices = np.array(recording.devices)
    changes: dict[str, list[AlertChanged]] = {}
    for event in events:
        if event.event in {"raise", "clear"}:
            changes.setdefault(event.device, []).append(event)
    for device, of_device in changes.items():
        rows = np.flatnonzero(devices == device)
        ts = recording.ts[rows]
        steps = np.zeros(len(rows) + 1, dtype=np.int64)
        for event in of_device:
            at = int(np.searchsorted(ts, event.updated_at))
            steps[at] += 1 if event.event == "raise" else -1
            if event.event == "raise" and at < len(rows):
                raised[rows[at]] = True
        is_open[rows] = np.cumsum(steps)[:-1] > 0
    return is_open, raised
