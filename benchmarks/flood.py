"""The publisher of the throughput rounds, in a process of its own.

At QoS 1 it does not wait for PUBACKs, it only reads them: what holds it back is TCP. So the broker always
has something to deliver, which is a backlog that grows and is drained while it grows, as after an
outage. The alternative, a persistent session filled beforehand, measures the broker's queue as well.
"""

from __future__ import annotations

import multiprocessing
import select
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from benchmarks import wire
from benchmarks.workload import messages

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import TracebackType
    from typing import Self

CHUNK = 65_536


class Flood:
    """Handle on the process.

    Args:
        port: Of the broker.
        start: Event time of the first reading.
    """

    def __init__(self, port: int, start: datetime) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(port, start.timestamp(), theirs), daemon=True)

    def __enter__(self) -> Self:
        """Start the process."""
        self._process.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End it."""
        self._process.terminate()
        self._process.join()

    def prepare(self, first: int, passes: int, qos: int, site: bytes) -> None:
        """Encode messages; see `benchmarks.workload.messages`."""
        self._pipe.send((first, passes, qos, site))
        self._pipe.recv()

    def send(self) -> float:
        """Write what was prepared; return when (seconds since 1970) the first byte went out."""
        self._pipe.send(None)
        began: float = self._pipe.recv()
        return began


def _serve(port: int, start: float, pipe: Connection[Any, Any]) -> None:
    sock = wire.connect(port, b"bench-flood")
    data = b""
    while True:
        order = pipe.recv()
        if order is None:
            pipe.send(time.time())
            _write(sock, data)
        else:
            first, passes, qos, site = order
            made = messages(first, passes, site=site, start=datetime.fromtimestamp(start).astimezone())
            data = b"".join(made.packets(qos))
            pipe.send(len(made))


def _write(sock: Any, data: bytes) -> None:
    left = memoryview(data)
    sock.setblocking(False)
    while left:
        readable, writable, _ = select.select([sock], [sock], [])
        if readable:
            wire.drain(sock)
        if writable:
            left = left[sock.send(left[:CHUNK]) :]
    sock.setblocking(True)
