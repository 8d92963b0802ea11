"""MQTT frames: the bytes of one recv become columns of messages.

This is the hottest loop of the service, so it makes no object per message: four lists grow, two
slices are cut. Properties of MQTT 5 are skipped by their length and not decoded here, so nothing in them
can stop us; those of requests are kept as they are, for whoever answers. A payload above the limit is
never held: it is hashed while it streams by, and its beginning is delivered as truncated, because a
message must be counted and acknowledged whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLISH = 3
"""The packet type, the high nibble of the first byte."""

KEPT_BYTES = 1024
"""How much of a payload above the limit is kept, for the dead letter."""

OTHER_LIMIT = 1 << 20
"""Bytes that a packet other than PUBLISH may have: what a broker says to us is small."""

MAX_LENGTH_BYTES = 4
CORRELATION = b"\x09"
"""Identifier of the property Correlation Data (MQTT 5, 3.3.2.3.6)."""


class FrameError(ValueError):
    """The bytes are no MQTT; the connection is worthless from here on."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """What a payload above the limit was.

    Attributes:
        size: All its bytes.
        sha256: Over all of them, in hex.
    """

    size: int
    sha256: str


@dataclass(slots=True)
class Received:
    """The messages of one recv, as columns of equal length, in arrival order.

    Attributes:
        topics: As they came; nobody has checked that they are UTF-8.
        payloads: The bytes, or the first `KEPT_BYTES` of them where `truncated` has the index.
        flags: Low nibble of the first byte: 8 dup, 6 QoS, 1 retain.
        packet_ids: 0 at QoS 0.
        truncated: Index -> what the whole payload was.
        properties: Index -> the bytes of the properties, of messages that may ask for an answer.
        epoch: The connection they came on; acknowledgements are worthless on any other.
        arrival: Service clock, µs.
    """

    topics: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    packet_ids: list[int] = field(default_factory=list)
    truncated: dict[int, Truncated] = field(default_factory=dict)
    properties: dict[int, bytes] = field(default_factory=dict)
    epoch: int = 0
    arrival: int = 0

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.topics)

    def without_qos0(self) -> Received:
        """Return only the messages that the sender keeps until they are acknowledged."""
        return self._only([place for place, packet_id in enumerate(self.packet_ids) if packet_id])

    def one(self, place: int) -> Received:
        """Return one message as a batch of its own."""
        return self._only([place])

    def _only(self, places: list[int]) -> Received:
        return Received(
            topics=[self.topics[place] for place in places],
            payloads=[self.payloads[place] for place in places],
            flags=[self.flags[place] for place in places],
            packet_ids=[self.packet_ids[place] for place in places],
            truncated={
                new: self.truncated[place] for new, place in enumerate(places) if place in self.truncated
            },
            properties={
                new: self.properties[place] for new, place in enumerate(places) if place in self.properties
            },
            epoch=self.epoch,
            arrival=self.arrival,
        )


class Framer:
    """Cuts the byte stream of one connection into packets.

    Args:
        max_payload: Bytes; larger payloads are truncated.
        mqtt5: Whether packets carry properties.
        requests: Topics that begin so are requests: their properties are kept. None: there are none.

    Example:
        >>> framer, received = Framer(max_payload=65536, mqtt5=False), Received()
        >>> framer.feed(bytes.fromhex("3005 0001 61 3432 d0"), received)
        []
        >>> received.topics, received.payloads
        ([b'a'], [b'42'])
        >>> framer.feed(bytes.fromhex("00"), received)  # the ping response was cut in two
        [(208, b'')]
    """

    def __init__(self, max_payload: int, *, mqtt5: bool, requests: bytes | None = None) -> None:
        self._max_payload = max_payload
        self._mqtt5 = mqtt5
        self._requests = requests
        self._rest = bytearray()  # the beginning of a packet whose end has not come
        self._need = 0  # bytes that `_rest` must have before it is worth a look
        self._large: _Large | None = None

    def feed(self, data: bytes, received: Received) -> list[tuple[int, bytes]]:
        """Append the messages in `data` to `received`; return the other packets.

        Returns:
            First byte and body of each packet that is not a PUBLISH, in order.

        Raises:
            FrameError: What came is no MQTT. Messages before it are in `received`.
        """
        others: list[tuple[int, bytes]] = []
        start = 0
        if self._large is not None:
            start = self._stream(self._large, data, 0, received)
        elif self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return others
            data = bytes(self._rest)
            self._rest.clear()
        try:
            rest = self._walk(data, start, received, others)
        except IndexError:
            raise FrameError("a packet ends before its header does") from None
        self._rest += data[rest:]
        return others

    def _walk(  # noqa: C901, PLR0912, PLR0915 - one flat loop is the point
        self, data: bytes, pos: int, received: Received, others: list[tuple[int, bytes]]
    ) -> int:
        """Read packets from `pos` on; return where the first incomplete one begins.

        One loop with local names only: 0.4 µs a message, twice that with a function call each.
        Indexes may run past a packet into its neighbour; `start > stop` finds that out at the end.
        """
        max_payload, mqtt5, requests = self._max_payload, self._mqtt5, self._requests
        add_topic, add_payload = received.topics.append, received.payloads.append
        add_flags, add_packet_id = received.flags.append, received.packet_ids.append
        end = len(data)
        last = end - 1
        self._need = 0
        while pos < last:
            command = data[pos]
            length = data[pos + 1]
            body = pos + 2
            if length > 127:  # noqa: PLR2004 - more bytes of length follow
                high = data[body] if body < end else 255
                if high < 128:  # noqa: PLR2004 - the second is the last: the usual case
                    length += (high << 7) - 128
                    body += 1
                else:
                    try:
                        length, body = _varint(data, pos + 1)
                    except IndexError:
                        break
            stop = body + length
            if length > max_payload and command >> 4 == PUBLISH:
                self._large = large = _Large(command, length, max_payload=max_payload, mqtt5=mqtt5)
                pos = self._stream(large, data, body, received)
                continue
            if stop > end:
                if length > OTHER_LIMIT:
                    raise FrameError(f"a packet of type {command >> 4} has {length} bytes")
                self._need = stop - pos
                break
            if command >> 4 == PUBLISH:
                start = body + 2 + (data[body] << 8) + data[body + 1]
                topic = data[body + 2 : start]
                packet_id = 0
                if command & 6:
                    if command & 4:
                        raise _unexpected_qos(command)
                    packet_id = (data[start] << 8) + data[start + 1]
                    start += 2
                if mqtt5:
                    skip = data[start]
                    start += 1
                    if skip > 127:  # noqa: PLR2004 - more bytes of length follow
                        skip, start = _varint(data, start - 1)
                    if skip and requests is not None and topic.startswith(requests):
                        received.properties[len(received.topics)] = data[start : start + skip]
                    start += skip
                if start > stop:
                    raise FrameError("a topic or its properties are longer than their packet")
                add_topic(topic)
                add_payload(data[start:stop])
                add_flags(command & 15)
                add_packet_id(packet_id)
            else:
                others.append((command, data[body:stop]))
            pos = stop
        return pos

    def _stream(self, large: _Large, data: bytes, pos: int, received: Received) -> int:
        """Give a large packet its bytes from `pos` on; return where they end."""
        stop = min(len(data), pos + large.left)
        large.feed(data[pos:stop])
        if not large.left:
            large.deliver(received)
            self._large = None
        return stop


class _Large:
    """A PUBLISH that may be larger than we want to hold, taken in as it comes.

    Args:
        command: First byte of the packet.
        length: Bytes after the fixed header.
        max_payload: A payload up to this is kept whole (the rest was topic and properties).
        mqtt5: Whether it carries properties.
    """

    def __init__(self, command: int, length: int, *, max_payload: int, mqtt5: bool) -> None:
        if command & 4:
            raise _unexpected_qos(command)
        self.left = length
        self._flags = command & 15
        self._mqtt5 = mqtt5
        self._max_payload = max_payload
        self._head = bytearray()  # up to and with the length of the properties: at most 64 kB and a recv
        self._topic: bytes | None = None  # None: the head is not complete
        self._packet_id = 0
        self._skip = 0  # bytes of properties that have not come
        self._size = 0
        self._payload = bytearray()
        self._hash = sha256()

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes, at most `left`."""
        self.left -= len(chunk)
        if self._topic is None:
            self._head += chunk
            try:
                chunk = self._read_head()
            except IndexError:
                if not self.left:
                    raise
                return
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        chunk = chunk[skipped:]
        if self._size <= self._max_payload:
            self._payload += chunk
        else:
            self._hash.update(chunk)
            self._payload += chunk[: KEPT_BYTES - len(self._payload)]

    def _read_head(self) -> bytes:
        """Read topic, packet id and the length of the properties; return what follows them.

        Raises:
            IndexError: The head is not complete.
        """
        head = self._head
        start = 2 + (head[0] << 8) + head[1]
        topic = bytes(head[2:start])
        if self._flags & 6:
            self._packet_id = (head[start] << 8) + head[start + 1]
            start += 2
        skip = 0
        if self._mqtt5:
            skip, start = _varint(head, start)
        size = self.left + len(head) - start - skip
        if size < 0:
            raise FrameError("a topic or its properties are longer than their packet")
        if len(head) < start:
            raise IndexError
        self._topic, self._skip, self._size = topic, skip, size
        rest = bytes(head[start:])
        head.clear()
        return rest

    def deliver(self, received: Received) -> None:
        """Append the message, all of whose bytes have come."""
        if self._size > self._max_payload:
            received.truncated[len(received)] = Truncated(self._size, self._hash.hexdigest())
        received.topics.append(self._topic or b"")
        received.payloads.append(bytes(self._payload))
        received.flags.append(self._flags)
        received.packet_ids.append(self._packet_id)


