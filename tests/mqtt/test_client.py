"""Whatever a broker says, the client raises nothing."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from stream_detector.mqtt.client import BulkClient, Client
from stream_detector.mqtt.frames import header

packets = st.tuples(st.integers(0, 255), st.binary(max_size=40)).map(
    lambda packet: header(packet[0], len(packet[1])) + packet[1]
)
noise = st.one_of(packets, st.binary(max_size=40))


@given(said=st.lists(noise, max_size=8).map(b"".join), bulk=st.booleans(), mqtt5=st.booleans())
def test_nothing_that_a_broker_says_raises(*, said: bytes, bulk: bool, mqtt5: bool) -> None:
    """Garbage ends the connection, at most: no exception passes, and the socket is never read in vain."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        client = (BulkClient if bulk else Client)("me", mqtt5=mqtt5, websockets=False, max_payload=65_536)
        client._sock = ours
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        for _ in range(50):
            client.loop_read()
            if client.socket() is None:
                break
        assert client.socket() is None
