"""Bytes a device: how much a process grows by 100,000 devices with four channels and full windows.

Everything that is kept of a device is in it: its topic's route, its names, its row in the state
tables. Runs in a process of its own, so that nothing else grows.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.detector import rss_bytes
from benchmarks.workload import CHANNELS, HISTORY, STREAM, configuration
from stream_detector.core.records import Readings
from stream_detector.service.decision import Decision
from stream_detector.service.engine import offline
from stream_detector.service.memory import warm_up
from stream_detector.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from stream_detector.service.processing import Processing

READINGS = 64 + 40
"""Of each device: a full window, and past the 40 that the detector lets settle."""
BATCH = 2000


def bytes_per_device(devices: int) -> float:
    """Return the growth of a process by so many devices, divided by them."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_grow, args=(devices, theirs), daemon=True)
    process.start()
    found: float = ours.recv()
    process.join()
    return found


def _grow(devices: int, pipe: Connection[Any, Any]) -> None:
    warm_up()
    settings = Settings(**{**json.loads(configuration(1883, 0, ".")), "max_devices": devices})
    processing = offline(settings, lambda: 0).processing
    start = int((datetime.now(UTC) - HISTORY).timestamp() * 1e6)
    gc.collect()
    before = rss_bytes(os.getpid())
    for first in range(0, devices, BATCH):
        names = [f"pump-{number:06d}" for number in range(first, min(first + BATCH, devices))]
        _introduce(processing, names, start)
        for number in range(1, READINGS):
            processing.readings(Decision(), _readings(names, start + number * 1_000_000, number))
    gc.collect()
    pipe.send((rss_bytes(os.getpid()) - before) / devices)


def _introduce(processing: Processing, names: list[str], at: int) -> None:
    """Let devices be heard of as they are in life: by a message."""
    payload = json.dumps({"ts": at // 1000, "seq": 0, "values": dict.fromkeys(CHANNELS, 5.0)}).encode()
    topics = [f"plant/a/{name}/telemetry".encode() for name in names]
    processing.messages(Decision(), topics, [payload] * len(names), [0] * len(names), at)


def _readings(names: list[str], at: int, number: int) -> Readings:
    n = len(names)
    random = np.random.default_rng(number)
    return Readings(
        stream=STREAM,
        devices=names,
        columns=(tuple(CHANNELS),),
        shapes=np.zeros(n, dtype=np.int32),
        values=random.normal(5.0, 0.3, n * len(CHANNELS)),
        ts=np.full(n, at),
        arrival=np.full(n, at),
        seq=np.full(n, number),
        index=np.zeros(n, dtype=np.int32),
    )
