"""Proof: a day of readings leaves nothing behind in the process: memory, files and threads level off.

The day passes as fast as the service takes it, through a real broker, with every reading in the journal.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from tests.abuse.process import MB, Abused, open_files, resident_mb, threads
from tests.abuse.wire import Wire
from tests.faults.proof import Result
from tests.faults.runs import mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES = 100
A_DAY = 864_000
SAMPLES = 24
WARM_UP = SAMPLES // 3
"""Samples that are not looked at: caches fill, and the allocator finds its size."""
BEGIN = 1_700_000_000
PATIENCE_S = 120.0
SLOPE_MB = 1.0
"""Memory may grow by so much in 100,000 readings."""
STATE_MB, LOG_MB = 300.0, 100.0


@dataclass(frozen=True, slots=True)
class _Sample:
    resident_mb: float
    files: int
    threads: int
    state_mb: float
    log_mb: float


def prove(
    _forks: object, folder: Path, seed: int, readings: int = A_DAY, slope_mb: float = SLOPE_MB
) -> Result:
    """Let a day pass."""
    del seed  # there is no chance in it
    a_sample = readings // SAMPLES
    with mosquitto(folder / "broker") as broker:
        service = Abused(
            folder / "service",
            broker={"url": broker.url},
            streams={"pumps": {"topic": "plant/{site}/{device}", "silence": False}},
        )
        with service, Wire(broker.port) as wire:
            service.wait_ready()
            rest, samples, sent = _day(), [], 0
            began = monotonic()
            for _ in range(SAMPLES):
                sent += wire.send(message for message, _ in zip(rest, range(a_sample), strict=False))
                service.wait_for_count("readings_accepted_total", sent, PATIENCE_S)
                samples.append(_look(service))
            rate = sent / (monotonic() - began)
            scored = service.count("readings_accepted_total")
            code = service.stop()
    problems = [] if code == 0 else [f"it ended with {code}"]
    if scored != sent:
        problems.append(f"{sent:,} readings were sent, {scored:,.0f} were accepted")
    settled = samples[WARM_UP:]
    resident = [sample.resident_mb for sample in settled]
    slope = float(np.polyfit(np.arange(len(settled)) * a_sample / 100_000, resident, 1)[0])
    problems += _growth(samples, slope, slope_mb)
    last = samples[-1]
    return Result(
        "soak",
        f"{sent:,} readings, {rate:,.0f} a second: memory {resident[0]:.0f} -> {resident[-1]:.0f} MB"
        f" ({slope:+.2f} MB in 100,000), {last.files} files, {last.threads} threads; state.db at most"
        f" {max(s.state_mb for s in samples):.1f} MB, its log {max(s.log_mb for s in samples):.1f} MB",
        problems,
    )


def _growth(samples: list[_Sample], slope: float, slope_mb: float) -> list[str]:
    """Return what did not level off."""
    problems = []
    settled = samples[WARM_UP:]
    if slope > slope_mb:
        problems.append(f"memory grows by {slope:.2f} MB in 100,000 readings")
    for name in ("files", "threads"):
        seen = [getattr(sample, name) for sample in settled]
        half = len(seen) // 2
        if max(seen[half:]) > max(seen[:half]) + 2:  # one that opens and closes may be seen open
            problems.append(f"{name} grow: {seen}")
    if max(sample.state_mb for sample in samples) > STATE_MB:
        problems.append(f"state.db grew to {max(sample.state_mb for sample in samples):.0f} MB")
    if max(sample.log_mb for sample in samples) > LOG_MB:
        problems.append(f"the log of state.db grew to {max(sample.log_mb for sample in samples):.0f} MB")
    return problems


def _look(service: Abused) -> _Sample:
    assert service.process is not None
    pid, state = service.process.pid, service.folder / "state"
    sizes = {name: (state / name).stat().st_size / MB for name in ("state.db", "state.db-wal")}
    return _Sample(resident_mb(pid), open_files(pid), threads(pid), sizes["state.db"], sizes["state.db-wal"])


def _day() -> Iterator[tuple[bytes, bytes]]:
    """Yield readings for ever; one in a thousand is unusual."""
    number = 0
    while True:
        number += 1
        x = math.sin(number) * 2 + (30.0 if number % 1009 == 0 else 0.0)
        said = {"ts": BEGIN + number // DEVICES, "values": {"x": round(x, 3), "y": number % 17}}
        yield b"plant/n/pump-%d" % (number % DEVICES), json.dumps(said).encode()
