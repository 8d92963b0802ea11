"""The yardstick: stock paho, `loop_forever`, and an `on_message` that only counts.

It speaks MQTT 3.1.1, which paho decodes faster than MQTT 5, so it is the harder one to beat.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.workload import BARE_SITE

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Drained:
    """How a receiver took a flood.

    Attributes:
        rate: Messages a second, from the first byte sent to the last message taken.
        cpu_us: CPU time of the receiver, µs a message.
    """

    rate: float
    cpu_us: float


def drain(port: int, count: int, qos: int, send: Callable[[], float]) -> Drained:
    """Let a bare client take `count` messages that `send` sends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_receive, args=(port, count, qos, theirs), daemon=True)
    process.start()
    try:
        ours.recv()  # subscribed
        began = send()
        if not ours.poll(PATIENCE_S):
            raise TimeoutError("the bare client did not get all messages")
        ended, cpu_s = ours.recv()
    finally:
        process.terminate()
        process.join()
    return Drained(count / (ended - began), cpu_s / count * 1e6)


def _receive(port: int, count: int, qos: int, pipe: Connection[Any, Any]) -> None:
    seen = 0
    cpu_before = 0.0

    def on_message(_client: paho.Client, _userdata: object, _message: paho.MQTTMessage) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            pipe.send((time.time(), _cpu_s() - cpu_before))

    def on_subscribe(*_: object) -> None:
        nonlocal cpu_before
        cpu_before = _cpu_s()
        pipe.send("subscribed")

    def on_connect(client: paho.Client, *_: object) -> None:
        client.subscribe(f"plant/{BARE_SITE.decode()}/+/telemetry", qos)

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_subscribe = on_subscribe
    client.on_connect = on_connect
    client.connect("127.0.0.1", port)
    client.loop_forever()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
