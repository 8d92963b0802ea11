"""Ports of the loopback for servers that cannot be told to take any free one and say which.

`free_port` is for those that take a number, `usual_ports` for the demo, which takes none.

A port that is looked up and bound later can be taken in between. Two rules prevent that. It is chosen
below the range from which the kernel serves outgoing connections and port 0. And whoever chose it holds
the UDP port of the same number, which nobody here uses otherwise: other processes that run tests skip it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, LAST = 10_000, 32_000
"""Below 32768, where the ephemeral ports of Linux begin, and without privileges."""
HELD = 200
"""So many are held at a time: more than one test uses, far fewer than a process may open files."""

_held: deque[socket.socket] = deque()
_chance = random.SystemRandom()  # the common generator is seeded by Hypothesis, alike in all processes


def free_port() -> int:
    """Return a TCP port of the loopback on which nobody listens, and which nobody else is given."""
    while True:
        port = _chance.randint(FIRST, LAST)
        holder = _bound(socket.SOCK_DGRAM, port)
        if holder is None:
            continue
        listener = _bound(socket.SOCK_STREAM, port)
        if listener is None:
            holder.close()
            continue
        listener.close()
        _held.append(holder)
        if len(_held) > HELD:
            _held.popleft().close()
        return port


@contextmanager
def usual_ports() -> Iterator[None]:
    """Keep other tests of this machine from starting a demo before ours has its ports.

    It takes the usual ones where they are free, and of two that look at the same moment one would fail.
    """
    name = f"stream-detector-tests-{os.geteuid()}.lock"
    with (Path(tempfile.gettempdir()) / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _bound(kind: socket.SocketKind, port: int) -> socket.socket | None:
    """Return a socket that is bound to a port; None where the port is taken."""
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return sock
