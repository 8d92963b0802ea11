"""The paho client, hardened: it connects, logs in and writes; what it reads becomes columns.

`Client` reads as paho does, packet by packet; `BulkClient` takes 256 kB from the socket at once, which
costs a twentieth of the time. In both, PUBLISH packets go through our own framing, because paho's
decoding of properties can be stopped for ever by one legal message, and none of paho's own queues, threads
and retries are used. One object serves one connection.

Private names of paho that are used here (all exist in 2.1 and 2.2): `_connect_timeout`,
`_create_socket_connection`, `_handle_publish`, `_handle_pubackcomp`, `_host`, `_in_packet`,
`_loop_rc_handle`, `_packet_handle`, `_packet_queue`, `_packet_read`, `_sock`, `_sock_close`, `_sock_recv`,
`_sock_send`, `_ssl`, `_ssl_context`, `_ssl_wrap_socket`.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, cast

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from .frames import FrameError, Framer, Received, header

if TYPE_CHECKING:
    from paho.mqtt.enums import MQTTErrorCode

RECV_BYTES = 262_144
STOCK_PACKETS = 1000  # packets that one loop_read of the stock path takes at most
TCP_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux
OK = paho.MQTT_ERR_SUCCESS
LOST = paho.MQTT_ERR_CONN_LOST


class Client(paho.Client):
    """One connection, read packet by packet by paho.

    Args:
        client_id: Name of our session.
        mqtt5: MQTT 5, else 3.1.1.
        websockets: MQTT inside of websockets.
        max_payload: Bytes; larger payloads are truncated.
        requests: How topics begin whose messages may ask for an answer.

    Attributes:
        received: Messages since the last `take`.
        confirmed: Packet id and reason code of each PUBACK; who reads it clears it.
        emptied: Whether the last read left nothing in the socket.
        error: What broke the connection, where an exception did.
        goodbye: Reason code of the broker's DISCONNECT (MQTT 5).
    """

    def __init__(
        self,
        client_id: str,
        *,
        mqtt5: bool,
        websockets: bool,
        max_payload: int,
        requests: bytes | None = None,
        keep_session: bool = True,
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if mqtt5 else not keep_session,
            protocol=paho.MQTTv5 if mqtt5 else paho.MQTTv311,
            transport="websockets" if websockets else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self.suppress_exceptions = True
        self.received = Received()
        self.confirmed: list[tuple[int, int]] = []
        self.emptied = True
        self.error: Exception | None = None
        self.goodbye: int | None = None
        self._framer = Framer(max_payload, mqtt5=mqtt5, requests=requests)
        self._tcp: socket.socket | None = None  # below a websocket, and while a handshake goes on

    def take(self) -> Received | None:
        """Return the messages that came since the last call, if any."""
        if not self.received:
            return None
        received, self.received = self.received, Received()
        return received

    def send(self, frames: bytes) -> None:
        """Write whole packets, as one; what the socket does not take now waits for `loop_write`."""
        self._packet_queue(paho.PUBACK, frames, 0, 1)

    def pending(self) -> bool:
        """Whether decrypted bytes wait inside TLS, where select does not see them."""
        return isinstance(self._tcp, ssl.SSLSocket) and self._sock is not None and self._tcp.pending() > 0

    def drop(self) -> None:
        """Close the socket without a word, so that the broker sends our last will."""
        self._sock_close()
        if self._tcp is not None:
            self._tcp.close()

    def _create_socket_connection(self) -> socket.socket:
        """Connect; acknowledgements and alerts are small writes, and none shall wait for the one before."""
        self._tcp = super()._create_socket_connection()
        self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tcp

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Shake hands; unlike paho's own, keep the socket in sight, so that it is closed if that fails."""
        context = cast("ssl.SSLContext", self._ssl_context)
        self._tcp = sock = context.wrap_socket(
            tcp_sock, server_hostname=self._host, do_handshake_on_connect=False
        )
        sock.settimeout(self._connect_timeout)
        try:
            sock.do_handshake()
        except ssl.SSLError:
            raise
        except OSError as error:  # it went away, or says nothing: most likely it speaks no TLS
            raise ssl.SSLError(error.errno, error.strerror or str(error)) from error
        return sock

    def loop_read(self, max_packets: int = STOCK_PACKETS) -> MQTTErrorCode:
        """Read until the socket is empty or `max_packets` have come."""
        self.emptied = False
        for _ in range(max_packets):
            if self._sock is None:
                return paho.MQTT_ERR_NO_CONN
            rc = self._packet_read()
            if rc == paho.MQTT_ERR_AGAIN:
                self.emptied = self._in_packet["command"] == 0
                break
            if rc > 0:
                return self._loop_rc_handle(rc)
        return OK

    def _sock_recv(self, bufsize: int) -> bytes:
        """Remember why the connection broke: paho only logs it."""
        try:
            return super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self.error = error
            raise

    def _sock_send(self, buf: bytes | bytearray) -> int:
        """Keep a packet that a websocket has taken in part: it says 0, and paho would forget the packet."""
        try:
            sent = super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError:
            self._hear_alert()
            raise
        if not sent:
            raise BlockingIOError
        return sent

    def _hear_alert(self) -> None:
        """Note why the other end has ended TLS: with 1.3 it judges our certificate while we write already."""
        if isinstance(self._tcp, ssl.SSLSocket):
            try:
                self._tcp.recv(1)
            except ssl.SSLError as error:
                if "ALERT" in (error.reason or ""):
                    self.error = error
            except OSError:
                pass

    def _packet_handle(self) -> MQTTErrorCode:
        """Let no packet raise, and note a DISCONNECT: paho 2.1 does neither."""
        packet = self._in_packet["packet"]
        if self._in_packet["command"] == paho.DISCONNECT:
            self.goodbye = packet[0] if packet else 0
        try:
            return super()._packet_handle()
        except Exception as error:  # noqa: BLE001 - whatever paho's decoding raises, the broker's words are garbage
            self.error = error
            return paho.MQTT_ERR_PROTOCOL

    def _handle_publish(self) -> MQTTErrorCode:
        """Take the message through our own framing."""
        packet = bytes(self._in_packet["packet"])
        self._framer.feed(header(self._in_packet["command"], len(packet)) + packet, self.received)
        return OK

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """Note what the broker says about a message of ours."""
        packet = self._in_packet["packet"]
        if cmd == "PUBACK":
            reason = packet[2] if len(packet) > 2 else 0  # noqa: PLR2004 - id, then reason
            self.confirmed.append((packet[0] << 8 | packet[1], reason))
        return OK


