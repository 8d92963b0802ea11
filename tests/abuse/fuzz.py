"""Proof: whatever bytes arrive, the service goes on, and its books balance after every batch.

First without sockets, where a million payloads take a minute and every batch is looked at; then a part
of them through a real broker and the real service, which must count exactly as without sockets.
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.core.events import Rejected
from stream_detector.core.records import Tick
from stream_detector.service.admission import NothingOnDisk
from stream_detector.service.decision import Decision
from stream_detector.service.engine import offline
from stream_detector.service.other_instances import OtherInstances
from stream_detector.settings import Settings
from tests.abuse.accounting import MESSAGES, READINGS, Books, readings_in
from tests.abuse.payloads import STREAMS, Sender, Spoilt
from tests.abuse.process import Abused
from tests.abuse.wire import Wire
from tests.faults.proof import Result
from tests.faults.runs import mosquitto

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stream_detector.formats.taken import Taken

NOW = 1_780_000_000_000_000
SECOND = 1_000_000
LARGEST_BATCH = 1000
MAX_DEVICES = 100
"""So few that some are refused."""
PLENTY: dict[str, int] = {"max_devices": 1_000_000, "new_devices_per_minute": 1_000_000}
WAIT_S = 120.0
TOPIC_BYTES = 65_535
FORBIDDEN = ("+", "#", "\0")
SHOWN = 600
ENOUGH = 5
"""So many problems are told; more of the same say nothing new."""


class Sockless:
    """The service without its sockets and files, whose books are kept beside it.

    Args:
        now: Service clock, µs.
        others: More of the configuration.
    """

    def __init__(self, now: int = NOW, **others: Any) -> None:
        self.now = now
        self.received = 0
        self.readings: Counter[str] = Counter()
        settings = Settings.model_validate({"streams": STREAMS, **others})
        self._engine = offline(settings, lambda: self.now, on_disk=NothingOnDisk(settings.streams))
        self._processing = self._engine.processing
        self._other_instances = OtherInstances(settings.topics.base, "us")
        self._used = {name for name, stream in settings.streams.items() if stream.retained == "use"}

    def send(self, batch: Sequence[Spoilt]) -> list[str]:
        """Take a batch in and return what is wrong afterwards."""
        self.now += SECOND
        decision = Decision()
        taken = self._processing.messages(
            decision,
            [message.topic for message in batch],
            [message.payload for message in batch],
            [message.flags for message in batch],
            self.now,
            packet_ids=[message.packet_id for message in batch],
        )
        self._other_instances.listen(taken.own)
        self._processing.record(decision, Tick(self.now))
        self._engine.reporting.report(decision)
        self._count(batch, taken)
        return [*self.books().problems(self.received, self.readings), *_unfit(decision)]

    def books(self) -> Books:
        """Return what the metrics say."""
        return Books(
            (sample.name, sample.labels, sample.value)
            for family in self._engine.metrics.registry.collect()
            for sample in family.samples
        )

    def reasons(self) -> dict[str, int]:
        """Return how many messages and elements were refused, by reason."""
        found: Counter[str] = Counter()
        for family in self._engine.metrics.registry.collect():
            for sample in family.samples:
                if sample.name.endswith("_rejected_total"):
                    found[sample.labels["reason"]] += round(sample.value)
        return dict(+found)

    def _count(self, batch: Sequence[Spoilt], taken: Taken) -> None:
        """Count the readings in those messages of which nothing was heard: they were accepted."""
        self.received += len(batch)
        refused = Counter((said.sha256, said.stream) for said in taken.rejected if said.whole)
        for message in batch:
            found = self._engine.intake._router.look_up(message.topic)
            if isinstance(found, str):
                continue  # it is nobody's, or our own
            stream = found.stream if isinstance(found, Rejected) else found[0].name
            retained = message.flags & 1 and stream not in self._used
            if retained and not isinstance(found, Rejected):
                continue
            key = (sha256(message.payload).hexdigest(), stream)
            if refused[key]:
                refused[key] -= 1
            else:
                self.readings[stream] += readings_in(message.payload)


def prove(_forks: object, _folder: Path, seed: int, payloads: int = 1_000_000) -> Result:
    """Fuzz the service without its sockets."""
    service, rng = Sockless(max_devices=MAX_DEVICES), random.Random(f"cuts/{seed}")  # noqa: S311 - repeatable
    sender = Sender(f"fuzz/{seed}")
    problems: list[str] = []
    batches = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a division by zero is one, too
        while service.received < payloads and len(problems) < ENOUGH:
            size = min(payloads - service.received, rng.choice((1, 10, 300, LARGEST_BATCH)))
            batch = list(sender.messages(size))
            batches += 1
            try:
                problems += service.send(batch)
            except Exception as error:  # noqa: BLE001 - any is a finding
                problems.append(f"batch {batches}: {type(error).__name__}: {error}\n{_culprit(batch)}")
                break
            if problems:
                problems.append(_culprit(batch))
    books = service.books()
    accepted = sum(books.of("messages_accepted_total", stream) for stream in STREAMS)
    return Result(
        "fuzz",
        f"{service.received:,} spoilt messages in {batches:,} batches: {accepted:,} accepted with"
        f" {service.readings.total():,} readings, refused for {len(service.reasons())} reasons,"
        f" {books.errors:.0f} internal errors, books checked after every batch",
        problems,
    )


def prove_on_the_wire(_forks: object, folder: Path, seed: int, payloads: int = 50_000) -> Result:
    """Fuzz the real service through a real broker: it must count as the service without sockets does."""
    batch = list(Sender(f"wire/{seed}", wire=True).messages(payloads))
    sockless = Sockless(time.time_ns() // 1000, **PLENTY)
    problems = sockless.send(batch)
    expected = sockless.books()
    with mosquitto(folder / "broker") as broker:
        service = Abused(folder / "service", broker={"url": broker.url}, streams=STREAMS, **PLENTY)
        with service, Wire(broker.port) as wire:
            service.wait_ready()
            service.wait_online()
            wire.send((message.topic, message.payload) for message in batch)
            for stream in STREAMS:
                came = expected.of("messages_received_total", stream)
                service.wait_for_count("messages_received_total", came, WAIT_S, stream=stream)
            found = Books((name, dict(labels), value) for (name, labels), value in service.samples().items())
            problems += found.problems(found.received(), sockless.readings)
            problems += _otherwise(expected, found)
            if service.count("mqtt_reconnects_total"):
                problems.append(f"the connection was lost\n{service.log()[-1000:]}")
            if service.stop() != 0:
                problems.append("it did not end in order")
    return Result(
        "fuzz-wire",
        f"{payloads:,} spoilt messages through the broker: {sockless.readings.total():,} readings in accepted"
        " ones, counts compared with those without sockets",
        problems,
    )


def _otherwise(expected: Books, found: Books) -> list[str]:
    """Return what the real service counts otherwise."""
    return [
        f"{stream}: {name} is {found.of(name, stream)}, not {expected.of(name, stream)}"
        for name in ("messages_received_total", *MESSAGES, *READINGS)
        for stream in STREAMS
        if found.of(name, stream) != expected.of(name, stream)
    ]


def _culprit(batch: Sequence[Spoilt]) -> str:
    """Return the first message of a batch that is wrong by itself, as one can send it again."""
    for message in batch:
        try:
            problems = Sockless().send([message])
        except Exception as error:  # noqa: BLE001 - it is what we look for
            problems = [f"{type(error).__name__}: {error}"]
        if problems:
            return (
                f"alone: {problems[0]}: {message.topic!r} {message.payload[:SHOWN]!r} flags {message.flags}"
            )
    return "no message of the batch is wrong by itself"


def _unfit(decision: Decision) -> list[str]:
    """Return what must not leave the service: odd topics, broken JSON, numbers that are none."""
    found = []
    for _, publication in decision.publications:
        topic = publication.topic
        if not 0 < len(topic.encode()) <= TOPIC_BYTES or any(mark in topic for mark in FORBIDDEN):
            found.append(f"a message would go to {topic[:100]!r}")
        msgspec.json.decode(publication.payload)
    found += [
        f"{batch.stream} has a score that is no number"
        for batch in decision.batches
        if not all(map(math.isfinite, batch.scores.tolist()))
    ]
    return found
