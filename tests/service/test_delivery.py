"""What leaves has a target: each has an order, confirmations and back-pressure of its own, in one outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from stream_detector.mqtt.frames import Received
from stream_detector.outputs.messages import BROKER, Publication
from stream_detector.service.decision import Decision
from stream_detector.service.delivery import Delivery
from tests.persisting import Kept

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.mqtt.link import Link

HOOK = "hook"


class Receiver:
    """A target that takes everything and confirms it when it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, str]] = []
        self.confirmed: list[int] = []
        self.full = self.overfull = False

    def put(self, publication: Publication, number: int, at: int) -> None:
        """Take a publication over."""
        del at
        self.taken.append((number, publication.topic))

    def pump(self) -> list[int]:
        """Return what was confirmed since the last call."""
        confirmed, self.confirmed = self.confirmed, []
        return confirmed

    def reasons(self) -> list[str]:
        """Return why not everything gets out."""
        return ["it is full"] if self.full else []


class Acknowledged:
    """The side of a link that delivery uses."""

    epoch = 1

    def __init__(self) -> None:
        self.batches: list[Received] = []

    def acknowledge(self, received: Received) -> None:
        """Take what is acknowledged."""
        self.batches.append(received)


class Delivering(Kept):
    """Decisions that go to two targets."""

    def open(self) -> None:
        """Start as a service does."""
        super().open()
        self.broker, self.hook, self.link = Receiver(), Receiver(), Acknowledged()
        self.deliver_to({BROKER: self.broker, HOOK: self.hook})

    def deliver_to(self, targets: dict[str, Any]) -> None:
        """Begin a connection with these targets."""
        engine, link = self.engine, cast("Link", self.link)
        self.delivery = Delivery(self.persistence, engine.reporting, self.store, engine.log, link, targets)

    def decide(self, *topics: tuple[str, str], received: Received | None = None) -> None:
        """Publish on topics of targets."""
        decision = Decision()
        for target, topic in topics:
            decision.publications.append(("", Publication(topic, b"{}", target=target)))
        self.delivery.conclude(decision, received)

    def settle(self) -> None:
        """Take note of confirmations and write them down."""
        self.delivery.pump()
        self.decide((BROKER, "later"))


@pytest.fixture
def kept(tmp_path: Path) -> Delivering:
    """Return a service with its disk, without sockets."""
    return Delivering(tmp_path)


def topics(receiver: Receiver) -> list[str]:
    """Return what a target was given, in order."""
    return [topic for _, topic in receiver.taken]


def test_each_target_gets_its_own_in_order(kept: Delivering) -> None:
    """However they are mixed, and after a crash again, until they are confirmed."""
    kept.decide((BROKER, "a"), (HOOK, "1"), (BROKER, "b"), (HOOK, "2"))
    assert (topics(kept.broker), topics(kept.hook)) == (["a", "b"], ["1", "2"])
    kept.broker.confirmed = [number for number, _ in kept.broker.taken]
    kept.hook.confirmed = [kept.hook.taken[0][0]]
    kept.settle()
    kept.crash()
    assert (topics(kept.broker), topics(kept.hook)) == (["later"], ["2"])


def test_one_that_is_full_holds_input_back(kept: Delivering) -> None:
    """Nothing is acknowledged meanwhile, the reason is given, and the other target goes on."""
    kept.hook.full = True
    kept.decide((BROKER, "a"), received=Received(packet_ids=[7], epoch=1))
    assert (kept.delivery.full, kept.link.batches, topics(kept.broker)) == (True, [], ["a"])
    assert kept.delivery.reasons() == ["it is full"]
    kept.hook.full = False
    kept.delivery.acknowledge()
    assert [batch.packet_ids for batch in kept.link.batches] == [[7]]


def test_for_a_target_that_is_gone_it_waits(kept: Delivering) -> None:
    """What is in the outbox stays there until the target is configured again."""
    kept.decide((HOOK, "1"))
    kept.deliver_to({BROKER: kept.broker})
    assert topics(kept.broker) == []
    kept.crash()
    assert topics(kept.hook) == ["1"]
