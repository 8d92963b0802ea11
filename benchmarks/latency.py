"""From publish to alert: one process publishes at a steady pace and listens for the alerts.

Both times are taken here, by the monotonic clock. Messages are written every millisecond, those that
are due; the time of a message is when it is handed to the kernel. The service is one of two subscribers of
its own topics, and this is the other.
"""

from __future__ import annotations

import gc
import json
import select
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import TYPE_CHECKING, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import wire
from benchmarks.workload import STREAM, messages

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from datetime import datetime

STEP_S = 0.001
AFTER_S = 1.0
"""Alerts that come later than this after the last message are lost."""


@dataclass(frozen=True, slots=True)
class Latency:
    """From publish to alert, milliseconds.

    Attributes:
        qos: Of the messages.
        rate: Messages a second.
        p50: Half of the alerts came sooner.
        p99: All but one in a hundred came sooner.
        alerts: How many came.
        anomalies: How many messages called for one.
    """

    qos: int
    rate: float
    p50: float
    p99: float
    alerts: int
    anomalies: int


def measure(port: int, qos: int, rate: float, first: int, passes: int, start: datetime) -> Latency:
    """Publish at a rate and time the alerts.

    Args:
        port: Of the broker.
        qos: Of the messages.
        rate: Messages a second.
        first: See `benchmarks.workload.messages`.
        passes: Likewise.
        start: Likewise.
    """
    made = messages(first, passes, start=start)
    packets = made.packets(qos)
    raised: dict[tuple[str, str], float] = {}

    def on_message(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        now = time.monotonic()
        alert = json.loads(message.payload)
        if alert["event"] == "raise":
            raised.setdefault((alert["device"], alert["updated_at"]), now)

    listener = _listener(port, on_message)
    gc.collect()
    gc.freeze()  # else a collection here, over all these packets, would be measured as well
    sent = _publish(port, packets, rate, listener)
    listener.disconnect()
    gc.unfreeze()
    delays = [(raised[key] - sent[place]) * 1e3 for place, key in made.anomalous.items() if key in raised]
    if len(delays) < 2:  # noqa: PLR2004 - quantiles need two
        raise RuntimeError("the service raised no alerts")
    cuts = quantiles(delays, n=100)
    return Latency(qos, rate, cuts[49], cuts[98], len(delays), len(made.anomalous))


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Have somebody listen to the alerts, as in life: unheard ones wait for a listener."""
    client = _listener(port, lambda *_: None)
    client.loop_start()
    yield
    client.disconnect()
    client.loop_stop()


def middle(spells: list[Latency]) -> Latency:
    """Return the medians of some spells: a neighbour that takes the machine for a moment spoils but one."""
    return replace(
        spells[0],
        p50=median(spell.p50 for spell in spells),
        p99=median(spell.p99 for spell in spells),
        alerts=sum(spell.alerts for spell in spells),
        anomalies=sum(spell.anomalies for spell in spells),
    )


def _listener(port: int, on_message: paho.CallbackOnMessage) -> paho.Client:
    subscribed = False

    def on_subscribe(*_: object) -> None:
        nonlocal subscribed
        subscribed = True

    def on_connect(client: paho.Client, *_: object) -> None:
        client.subscribe(f"stream_detector/alert/{STREAM}/+", 0)

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_subscribe = on_subscribe
    client.on_connect = on_connect
    client.connect("127.0.0.1", port)
    while not subscribed:
        client.loop(timeout=0.1)
    return client


def _publish(port: int, packets: list[bytes], rate: float, listener: paho.Client) -> list[float]:
    """Write packets at a rate, handling alerts in between; return when each was written."""
    publisher, alerts = wire.connect(port, b"bench-pace"), cast("socket.socket", listener.socket())
    wire.acknowledge_tcp(alerts)
    sent: list[float] = []
    began = now = time.monotonic()
    ends = began + len(packets) / rate + AFTER_S
    while now < ends:
        due = min(len(packets), int((now - began) * rate))
        if due > len(sent):
            data = b"".join(packets[len(sent) : due])
            sent += [now] * (due - len(sent))
            publisher.sendall(data)
        next_step = now + STEP_S
        while (left := next_step - time.monotonic()) > 0:
            readable, _, _ = select.select([publisher, alerts], [], [], left)
            if alerts in readable:
                listener.loop_read()
                wire.acknowledge_tcp(alerts)
            if publisher in readable:
                wire.drain(publisher)
        now = time.monotonic()
    publisher.close()
    return sent
