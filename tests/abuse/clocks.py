"""Proof: a wall clock that jumps by ten years, while the service runs and between two runs, harms nobody.

The real service lives through the same scenario twice: by a true clock, and by one that is set wrong and
right again. Readings carry their own time. In every part of the scenario a device falls silent, which
only ticks can notice; then an alert says that time still passes.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from tests.abuse import shifted
from tests.abuse.wire import Wire
from tests.brokers import wait_for
from tests.faults.forks import Clock
from tests.faults.proof import Result
from tests.faults.runs import mosquitto
from tests.faults.supervised import Supervised
from tests.faults.wire import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.brokers import Mosquitto
    from tests.faults.forks import ForkServer

TEN_YEARS_NS = 3653 * 86_400 * 1_000_000_000
PARTS: tuple[tuple[int, bool], ...] = (
    (0, False),
    (1, False),
    (1, True),
    (0, False),
    (-1, False),
    (-1, True),
    (1, True),
    (0, True),
)
"""Ten years by which the clock is wrong, and whether the service is started anew."""
DEVICES = 5
A_PART = 300
"""Readings of each device in a part of the scenario."""
SPIKE_AT = 250
QUIET = 30
"""Readings of the device that falls silent."""
COUNTS = (
    "readings_accepted_total",
    "readings_late_total",
    "readings_duplicate_total",
    "messages_rejected_total",
    "messages_ignored_total",
)
WAIT_S = 60.0
STREAMS: dict[str, Any] = {
    "pumps": {"topic": "plant/{site}/{device}", "silence": False},
    "quiet": {"topic": "quiet/{device}", "silence_at_least_s": 0.5},
}


@dataclass(slots=True)
class _Told:
    """What a run came to.

    Attributes:
        events: Id, kind, event and device of alerts.
        counts: Readings, by what became of them.
        problems: Sentences.
    """

    events: set[tuple[str, str, str, str]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, service: Supervised) -> None:
        """Add what a service has counted since its start."""
        for name in COUNTS:
            self.counts[name] += round(service.count(name))


def prove(_forks: object, folder: Path, seed: int, parts: tuple[tuple[int, bool], ...] = PARTS) -> Result:
    """Run the scenario by both clocks, and compare."""
    now_s = int(time.time()) - 86_400
    clocks = {"true": 0, "wrong": TEN_YEARS_NS}
    with ThreadPoolExecutor() as both:
        telling = {
            name: both.submit(_tell, folder / name, seed, now_s, [(k * years, anew) for k, anew in parts])
            for name, years in clocks.items()
        }
    runs = {name: told.result() for name, told in telling.items()}
    calm, strange = runs["true"], runs["wrong"]
    problems = [f"{name}: {problem}" for name, run in runs.items() for problem in run.problems]
    if calm.events != strange.events:
        different = sorted(calm.events ^ strange.events)
        problems.append(f"{len(different)} alert events differ, such as {different[:3]}")
    if calm.counts != strange.counts:
        problems.append(f"counts are {dict(strange.counts)} instead of {dict(calm.counts)}")
    sent = len(parts) * (A_PART * (DEVICES + 1) + QUIET)
    if calm.counts["readings_accepted_total"] != sent:
        problems.append(f"{sent} readings were sent: {dict(calm.counts)}")
    jumps = sum(one != other for (one, _), (other, _) in pairwise(parts))
    accepted = calm.counts["readings_accepted_total"]
    starts = sum(anew for _, anew in parts)
    return Result(
        "clocks",
        f"{jumps} jumps of ten years and more, {starts} of {len(parts)} parts begin with a start:"
        f" {accepted:,} readings accepted, {len(calm.events)} alert events compared, a silence in each",
        problems,
    )


def _tell(folder: Path, seed: int, now_s: int, parts: list[tuple[int, bool]]) -> _Told:
    """Let a service live through the scenario, by a clock that is wrong by so many ns in each part."""
    told = _Told()
    folder.mkdir(parents=True)
    wrong_by = Clock(folder / "wrong by")
    with (
        mosquitto(folder / "broker") as broker,
        Wire(broker.port) as wire,
        Listener(broker.port) as listener,
        _service(folder, broker) as service,
    ):
        _start(service, folder)
        for part, (wrong_ns, anew) in enumerate(parts):
            if anew:
                told.add(service)
                service.end_in_order()
            wrong_by.now = wrong_ns
            if anew:
                _start(service, folder)
            before = service.count("messages_received_total", stream="pumps")
            sent = wire.send(_readings(part, seed, now_s))
            service.wait_for_count("messages_received_total", before + sent, WAIT_S, stream="pumps")
            wire.send(_last_words(part, now_s))
            wait_for(partial(listener.has_heard_of, f"quiet-{part}"), WAIT_S, f"a silence in part {part}")
        told.add(service)
        service.end_in_order()
        for alert in listener.alerts.values():
            if alert["event"] != "update":  # how long a silence grows depends on how long we listen
                told.events.add((alert["id"], alert["kind"], alert["event"], alert["device"]))
        if "starting over" in service.log():
            told.problems.append(f"something unexpected happened\n{service.tail()}")
    return told


def _service(folder: Path, broker: Mosquitto) -> Supervised:
    nobody = cast("ForkServer", None)  # nothing is forked here
    return Supervised(nobody, folder / "service", broker={"url": broker.url}, streams=STREAMS)


def _start(service: Supervised, folder: Path) -> None:
    service.run_command(sys.executable, shifted.__file__, str(folder / "wrong by"))
    wait_for(service.is_ready, WAIT_S, f"it is ready; {service.tail()}")


def _readings(part: int, seed: int, now_s: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield what the pumps say: with their own time, and one of them without; each has one fault."""
    rng = random.Random(f"{seed}/{part}")  # noqa: S311 - it has to be repeatable, not secret
    spike = 80.0 * (-3.0) ** part  # what a device has shown before is not news
    for k in range(A_PART):
        for device in range(DEVICES):
            x = rng.gauss(device, 1.0) + (spike if k == SPIKE_AT + device else 0.0)
            said = {"ts": now_s + part * A_PART + k, "values": {"x": round(x, 3)}}
            yield b"plant/n/pump-%d" % device, json.dumps(said).encode()
        yield b"plant/n/untimed", json.dumps({"values": {"x": k % 7}}).encode()


def _last_words(part: int, now_s: int) -> Iterator[tuple[bytes, bytes]]:
    for k in range(QUIET):
        said = {"ts": now_s + part * A_PART + k / 100, "values": {"x": k % 3}}
        yield b"quiet/quiet-%d" % part, json.dumps(said).encode()
