"""Proof: however readings are repeated, reversed and numbered, each is counted exactly once and rightly.

What is right is said by a second, slow admission in plain Python, written after definitions.md 6 and 7.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stream_detector.core.devices.acceptance import RENUMBERED
from stream_detector.core.devices.registry import REMEMBERED
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import Readings
from stream_detector.core.spec import StreamSpec
from stream_detector.detectors.light import Light
from tests.abuse.fuzz import Sockless
from tests.abuse.payloads import BEGIN, Spoilt
from tests.faults.proof import Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Reading: TypeAlias = "tuple[str, int, int | None, float]"
"""Device, seconds since `BEGIN`, number, value."""

LARGEST = 2**62
STREAM = "learned"
FATES = ("accepted", "late", "duplicate", "missing", "refused")
METRICS = {
    "accepted": "readings_accepted_total",
    "late": "readings_late_total",
    "duplicate": "readings_duplicate_total",
    "missing": "sequence_gaps_total",
    "refused": "messages_rejected_total",
}


@dataclass(slots=True)
class _Device:
    """What a device has said."""

    newest: float = -float("inf")
    highest: float = -float("inf")
    forgotten: float = -float("inf")
    last: int | None = None
    remembered: deque[tuple[int, Any]] = field(default_factory=deque)


class Admission:
    """Judges one reading after the other.

    Args:
        largest: Numbers beyond are refused.

    Attributes:
        counts: What became of them, by `FATES`.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(FATES, 0))
        self._largest = largest
        self._devices: dict[str, _Device] = {}

    def take(self, reading: Reading) -> None:
        """Judge a reading."""
        name, ts, seq, value = reading
        if seq is not None and abs(seq) > self._largest:
            self.counts["refused"] += 1
            return
        device = self._devices.setdefault(name, _Device())
        identity = (ts, ("value", value) if seq is None else ("seq", seq))
        number = -float("inf") if seq is None else seq
        if identity in device.remembered:
            self.counts["duplicate"] += 1
            return
        new = ts > device.newest or (ts == device.newest and number > device.highest)
        if not new and (ts < device.newest or ts <= device.forgotten):
            self.counts["late"] += 1
            return
        self.counts["accepted"] += 1
        device.remembered.append(identity)
        if len(device.remembered) > REMEMBERED:
            device.forgotten = max(device.forgotten, device.remembered.popleft()[0])
        if new:
            device.newest, device.highest = ts, number
        if seq is not None:
            if device.last is not None and 0 < seq - device.last <= RENUMBERED:
                self.counts["missing"] += seq - device.last - 1
            device.last = seq


def prove(_forks: object, _folder: Path, seed: int, size: int = 10_000) -> Result:
    """Count storms of all kinds, and compare."""
    rng = random.Random(f"order/{seed}")  # noqa: S311 - it has to be repeatable, not secret
    storms = _storms(rng, size)
    runs = [
        (name, readings, Admission(), partial(_counted_by_service, readings, rng))
        for name, readings in storms.items()
    ]
    # The decoder refuses such numbers; the core must not be wrong even about them.
    ends: list[Reading] = [
        ("d", k // 4, rng.choice((2**63 - 1, 1 - 2**63, 0, 1, 2**62)), 1.0) for k in range(size // 4)
    ]
    runs.append(("ends of int64", ends, Admission(2**63), partial(_counted_by_core, ends, rng)))
    total: Counter[str] = Counter()
    problems = []
    for name, readings, expected, counted in runs:
        for reading in readings:
            expected.take(reading)
        found = counted()
        total += found
        if found != expected.counts:
            problems.append(f"{name}: {dict(found)} instead of {dict(expected.counts)}")
    count = sum(len(readings) for _, readings, _, _ in runs)
    fates = ", ".join(f"{total[fate]:,} {fate}" for fate in FATES)
    return Result("disorder", f"{len(runs)} storms, {count:,} readings: {fates}: counts compared", problems)


def _storms(rng: random.Random, size: int) -> dict[str, list[Reading]]:
    """Return the storms: each a list of readings in the order of their arrival."""
    calm: list[Reading] = [(f"d{k % 7}", k // 7, k, rng.gauss(5, 1)) for k in range(size // 20)]
    untimely: list[Reading] = [
        (f"d{rng.randrange(7)}", rng.randrange(size // 10), rng.choice((None, k)), float(k % 5))
        for k in range(size)
    ]
    ends = (0, 1, -1, LARGEST, LARGEST - 1, -LARGEST, 1 - LARGEST, RENUMBERED, 2**31, 2**53, -(2**53))
    beyond = (2**63 - 1, -(2**63), 2**63, LARGEST + 1, -LARGEST - 1)
    return {
        "repeated": rng.sample([reading for reading in calm for _ in range(20)], 20 * len(calm)),
        "echoes": [reading for reading in calm for _ in range(20)],
        "reversed": calm[::-1] * 5,
        "untimely": untimely,
        "numbered at one time": [("d", 7, k, 1.0) for k in range(size)],
        "numbered backwards at one time": [("d", 7, -k, 1.0) for k in range(size)],
        "at one time": [("d", 7, None, float(k)) for k in range(size)],
        "the same again and again": [("d", 7, None, 1.0)] * size,
        "numbers at the limits": [("d", k, rng.choice(ends + beyond), 1.0) for k in range(size // 4)],
        "limits at one time": [("d", 7, rng.choice(ends + beyond), 1.0) for _ in range(size // 4)],
    }


def _counted_by_service(readings: Sequence[Reading], rng: random.Random) -> Counter[str]:
    """Return what the service counts, however the readings are cut into batches."""
    service, place = Sockless(), 0
    problems: list[str] = []
    while place < len(readings):
        some = readings[place : place + rng.choice((1, 7, 100, 1000))]
        problems += service.send(list(_messages(some)))
        place += len(some)
    assert not problems, problems
    books = service.books()
    return Counter({fate: books.of(METRICS[fate], STREAM) for fate in FATES})


def _counted_by_core(readings: Sequence[Reading], rng: random.Random) -> Counter[str]:
    """Return what the core counts, for numbers that no decoder would give it."""
    pipeline = Pipeline([StreamSpec(STREAM)], initial=Light, model=lambda _wanted: Light())
    found, place = Counter(dict.fromkeys(FATES, 0)), 0
    while place < len(readings):
        some = readings[place : place + rng.choice((1, 7, 100))]
        place += len(some)
        devices, ts, seq, values = zip(*some, strict=True)
        at = (BEGIN + np.array(ts, dtype=np.int64)) * 1_000_000
        counts = pipeline.process(
            Readings(
                stream=STREAM,
                devices=list(devices),
                columns=(("x",),),
                shapes=np.zeros(len(some), dtype=np.int32),
                values=np.array(values),
                ts=at,
                arrival=at,
                seq=np.array(seq, dtype=np.int64),
                index=np.zeros(len(some), dtype=np.int32),
            )
        )[STREAM].counts
        found += Counter(
            accepted=counts.scored + counts.warming_up,
            late=counts.late,
            duplicate=counts.duplicate,
            missing=counts.missing_seq,
        )
    return found


def _messages(readings: Sequence[Reading]) -> Iterator[Spoilt]:
    for device, ts, seq, value in readings:
        content = {"ts": BEGIN + ts, "values": {"x": value}, **({} if seq is None else {"seq": seq})}
        yield Spoilt(f"plant/n/{device}/telemetry".encode(), json.dumps(content).encode(), 0, 0)
