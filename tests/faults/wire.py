"""The two programs at the other end of the broker: one that publishes, one that listens.

Both are stock paho with sessions that outlive a restart of the broker, so what is lost is lost by the
service.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.faults.scenarios import Message

PATIENCE_S = 60.0


class _Peer:
    """A client of the broker that reconnects by itself."""

    def __init__(self, port: int, name: str) -> None:
        self._changed = threading.Condition()
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, name, clean_session=False, protocol=paho.MQTTv311
        )
        client.reconnect_delay_set(1, 1)
        client.max_inflight_messages_set(500)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.connect("127.0.0.1", port)
        client.loop_start()
        wait_for(client.is_connected, what=f"the {name} is connected")

    def _on_connect(self, *_: object) -> None:
        """Nothing, unless there is something to subscribe to."""

    def _on_publish(self, *_: object) -> None:
        """Nothing, unless somebody counts."""

    def _on_subscribe(self, *_: object) -> None:
        """Nothing, unless somebody waits for it."""

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        """Nothing, unless there is a subscription."""

    def _wait(self, predicate: Callable[[], object], timeout_s: float, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(predicate, timeout_s), f"not within {timeout_s} s: {what}"

    def __enter__(self) -> Self:
        """Nothing to do: it is connected when it is made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave in order."""
        self._client.disconnect()
        self._client.loop_stop()


class Sensor(_Peer):
    """Publishes at QoS 1.

    Attributes:
        published: Messages handed over so far.
    """

    def __init__(self, port: int) -> None:
        self.published = 0
        self._confirmed = 0
        super().__init__(port, "sensor")

    def publish(self, messages: Iterable[Message]) -> None:
        """Publish, and return once the broker has them all."""
        for message in messages:
            self._client.publish(message.topic, message.payload, 1)
            self.published += 1
        self._wait(lambda: self._confirmed >= self.published, PATIENCE_S, "the broker confirms")

    def _on_publish(self, *_: object) -> None:
        with self._changed:
            self._confirmed += 1
            self._changed.notify_all()


class Listener(_Peer):
    """Hears what the service publishes, as any other program would: by id and seq, the first one counts.

    Attributes:
        alerts: (id, seq) -> the event.
        states: What was said last of each device.
        refused: sha256 of messages that came as dead letters -> why, and their topic.
        again: Events that were delivered once more.
        twins: Events that came once more, but with another content.
    """

    def __init__(self, port: int, base: str = "stream_detector") -> None:
        self.alerts: dict[tuple[str, int], dict[str, Any]] = {}
        self.states: dict[tuple[str, str], dict[str, Any]] = {}
        self.refused: dict[str, str] = {}
        self.again = 0
        self.twins: list[tuple[str, int]] = []
        self._digests: dict[tuple[str, int], bytes] = {}
        self._filters = [(f"{base}/{what}/#", 1) for what in ("alert", "state", "deadletter")]
        self._ready = False
        super().__init__(port, "listener")
        self._wait(lambda: self._ready, PATIENCE_S, "the listener is subscribed")

    def has_heard_of(self, device: str) -> bool:
        """Return whether there was an alert of a device."""
        return any(alert["device"] == device for alert in self.alerts.values())

    def _on_connect(self, *_: object) -> None:
        self._client.subscribe(self._filters)

    def _on_subscribe(self, *_: object) -> None:
        with self._changed:
            self._ready = True
            self._changed.notify_all()

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        content = json.loads(message.payload)
        with self._changed:
            if "/deadletter/" in message.topic:
                self.refused[content["sha256"]] = f"{content['reason']} on {content['topic']}"
            elif "/state/" in message.topic:
                self.states[content["stream"], content["device"]] = content
            else:
                self._hear(content, hashlib.sha256(message.payload).digest())
            self._changed.notify_all()

    def _hear(self, alert: dict[str, Any], digest: bytes) -> None:
        key = (alert["id"], alert["seq"])
        if key not in self.alerts:
            self.alerts[key], self._digests[key] = alert, digest
            return
        self.again += 1
        if self._digests[key] != digest:
            self.twins.append(key)
