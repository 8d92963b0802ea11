"""Framing: however TCP cuts the stream, the messages are the same."""

from __future__ import annotations

import tracemalloc
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stream_detector.mqtt.frames import (
    KEPT_BYTES,
    OTHER_LIMIT,
    FrameError,
    Framer,
    Received,
    Truncated,
    header,
    puback_frames,
    publish_frame,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PAYLOAD = 300  # small, so that every path is met often

Message = tuple[int, bytes, int, bytes, bytes]  # flags, topic, packet id, properties, payload


def packet(message: Message, *, mqtt5: bool) -> bytes:
    """Write a PUBLISH with any bytes as properties."""
    flags, topic, packet_id, properties, payload = message
    body = len(topic).to_bytes(2, "big") + topic
    if flags & 6:
        body += packet_id.to_bytes(2, "big")
    if mqtt5:
        body += header(0, len(properties))[1:] + properties
    return header(0x30 | flags, len(body) + len(payload)) + body + payload


def feed(framer: Framer, stream: bytes, cuts: Sequence[int]) -> tuple[Received, list[tuple[int, bytes]]]:
    """Feed a stream that is cut at the given places."""
    received, others = Received(), []
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in pairwise(places):
        others += framer.feed(stream[start:stop], received)
    return received, others


messages = st.tuples(
    st.sampled_from([0, 1, 8, 2, 3, 10, 11]),
    st.binary(max_size=200),
    st.integers(1, 65535),
    st.one_of(st.binary(max_size=10), st.binary(min_size=100, max_size=400)),
    st.one_of(st.binary(max_size=150), st.binary(min_size=MAX_PAYLOAD - 5, max_size=MAX_PAYLOAD + 2000)),
)
other_packets = st.tuples(st.sampled_from([0x20, 0x40, 0x90, 0xD0, 0xE0]), st.binary(max_size=400))


@given(
    packets=st.lists(st.one_of(messages, other_packets), max_size=12),
    cuts=st.lists(st.integers(0, 6000), max_size=40),
    mqtt5=st.booleans(),
)
def test_any_cut_gives_the_same_messages(packets: list[tuple], cuts: list[int], mqtt5: bool) -> None:  # noqa: FBT001
    """What was written is what is read: topics, payloads, flags, ids, sizes and sums, in order."""
    published = [entry for entry in packets if len(entry) > 2]
    stream = b"".join(
        packet(entry, mqtt5=mqtt5) if len(entry) > 2 else header(entry[0], len(entry[1])) + entry[1]
        for entry in packets
    )
    received, others = feed(Framer(MAX_PAYLOAD, mqtt5=mqtt5), stream, cuts)

    large = [len(payload) > MAX_PAYLOAD for *_, payload in published]
    assert received.topics == [topic for _, topic, *_ in published]
    assert received.flags == [flags for flags, *_ in published]
    assert received.packet_ids == [number if flags & 6 else 0 for flags, _, number, *_ in published]
    assert received.payloads == [
        entry[4][:KEPT_BYTES] if cut else entry[4] for entry, cut in zip(published, large, strict=True)
    ]
    assert received.truncated == {
        index: Truncated(len(entry[4]), sha256(entry[4]).hexdigest())
        for index, (entry, cut) in enumerate(zip(published, large, strict=True))
        if cut
    }
    assert others == [entry for entry in packets if len(entry) == 2]


@given(
    topic=st.text(min_size=1, max_size=30),
    payload=st.binary(max_size=MAX_PAYLOAD),
    qos=st.sampled_from([0, 1]),
    retain=st.booleans(),
    dup=st.booleans(),
    packet_id=st.integers(1, 65535),
    pairs=st.lists(st.tuples(st.text("abc", max_size=20), st.text("abc", max_size=20)), max_size=8),
    mqtt5=st.booleans(),
)
def test_reads_what_paho_reads(
    *,
    topic: str,
    payload: bytes,
    qos: int,
    retain: bool,
    dup: bool,
    packet_id: int,
    pairs: list[tuple[str, str]],
    mqtt5: bool,
) -> None:
    """For well-formed messages our framing and paho's decoder agree."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = pairs
    packed = properties.pack()
    _, skip = (len(packed) - 1, 1) if len(packed) < 129 else (len(packed) - 2, 2)
    flags = dup << 3 | qos << 1 | retain
    stream = packet((flags, topic.encode(), packet_id, packed[skip:], payload), mqtt5=mqtt5)

    received, _ = feed(Framer(MAX_PAYLOAD, mqtt5=mqtt5), stream, [])

    version = MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311
    body = stream[2:] if stream[1] < 128 else stream[3:]
    theirs = _packet.decode_publish(stream[0], body, version)
    assert (received.topics, received.payloads) == ([theirs.topic], [theirs.payload])
    assert received.packet_ids == [theirs.mid]
    assert received.flags == [theirs.dup << 3 | theirs.qos << 1 | theirs.retain]


@given(
    topic=st.binary(max_size=300),
    payload=st.binary(max_size=300),
    qos=st.sampled_from([0, 1]),
    packet_id=st.integers(1, 65535),
    mqtt5=st.booleans(),
)
def test_writes_what_it_reads(*, topic: bytes, payload: bytes, qos: int, packet_id: int, mqtt5: bool) -> None:
    """What `publish_frame` writes, the framer reads back."""
    frame = publish_frame(topic, payload, qos=qos, retain=True, dup=False, packet_id=packet_id, mqtt5=mqtt5)
    received, _ = feed(Framer(MAX_PAYLOAD, mqtt5=mqtt5), frame, [])
    assert (received.topics, received.payloads) == ([topic], [payload])
    assert (received.packet_ids, received.flags) == ([packet_id * qos], [qos << 1 | 1])


def test_acknowledgements_are_one_blob_in_order() -> None:
    """PUBACKs stand in arrival order, and messages at QoS 0 get none."""
    assert puback_frames([7, 0, 258]) == bytes.fromhex("4002 0007  4002 0102")


@pytest.mark.parametrize("qos", [0, 1])
def test_a_payload_of_255_mb_needs_no_memory(qos: int) -> None:
    """A huge payload streams by: counted, hashed, its first kilobyte kept, the next message untouched."""
    size, chunk = 255 << 20, bytes(1 << 20)  # a packet ends at 256 MB
    body = b"\0\1t" + (b"\0\5" if qos else b"") + b"\0"
    framer, received = Framer(65_536, mqtt5=True), Received()
    tracemalloc.start()
    framer.feed(header(0x30 | qos << 1, len(body) + size) + body, received)
    for _ in range(size >> 20):
        framer.feed(chunk, received)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    framer.feed(packet((0, b"t", 0, b"", b"next"), mqtt5=True), received)
    assert received.payloads == [bytes(KEPT_BYTES), b"next"]
    assert received.packet_ids == [5 * qos, 0]
    assert received.truncated[0].size == size
    assert peak < 4 << 20


def test_half_a_megabyte_of_properties_costs_nothing() -> None:
    """Properties are skipped while they stream: the payload after them arrives whole."""
    stream = packet((2, b"t", 9, b"\x26\0\0\0\0" * 100_000, b"payload"), mqtt5=True)
    tracemalloc.start()
    received, _ = feed(Framer(65_536, mqtt5=True), stream, range(1448, len(stream), 1448))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received.payloads == [b"payload"]
    assert peak < 100_000


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param("30 ffffffff01", id="length of five bytes"),
        pytest.param("30 03 0009 61", id="topic longer than its packet"),
        pytest.param("30 03 0009 61 30 30 30 30 30 30 30 30", id="topic reaches into the next packet"),
        pytest.param("32 04 0001 61 00", id="packet id cut short"),
        pytest.param("32 05 0001 61 0001", id="no length of properties"),
        pytest.param("30 05 0001 61 7f 00", id="properties longer than their packet"),
        pytest.param("30 08 0001 61 ffffffff 01", id="properties' length of five bytes"),
        pytest.param("36 06 0001 61 0001 00", id="QoS 3"),
        pytest.param("34 06 0001 61 0001 00", id="QoS 2"),
        pytest.param("36 ff7f 0001 61 0001 00", id="large with QoS 3"),
        pytest.param("30 ad02 0001 61 ffff7f" + "00" * 295, id="large with properties longer than it"),
        pytest.param("30 ad02 ffff" + "00" * 299, id="large with a topic longer than it"),
        pytest.param("30 01 00", id="one byte"),
        pytest.param("20 ffffff7f 00", id="login answer of 256 MB"),
    ],
)
def test_what_is_no_mqtt_is_refused(stream: str) -> None:
    """Garbage is an error, never a message, and never an endless wait for bytes; what came before is kept."""
    framer, received = Framer(MAX_PAYLOAD, mqtt5=True), Received()
    good = packet((0, b"t", 0, b"", b"good"), mqtt5=True)
    with pytest.raises(FrameError):
        framer.feed(good + bytes.fromhex(stream), received)
    assert received.payloads == [b"good"]


def test_other_packets_may_be_a_megabyte() -> None:
    """The limit for messages is not the limit for answers."""
    body = bytes(OTHER_LIMIT)
    _, others = feed(Framer(MAX_PAYLOAD, mqtt5=True), header(0x90, len(body)) + body, [5, 1000])
    assert others == [(0x90, body)]


@given(st.lists(st.binary(max_size=300), max_size=8), st.booleans())
def test_noise_is_a_message_or_a_frame_error(chunks: list[bytes], mqtt5: bool) -> None:  # noqa: FBT001
    """Whatever comes, nothing but FrameError is raised and the columns stay equally long."""
    framer, received = Framer(MAX_PAYLOAD, mqtt5=mqtt5), Received()
    try:
        for chunk in chunks:
            framer.feed(chunk, received)
    except FrameError:
        pass
    lengths = {len(received.topics), len(received.payloads), len(received.flags), len(received.packet_ids)}
    assert len(lengths) == 1


def test_what_comes_at_qos_1_can_be_kept_alone() -> None:
    """Without QoS 0 the columns still fit together, and a truncated payload keeps its place."""
    cut = Truncated(9, "0")
    received = Received(
        [b"a", b"b", b"c"], [b"1", b"2", b"3"], [0, 2, 3], [0, 7, 8], {0: cut, 2: cut}, epoch=4, arrival=5
    )
    assert received.without_qos0() == Received(
        [b"b", b"c"], [b"2", b"3"], [2, 3], [7, 8], {1: cut}, epoch=4, arrival=5
    )
