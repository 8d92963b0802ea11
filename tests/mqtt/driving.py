"""Drive a Link by hand, and a broker that does exactly what a test tells it to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Self

from stream_detector.mqtt.link import Link
from stream_detector.mqtt.settings import BrokerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.mqtt.frames import Received

PATIENCE_S = 60.0


class Driver:
    """A link and everything that it has received.

    Args:
        url: Of the broker.
        acknowledge: Whether each batch is acknowledged at once.
        client_id: Name of the session.
        subscriptions: Filters and their QoS.
        replayed: Those whose retained messages are wanted at each login.
        optional: Those that we can do without.
        formerly: Filters of an earlier configuration.
        settings: More of the section `broker`.
    """

    def __init__(
        self,
        url: str,
        *,
        acknowledge: bool = True,
        client_id: str = "detector",
        subscriptions: tuple[tuple[str, int], ...] = (("a/#", 1),),
        replayed: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        formerly: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        self.batches: list[Received] = []
        self._acknowledge = acknowledge
        self.link = Link(
            BrokerSettings.model_validate({"url": url, **settings}),
            client_id=client_id,
            subscriptions=subscriptions,
            will=("status", b"offline"),
            clock=lambda: time_ns() // 1000,
            replayed=replayed,
            optional=optional,
            formerly=formerly,
        )

    @property
    def messages(self) -> list[tuple[str, bytes]]:
        """Topic and payload of all that came."""
        return [
            (topic.decode(), payload)
            for batch in self.batches
            for topic, payload in zip(batch.topics, batch.payloads, strict=True)
        ]

    @property
    def payloads(self) -> list[bytes]:
        """Payloads of all that came."""
        return [payload for _, payload in self.messages]

    def poll(self) -> None:
        """Take one turn."""
        received = self.link.poll(0.05)
        if received is not None:
            self.batches.append(received)
            if self._acknowledge:
                self.link.acknowledge(received)

    def until(self, predicate: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Take turns until `predicate` holds."""
        end = monotonic() + timeout_s
        while not predicate():
            assert monotonic() < end, f"not within {timeout_s} s; problem: {self.link.problem}"
            self.poll()

    def until_ready(self) -> Self:
        """Take turns until all subscriptions stand."""
        self.until(lambda: self.link.ready)
        return self

    def until_problem(self, words: str) -> None:
        """Take turns until the link says so."""
        self.until(lambda: words in (self.link.problem or ""))

    def __enter__(self) -> Self:
        """Nothing to do: the first poll connects."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave in order."""
        self.link.close(2)


class ScriptedBroker:
    """Answers each connection by the next function of its script; the last one stays.

    A function gets the connected socket and returns when it wants to hang up.
    """

    def __init__(self, *script: Callable[[socket.socket], None]) -> None:
        self.logins: list[bytes] = []
        self._script = list(script)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                play = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                with sock, suppress(OSError):
                    sock.settimeout(PATIENCE_S)
                    self.logins.append(read_packet(sock))
                    play(sock)

    def __enter__(self) -> Self:
        """Nothing to do: it listens since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to listen."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE_S)


def read_packet(sock: socket.socket) -> bytes:
    """Return one packet of less than 128 bytes length, or of the usual two bytes of length."""
    head = sock.recv(2, socket.MSG_WAITALL)
    if len(head) < 2:
        raise ConnectionResetError
    length = head[1]
    if length > 127:
        more = sock.recv(1)
        head += more
        length = length - 128 + (more[0] << 7)
    return head + (sock.recv(length, socket.MSG_WAITALL) if length else b"")


def login_answer(code: int, *, mqtt5: bool = True, properties: bytes = b"") -> bytes:
    """Return a CONNACK."""
    body = bytes([0, code])
    if mqtt5:
        body += bytes([len(properties)]) + properties
    return bytes([0x20, len(body)]) + body


def grant(sock: socket.socket, code: int = 1) -> None:
    """Let an MQTT 5 client in and answer its SUBSCRIBE with one code."""
    sock.sendall(login_answer(0))
    answer_subscribe(sock, code)


def answer_subscribe(sock: socket.socket, code: int) -> None:
    """Read an MQTT 5 SUBSCRIBE for one filter and answer it."""
    packet_id = read_packet(sock)[2:4]
    sock.sendall(b"\x90\x04" + packet_id + bytes([0, code]))


def wait_for_the_end(sock: socket.socket) -> None:
    """Stay until the client says goodbye or hangs up."""
    while (data := sock.recv(4096)) and not data.endswith(b"\xe0\0"):
        pass
