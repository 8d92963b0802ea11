"""A proxy that can be a hole: the service believes that it speaks, and nobody hears it."""

from __future__ import annotations

import socket
from contextlib import suppress

from tests.brokers import Proxy


class Hole(Proxy):
    """A TCP proxy between the service and its broker.

    Attributes:
        swallows: What the service sends is thrown away; it still hears the broker.
    """

    def __init__(self, target: int) -> None:
        self.swallows = False
        super().__init__(target)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:  # type: ignore[override]
        with suppress(OSError):
            to_broker = sink.getpeername()[1] == self._target
            while data := source.recv(65_536):
                if not (to_broker and self.swallows):
                    sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
