"""A sender without manners: a bare socket that writes whole MQTT packets, as many and as odd as wanted."""

from __future__ import annotations

import socket
from itertools import islice
from typing import TYPE_CHECKING, Self

from stream_detector.mqtt.frames import Framer, Received, header, publish_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE_S = 60.0
AT_ONCE = 1000
"""Messages that wait for the broker's confirmation at one time."""
PUBLISH_QOS_1 = 0x32
CONNACK, PUBACK = 0x20, 0x40


class Wire:
    """A connection to a broker.

    Args:
        port: Of the broker, on the loopback.
        mqtt5: Else 3.1.1, which sets a sender no limit.
    """

    def __init__(self, port: int, *, mqtt5: bool = False) -> None:
        self._mqtt5 = mqtt5
        self._next_id = 0
        self._framer = Framer(1 << 20, mqtt5=mqtt5)
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        version, none = (5, b"\0") if mqtt5 else (4, b"")
        login = b"\0\4MQTT" + bytes([version, 2, 0, 0]) + none + b"\0\0"
        self._sock.sendall(header(0x10, len(login)) + login)
        self._wait_for(CONNACK, 1)

    def send(self, messages: Iterable[tuple[bytes, bytes]]) -> int:
        """Publish topics with payloads at QoS 1; return how many, once the broker has them all."""
        rest, sent = iter(messages), 0
        while some := list(islice(rest, AT_ONCE)):
            self._sock.sendall(
                b"".join(
                    publish_frame(
                        topic,
                        payload,
                        qos=1,
                        retain=False,
                        dup=False,
                        packet_id=self._new_id(),
                        mqtt5=self._mqtt5,
                    )
                    for topic, payload in some
                )
            )
            self._wait_for(PUBACK, len(some))
            sent += len(some)
        return sent

    def send_odd(self, topic: bytes, properties: bytes = b"", payload: bytes = b"", repeat: int = 1) -> None:
        """Publish with any properties (MQTT 5), and the payload so many times in a row."""
        head = len(topic).to_bytes(2, "big") + topic + self._new_id().to_bytes(2, "big")
        head += header(0, len(properties))[1:] + properties
        self._sock.sendall(header(PUBLISH_QOS_1, len(head) + len(payload) * repeat) + head)
        for _ in range(repeat):
            self._sock.sendall(payload)
        self._wait_for(PUBACK, 1)

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def __enter__(self) -> Self:
        """Nothing to do: it is connected when it is made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def _new_id(self) -> int:
        self._next_id = self._next_id % 65_535 + 1
        return self._next_id

    def _wait_for(self, command: int, count: int) -> None:
        while count:
            data = self._sock.recv(65_536)
            assert data, "the broker hung up"
            count -= sum(found == command for found, _ in self._framer.feed(data, Received()))
