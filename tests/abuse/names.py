"""Proof: a million invented device names cost bounded memory, and those who were known notice nothing.

Two services hear the same hundred devices; one of them hears the flood as well. Without sockets, by a
clock that the proof moves, both must come to the same windows and alerts. Through a real broker, none of
the hundred's readings may be missing.
"""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

from prometheus_client import generate_latest

from stream_detector.storage.store import Store
from tests.abuse.process import MB, Abused, resident_mb
from tests.abuse.wire import Wire
from tests.faults.proof import Result
from tests.faults.runs import mosquitto
from tests.faults.truth import BY_ARRIVAL, cells
from tests.persisting import SECOND, Kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.service.decision import Decision

KNOWN = 100
MAX_DEVICES = 2000
A_ROUND = 1000
"""Invented names in a second of the service clock."""
ACQUAINTED = 150
"""Seconds before the flood: by then the devices' pace is known, so they stay in memory."""
ADMITTED = 100
"""In a second (`new_devices_per_minute`), until 20 x MAX_DEVICES are on disk."""
MOST_MB = 150.0
PAGE_BYTES = 50_000
BEGIN = 1_769_990_000
FINISH_S = 300.0


class Flooded(Kept):
    """A service without sockets, whose broker confirms everything at once."""

    alerts: list[tuple[str, int, str]]

    def conclude(self, decision: Decision) -> list[dict[str, Any]]:
        """Write and tell a decision; keep nothing of it but the alerts."""
        outgoing = self.persistence.keep(decision)
        if self.persistence.due:
            self.persistence.commit()
        self.engine.reporting.report(decision)
        self.persistence.confirm(number for number, _ in outgoing)
        found = [json.loads(sent.payload) for _, sent in outgoing if "/alert/" in sent.topic]
        self.alerts += [(alert["id"], alert["seq"], alert["event"]) for alert in found]
        return []


