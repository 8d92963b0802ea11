"""A raw MQTT 3.1.1 publisher: writes packets that were encoded before, as fast as the broker takes them.

A client library would need more time for a message than the broker does, and then the publisher would be
what is measured.
"""

from __future__ import annotations

import socket


def connect(port: int, client_id: bytes) -> socket.socket:
    """Return a socket that the broker has accepted; nothing is pinged (keepalive 0)."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(client_id).to_bytes(2, "big") + client_id
    sock.sendall(bytes((0x10, len(body))) + body)
    answer = sock.recv(4)
    if answer != b"\x20\x02\x00\x00":
        raise ConnectionError(f"the broker refuses the publisher: {answer.hex()}")
    return sock


def drain(sock: socket.socket) -> int:
    """Read PUBACKs that have come and forget them; return how many bytes that were."""
    size = 0
    try:
        while data := sock.recv(65_536, socket.MSG_DONTWAIT):
            size += len(data)
    except BlockingIOError:
        pass
    return size


def acknowledge_tcp(sock: socket.socket) -> None:
    """Ask the kernel to acknowledge at once, for which the broker's next small packet waits (Linux).

    Else up to 40 ms of the listener's own kernel would count as the service's. It is forgotten with each
    acknowledgement, so it is said after each read.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
