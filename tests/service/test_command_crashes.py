"""Commands and readings under random crashes: what others were told is what is known, once and for all.

The disk is real, the broker is a list: what is on its way is lost at a crash and sent again from the
outbox, in order, as the publisher does.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.service.decision import Decision
from tests.persisting import SECOND
from tests.service.test_commands import RANGE, Asked

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.outputs.messages import Publication

DEVICES = 10
IN_MEMORY = 8
"""Fewer than there are, so that some move to disk."""
STEPS = 80


class World:
    """A service that crashes, and what the others have heard of it.

    Args:
        folder: Of the service.
        seed: Of everything that is left to chance.
        durability: Of its stream.
    """

    def __init__(self, folder: Path, seed: int, durability: str) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a test
        self.service = Asked(folder, stream={**RANGE, "durability": durability}, max_devices=IN_MEMORY)
        self.retained: dict[str, dict[str, Any]] = {}
        self.alerts: dict[str, list[dict[str, Any]]] = {}
        self.replies: dict[int, dict[str, Any]] = {}
        self._under_way: list[tuple[int, Publication]] = []
        self._given: list[tuple[str, dict[str, Any]]] = []
        self._unsure: list[tuple[str, dict[str, Any]]] = []

    def live(self) -> None:
        """Some readings and commands, over and over; now and then a crash, wherever it hurts."""
        for _ in range(STEPS):
            self.service.now += SECOND
            decision = self._decide()
            self._fate(decision)
        self.hear(len(self._under_way))
        self.service.persistence.commit()

    def hear(self, count: int) -> None:
        """Let the others hear what comes next, and the broker confirm it."""
        for number, publication in self._under_way[:count]:
            if "/state/" in publication.topic:
                device = publication.topic.rpartition("/")[2]
                self.retained.pop(device, None)
                if publication.payload:
                    self.retained[device] = json.loads(publication.payload)
            elif "/alert/" in publication.topic:
                event = json.loads(publication.payload)
                told = self.alerts.setdefault(event["id"], [])
                if not told or event["seq"] > told[-1]["seq"]:
                    told.append(event)
            elif "/reply/" in publication.topic:
                reply = json.loads(publication.payload)
                assert self.replies.setdefault(reply["transaction"], reply) == reply, "it was answered twice"
            self.service.persistence.confirm([number])
        del self._under_way[:count]

    def _decide(self) -> Decision:
        """Return what follows from some readings, some new commands, and one that comes again."""
        chance, service, decision = self.chance, self.service, Decision()
        readings = [
            (
                f"plant/n/d{chance.randrange(DEVICES)}",
                json.dumps({"values": {"x": chance.choice([5, 6, 50])}}),
            )
            for _ in range(chance.randrange(4))
        ]
        service.processing.messages(
            decision,
            [topic.encode() for topic, _ in readings],
            [payload.encode() for _, payload in readings],
            [0] * len(readings),
            service.now,
        )
        self._given = [self._request() for _ in range(chance.randrange(3))]
        if self._unsure and chance.random() < 0.5:
            self._given.append(chance.choice(self._unsure))
        for command, request in self._given:
            service.take(decision, command, json.dumps(request).encode())
        return decision

    def _request(self) -> tuple[str, dict[str, Any]]:
        open_alerts = self.service.engine.memory.streams["pumps"].open_alerts()
        alert = self.chance.choice([one.id for one in open_alerts] or ["0" * 24])
        command = self.chance.choice(["ack", "feedback", "forget"])
        said = {
            "ack": {"id": alert},
            "feedback": {"id": alert, "verdict": "true_alert"},
            "forget": {"stream": "pumps", "device": f"d{self.chance.randrange(DEVICES)}"},
        }[command]
        return command, {"transaction": self.chance.getrandbits(60), **said}

    def _fate(self, decision: Decision) -> None:
        """Crash before the commit, after it, or amid publishing; or get through."""
        service, fate = self.service, self.chance.random()
        outgoing = service.persistence.keep(decision)
        if fate < 0.1:
            self._crash()
            return
        if fate < 0.2 or service.persistence.due:
            service.persistence.commit()
        if fate < 0.2:
            self._crash()
            return
        service.engine.reporting.report(decision)
        self._under_way += outgoing
        self.hear(self.chance.randrange(8))
        if fate < 0.3:
            self._crash()

    def _crash(self) -> None:
        self._unsure += self._given  # the broker brings them again, some time
        self.service.crash()
        self._under_way = [(waiting.number, waiting.publication) for waiting in self.service.store.outbox()]


@pytest.mark.parametrize("durability", ["journal", "checkpoint"])
@pytest.mark.parametrize("seed", range(6))
def test_what_was_told_is_what_is_known(tmp_path: Path, seed: int, durability: str) -> None:
    """Each command has one answer, each alert all its events, each retained state a device; for ever."""
    world = World(tmp_path, seed, durability)
    world.live()
    service = world.service
    open_alerts = {one.id: one for one in service.engine.memory.streams["pumps"].open_alerts()}

    assert len(world.replies) > STEPS / 8
    assert {told[-1]["id"] for told in world.alerts.values() if told[-1]["event"] != "clear"} == set(
        open_alerts
    )
    for alert in open_alerts.values():
        last = world.alerts[alert.id][-1]
        assert (last["seq"], last["acknowledged"]) == (alert.seq, alert.acknowledged)
        happened = [event["event"] for event in world.alerts[alert.id]]
        since_raised = happened[::-1][: happened[::-1].index("raise")]
        assert alert.acknowledged == ("ack" in since_raised)
    for device, state in world.retained.items():
        told_open = {one["id"]: one["acknowledged"] for one in state["active"]}
        assert told_open == {one.id: one.acknowledged for one in open_alerts.values() if one.device == device}
    if durability == "journal":
        for told in world.alerts.values():
            assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        on_disk = {name for names in service.store.names("pumps") for name in names}
        assert service.states().keys() <= world.retained.keys() <= service.states().keys() | on_disk
        before = service.states()
        service.crash()
        assert service.states() == before
        again = service.engine.memory.streams["pumps"].open_alerts()
        assert {one.id: one for one in again} == open_alerts