def _varint(data: bytes | bytearray, pos: int) -> tuple[int, int]:
    """Read a variable byte integer (MQTT 5, 1.5.5); return it and where it ends.

    Raises:
        IndexError: It is not complete.
        FrameError: It has more than four bytes.
    """
    value = 0
    for shift in range(0, 7 * MAX_LENGTH_BYTES, 7):
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the high bit says that more follow
            return value, pos
    raise FrameError("a length has more than four bytes")


def _unexpected_qos(command: int) -> FrameError:
    qos = command >> 1 & 3
    return FrameError(f"a message came with QoS {qos}, but we never subscribe with more than 1")


def header(command: int, length: int) -> bytes:
    """Return the fixed header of a packet with `length` bytes after it."""
    return bytes([command]) + length_of(length)


def length_of(length: int) -> bytes:
    """Return a length as a variable byte integer (MQTT 5, 1.5.5)."""
    out = bytearray()
    while length > 127:  # noqa: PLR2004 - seven bits a byte
        out.append(length & 127 | 128)
        length >>= 7
    out.append(length)
    return bytes(out)


def publish_frame(
    topic: bytes,
    payload: bytes,
    *,
    qos: int,
    retain: bool,
    dup: bool,
    packet_id: int,
    mqtt5: bool,
    correlation: bytes = b"",
) -> bytes:
    """Return a PUBLISH packet; `packet_id` counts where `qos` is not 0, `correlation` in MQTT 5."""
    middle = packet_id.to_bytes(2, "big") if qos else b""
    if mqtt5:
        properties = CORRELATION + len(correlation).to_bytes(2, "big") + correlation if correlation else b""
        middle += length_of(len(properties)) + properties
    length = 2 + len(topic) + len(middle) + len(payload)
    command = PUBLISH << 4 | dup << 3 | qos << 1 | retain
    return b"".join((header(command, length), len(topic).to_bytes(2, "big"), topic, middle, payload))


def puback_frames(packet_ids: Iterable[int]) -> bytes:
    """Return one PUBACK for each packet id, in order, without those that are 0."""
    return b"".join([b"\x40\x02" + number.to_bytes(2, "big") for number in packet_ids if number])
