"""Waiting for the socket of a connection, or for another thread that ends the wait."""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import Connection

LONGEST_WAIT_S = 1.0  # a poll looks after pings and retries at least this often


class Waiter:
    """Waits for at most one connection; `wake` may be called by any thread, all else by one."""

    def __init__(self) -> None:
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ)

    def watch(self, connection: Connection) -> None:
        """Wait for a connection, too, from now on."""
        if connection.sock is not None:
            self._selector.register(connection.sock, selectors.EVENT_READ)

    def leave(self, connection: Connection) -> None:
        """Wait for a connection no more."""
        with contextlib.suppress(KeyError, ValueError):  # closed by paho before it was registered
            self._selector.unregister(connection.sock)

    def wake(self) -> None:
        """End a wait."""
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: nobody waits
            self._wake_out.send(b"\0")

    def close(self) -> None:
        """Let go of everything."""
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def wait(self, connection: Connection | None, timeout_s: float) -> tuple[bool, bool]:
        """Wait for the socket or a wake; return whether the socket can be read and written."""
        readable = writable = False
        if connection is not None:
            if connection.client.socket() is None:
                return False, False  # a write has found it broken
            readable = connection.client.pending()
            wanted = selectors.EVENT_READ
            if connection.client.want_write():
                wanted |= selectors.EVENT_WRITE
            if wanted != connection.events:
                self._selector.modify(connection.sock, wanted)
                connection.events = wanted
        for key, events in self._selector.select(
            0.0 if readable else max(0.0, min(timeout_s, LONGEST_WAIT_S))
        ):
            if key.fileobj is self._wake_in:
                with contextlib.suppress(BlockingIOError):
                    self._wake_in.recv(4096)
            else:
                readable = readable or bool(events & selectors.EVENT_READ)
                writable = bool(events & selectors.EVENT_WRITE)
        return readable, writable
