"""Publishes a simulated fleet in real time, as a plant's gateway would.

One thread, paho and nothing else of this package's MQTT side, so that the demo meets its service
only on the broker. The pace is kept by the monotonic clock: what a stall delayed is caught up, and
while the broker is away QoS 1 readings wait in paho's queue.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from paho.mqtt.client import Client, ConnectFlags, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from stream_detector.errors import BrokerError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from paho.mqtt.client import MQTTMessageInfo
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from stream_detector.demo.fleet import Fault, Fleet

CONNECT_TIMEOUT_S = 0.8  # blocks a stop, which is promised within a second
ANSWER_TIMEOUT_S = 5.0  # for the broker's answer to our CONNECT
RETRY_S = 0.5
LOOK_UP_S = 0.2  # how often a slow plant looks whether it shall stop
FLUSH_S = 0.5  # how long the last readings may wait for their PUBACK
MAX_QUEUED = 10_000  # readings kept while the broker is away: 20 s of 24 devices


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the broker is and how to get in.

    Attributes:
        host: Name or address.
        port: TCP port.
        protocol: The MQTT version.
        username: None: none.
        password: Belongs to `username`.
        tls: Encrypt, and check the broker's certificate against the system's authorities.
        ca_file: Encrypt, and check it against this authority instead.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    protocol: Literal["5", "3.1.1"] = "5"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None


class Plant:
    """Puts a fleet's readings on a broker.

    Args:
        fleet: The devices.
        connection: The broker.
        rate_hz: Readings a second of each device.
        qos: Of the readings; at 0, what the broker misses is gone.
    """

    def __init__(
        self, fleet: Fleet, connection: Connection, *, rate_hz: float = 20.0, qos: Literal[0, 1] = 1
    ) -> None:
        self._fleet = fleet
        self._connection = connection
        self._rate_hz = rate_hz
        self._qos = qos
        self._refusal: str | None = None
        self._retry_at = 0.0

    def run(
        self,
        stop: threading.Event,
        *,
        duration_s: float | None = None,
        on_fault: Callable[[Fault, bool], None] | None = None,
    ) -> int:
        """Publish until it is stopped, and return how many readings were handed over.

        The fleet's time 0 is when the connection stands; a connection that is lost later is
        sought again.

        Args:
            stop: Ends the run within a second.
            duration_s: Ends it by itself; None: never.
            on_fault: Called with a fault and whether it starts (else it ends), in this thread.

        Raises:
            BrokerError: The broker cannot be reached at the start, or refuses us.
        """
        client = self._client()
        try:
            self._connect(client, stop)
            return self._publish(client, stop, duration_s, on_fault)
        finally:
            client.disconnect()

    def _publish(
        self,
        client: Client,
        stop: threading.Event,
        duration_s: float | None,
        on_fault: Callable[[Fault, bool], None] | None,
    ) -> int:
        epoch_s, began = time.time(), time.monotonic()
        encode = msgspec.json.Encoder().encode
        going_on: list[Fault] = []
        published = seq = 0
        last: MQTTMessageInfo | None = None
        while not stop.is_set() and (duration_s is None or seq < duration_s * self._rate_hz):
            t = seq / self._rate_hz
            ahead = began + t - time.monotonic()
            if ahead > 0:
                self._serve(client, min(ahead, LOOK_UP_S))
                continue
            for topic, payload in self._fleet.readings(t, seq, epoch_s):
                last = client.publish(topic, encode(payload), qos=self._qos)
                published += 1
            seq += 1
            if on_fault is not None:
                before, going_on = going_on, self._fleet.active(t)
                _tell(on_fault, before, going_on)
        self._flush(client, last)
        return published

    def _client(self) -> Client:
        connection = self._connection
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"plant-{uuid.uuid4().hex[:8]}",
            protocol=MQTTv5 if connection.protocol == "5" else MQTTv311,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_queued_messages_set(MAX_QUEUED)
        client.on_connect = self._answered
        if connection.username is not None:
            client.username_pw_set(connection.username, connection.password)
        if connection.tls or connection.ca_file is not None:
            client.tls_set(ca_certs=None if connection.ca_file is None else str(connection.ca_file))
        return client

    def _answered(
        self,
        _client: Client,
        _data: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._refusal = str(reason) if reason.is_failure else None

    def _connect(self, client: Client, stop: threading.Event) -> None:
        host, port = self._connection.host, self._connection.port
        try:
            client.connect(host, port)
        except OSError as error:
            raise BrokerError(
                f"The simulated plant cannot reach the broker at {host}:{port} ({error}); "
                "start the broker, or correct the address."
            ) from error
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not client.is_connected() and not stop.is_set():
            self._serve(client, LOOK_UP_S)
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"What listens at {host}:{port} did not answer the simulated plant within "
                    f"{ANSWER_TIMEOUT_S:g} s; correct the address if it is not an MQTT broker."
                )

    def _serve(self, client: Client, seconds: float) -> None:
        """Let paho read and write for `seconds` at most; look for a broker that went away."""
        if client.loop(seconds) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            return
        if self._refusal is not None:
            raise BrokerError(
                f"The broker at {self._connection.host}:{self._connection.port} refused the simulated "
                f"plant: {self._refusal}; check its user name, password and protocol."
            )
        now = time.monotonic()
        if now < self._retry_at:
            time.sleep(min(seconds, self._retry_at - now))
            return
        self._retry_at = now + RETRY_S
        try:
            client.reconnect()
        except OSError:
            return  # still away; the next look is at _retry_at

    def _flush(self, client: Client, last: MQTTMessageInfo | None) -> None:
        deadline = time.monotonic() + FLUSH_S
        while (
            last is not None
            and last.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
            and not last.is_published()
            and client.is_connected()
            and time.monotonic() < deadline
        ):
            self._serve(client, 0.05)


def _tell(on_fault: Callable[[Fault, bool], None], before: Iterable[Fault], now: Iterable[Fault]) -> None:
    """Report the faults that began or ended between two looks."""
    ended, begun = set(before) - set(now), set(now) - set(before)
    for fault in ended:
        on_fault(fault, False)
    for fault in begun:
        on_fault(fault, True)