class BulkClient(Client):
    """One connection, read 256 kB at a time."""

    def loop_read(self, max_packets: int = STOCK_PACKETS) -> MQTTErrorCode:  # noqa: ARG002 - paho's signature
        """Read once; with TLS, whose records have 16 kB, as often as it takes to read as much."""
        self.emptied = False
        size = 0
        while size < RECV_BYTES:
            if self._sock is None:
                return paho.MQTT_ERR_NO_CONN
            try:
                data = self._sock_recv(RECV_BYTES)
            except BlockingIOError:
                self.emptied = True
                break
            except OSError:
                return self._loop_rc_handle(LOST)
            self._acknowledge_tcp()
            rc = self._digest(data) if data else LOST
            if rc > 0:
                return self._loop_rc_handle(rc)
            size += len(data)
            if not self._ssl:
                self.emptied = size < RECV_BYTES
                break
        return OK

    def _digest(self, data: bytes) -> MQTTErrorCode:
        """Frame what came; hand all but messages to paho's own handlers."""
        try:
            others = self._framer.feed(data, self.received)
        except FrameError as error:
            self.error = error
            return paho.MQTT_ERR_PROTOCOL
        for command, body in others:
            self._in_packet["command"] = command
            self._in_packet["remaining_length"] = len(body)
            self._in_packet["packet"] = bytearray(body)
            rc = self._packet_handle()
            if rc > 0 or self._sock is None:
                return rc
        return OK

    def _acknowledge_tcp(self) -> None:
        """Ask the kernel not to hold the TCP acknowledgement back.

        The broker's next segment waits for it: 12.6 ms from publish to alert become 0.4 ms at half
        load. Linux forgets the wish, so it is repeated.
        """
        if TCP_QUICKACK is not None and self._tcp is not None:
            with suppress(OSError):  # the next read will say it
                self._tcp.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 1)