def prove(_forks: object, folder: Path, seed: int, names: int = 1_000_000) -> Result:
    """Flood a service without sockets with names."""
    calm, flooded = (_begin(folder / name) for name in ("calm", "flooded"))
    rounds = ACQUAINTED + names // A_ROUND
    grown, most = _flood(calm, flooded, rounds, seed)
    accepted = round(flooded.total("messages_accepted_total"))
    refused = round(flooded.total("messages_rejected_total", reason="device_limit"))
    page = len(generate_latest(flooded.metrics.registry))
    on_disk = flooded.recovery.evicted["pumps"]
    files = [path.stat().st_size for path in flooded.settings.state_dir.iterdir() if path.is_file()]
    problems = _excess(rounds * KNOWN + names, accepted, refused, grown, page)
    problems += _differences(calm, flooded)
    if most > MAX_DEVICES:
        problems.append(f"{most} devices were in memory, more than {MAX_DEVICES}")
    joined, expected = accepted - rounds * KNOWN, min(20 * MAX_DEVICES, names // A_ROUND * ADMITTED)
    if joined < expected:
        problems.append(f"only {joined:,} new devices were admitted, at least {expected:,} should be")
    for service in (calm, flooded):
        service.store.close()
    return Result(
        "names",
        f"{names:,} invented names, {refused:,} refused: memory +{grown:.0f} MB, {most:,} devices in memory,"
        f" {on_disk:,} on disk ({sum(files) / MB:.0f} MB), metrics {page:,} bytes; {KNOWN} known devices:"
        f" {rounds * KNOWN:,} readings, windows and {len(calm.alerts)} alert events compared",
        problems,
    )


def _flood(calm: Flooded, flooded: Flooded, rounds: int, seed: int) -> tuple[float, int]:
    """Let time pass; return by how many MB memory grew at most, and how many devices were in it."""
    rng = random.Random(f"names/{seed}")  # noqa: S311 - it has to be repeatable, not secret
    sizes, most = [], 0
    for number in range(rounds):
        known = list(_known(number, seed))
        mixed = [*known, *(_invented(number) if number >= ACQUAINTED else ())]
        rng.shuffle(mixed)
        for service, messages in ((calm, known), (flooded, mixed)):
            service.now += SECOND
            service.send(*messages)
            service.tick()
        if number >= ACQUAINTED - 1:
            sizes.append(resident_mb(os.getpid()))
        most = max(most, len(flooded.engine.memory.streams["pumps"].devices))
    return max(sizes) - sizes[0], most


def _excess(sent: int, accepted: int, refused: int, grown_mb: float, page: int) -> list[str]:
    """Return what is not as it should be, of figures that both proofs have."""
    problems = []
    if accepted + refused != sent:
        problems.append(f"{sent:,} were sent, {accepted:,} accepted and {refused:,} refused")
    if grown_mb > MOST_MB:
        problems.append(f"memory grew by {grown_mb:.0f} MB")
    if page > PAGE_BYTES:
        problems.append(f"the metrics have {page} bytes")
    return problems


def _begin(folder: Path) -> Flooded:
    service = Flooded(folder, max_devices=MAX_DEVICES)
    service.alerts = []
    return service


def _known(number: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the known devices say in a round; now and then one of them has a fault."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - it has to be repeatable, not secret
    for device in range(KNOWN):
        spike = 40.0 if number > ACQUAINTED and rng.random() < 0.001 else 0.0
        values = {"x": rng.gauss(device, 1.0) + spike}
        yield f"plant/n/known-{device}", {"ts": BEGIN + number, "seq": number, "values": values}


def _invented(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for k in range(A_ROUND):
        yield f"plant/n/invented-{number * A_ROUND + k:x}", {"values": {"x": k}}


def _differences(calm: Flooded, flooded: Flooded) -> list[str]:
    """Return what the flood has changed for the known devices."""
    problems = []
    if not calm.alerts:
        problems.append("no known device had an alert, so nothing is proved about those")
    if sorted(calm.alerts) != sorted(flooded.alerts):  # in a second, messages come in any order
        problems.append(f"{len(calm.alerts)} alert events of known devices became {len(flooded.alerts)}")
    for number in range(KNOWN):
        name = f"known-{number}"
        expected, found = (cells(service.state(name)) for service in (calm, flooded))
        problems += [
            f"{name}: {cell} differs"
            for cell in expected.keys() - BY_ARRIVAL
            if expected[cell].tobytes() != found[cell].tobytes()
        ]
    return problems


def prove_on_the_wire(_forks: object, folder: Path, seed: int, names: int = 100_000) -> Result:
    """Flood the real service with names, through a real broker."""
    rounds = ACQUAINTED + names // A_ROUND
    with mosquitto(folder / "broker") as broker:
        service = Abused(
            folder / "service",
            broker={"url": broker.url},
            streams={"pumps": {"topic": "plant/{site}/{device}", "silence": False}},
            max_devices=MAX_DEVICES,
        )
        with service, Wire(broker.port) as wire:
            service.wait_ready()
            assert service.process is not None
            pid, sent = service.process.pid, 0
            for number in range(rounds):
                messages = list(_known(number, seed))
                if number >= ACQUAINTED:
                    messages += _invented(number)
                sent += wire.send((topic.encode(), json.dumps(said).encode()) for topic, said in messages)
                if number == ACQUAINTED - 1:
                    service.wait_for_count("messages_received_total", sent, FINISH_S, stream="pumps")
                    before = resident_mb(pid)
            service.wait_for_count("messages_received_total", sent, FINISH_S, stream="pumps")
            grown, page = resident_mb(pid) - before, len(service.get("/metrics")[1])
            accepted = round(service.count("messages_accepted_total"))
            refused = round(service.count("messages_rejected_total", reason="device_limit"))
            code = service.stop()
    problems = _excess(sent, accepted, refused, grown, page)
    problems += _missing(folder / "service" / "state", rounds)
    if code:
        problems.append(f"it ended with {code}")
    return Result(
        "strangers",
        f"{names:,} invented names through the broker, {refused:,} refused: memory +{grown:.0f} MB, metrics"
        f" {page:,} bytes, {rounds * KNOWN:,} readings of {KNOWN} known devices looked for on disk",
        problems,
    )


def _missing(state_dir: Path, rounds: int) -> list[str]:
    """Return which known devices have fewer readings on disk than they sent."""
    store = Store(state_dir)
    try:
        taken = {
            state.device: int(cells(state)["accepted"])
            for _, _, state in store.rows()
            if state.device.startswith("known-")
        }
    finally:
        store.close()
    return [
        f"known-{number}: {taken.get(f'known-{number}', 0)} of {rounds} readings"
        for number in range(KNOWN)
        if taken.get(f"known-{number}") != rounds
    ]
