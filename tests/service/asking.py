"""A service with its disk, without sockets, that takes requests."""

from __future__ import annotations

import json
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stream_detector.service.broker_requests import BrokerRequests, Message
from stream_detector.service.commands import Commands
from stream_detector.service.decision import Decision
from tests.persisting import SECOND, Kept

RANGE = {"channels": {"x": {"max": 10}}, "alerts": {"clear_after": 2}}


class Asked(Kept):
    """A service without sockets that takes commands."""

    def open(self) -> None:
        """Start as a service does."""
        super().open()
        commands = Commands(
            self.engine.memory,
            self.processing,
            stored_reply=self.store.reply,
            recovery=self.recovery,
            look_for_models=lambda: ["forest"],
        )
        self.requests = BrokerRequests(
            "stream_detector", commands, self.processing, reads=self.engine.intake.reads
        )

    def take(self, decision: Decision, command: str, payload: bytes, **said: Any) -> None:
        """Take a request in."""
        usual = {"retained": False, "oversized": None, "properties": b"", "arrival": self.now}
        message = Message(f"stream_detector/cmd/{command}", payload, **{**usual, **said})
        self.requests.take(decision, message)

    def decide(self, command: str, request: object, **said: Any) -> Decision:
        """Take a request in, alone; nothing is written yet."""
        decision = Decision()
        payload = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.take(decision, command, payload, **said)
        return decision

    def ask(self, command: str, request: object, **said: Any) -> list[dict[str, Any]]:
        """Take a request in; return what is published."""
        return self.conclude(self.decide(command, request, **said))

    def raise_alert(self, device: str = "p", x: float = 50.0) -> str:
        """Let a device be out of range; return the alert's id."""
        self.now += SECOND
        published = self.send((f"plant/n/{device}", {"values": {"x": x}}))
        return next(str(one["id"]) for one in published if one["schema"] == "stream_detector.alert/1")

    def calm(self, device: str = "p", count: int = 1) -> list[dict[str, Any]]:
        """Let a device send usual readings; return what is published."""
        out = []
        for k in range(count):
            self.now += SECOND
            out += self.send((f"plant/n/{device}", {"values": {"x": 5.0 + k % 2}}))
        return out


def wanting(topic: str, correlation: bytes = b"") -> bytes:
    """Return the properties of a request that says where its answer goes."""
    out: Any = Properties(PacketTypes.PUBLISH)
    out.ResponseTopic = topic
    if correlation:
        out.CorrelationData = correlation
    packed = out.pack()
    return bytes(packed[1 if packed[0] < 128 else 2 :])
