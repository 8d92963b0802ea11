"""Proof: no single message stops the service, however it is made; the next good one is scored.

A pill is legal MQTT that has stopped other consumers: properties that a client library cannot decode,
or decodes in quadratic time, topics of the greatest length, payloads of the greatest size.
"""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING

from tests.abuse.process import Abused, forget_peak, peak_mb, resident_mb
from tests.abuse.wire import Wire
from tests.faults.proof import Result
from tests.faults.runs import mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TOPIC = b"plant/n/pump-1/telemetry"
PATIENCE_S = 60.0
MOST_MB = 100.0
"""Bulk framing holds no payload above the limit."""
COPIES = 8
"""So many copies of one packet may exist when paho reads it whole; seven were seen. With MQTT 5 the broker is
told what we take, so none."""
LARGEST = 268_435_455
"""Bytes that a packet may have after its fixed header (MQTT 5, 2.1.4)."""
WAYS = tuple(product(("bulk", "stock"), ("5", "3.1.1")))


def prove(
    _forks: object,
    folder: Path,
    seed: int,
    payload_mb: int = 256,
    ways: Sequence[tuple[str, str]] = WAYS,
) -> Result:
    """Give every pill to services that receive in different ways."""
    del seed  # there is no chance in it
    problems, said = [], []
    with mosquitto(folder / "broker") as broker:
        for receive, protocol in ways:
            way = f"{receive} {protocol}"
            service = Abused(
                folder / f"{receive}-{protocol}",
                broker={"url": broker.url, "receive": receive, "protocol": protocol},
                streams={"pumps": {"topic": "plant/{site}/{device}/telemetry"}},
            )
            with service, Wire(broker.port, mqtt5=True) as wire:
                service.wait_ready()
                grown, endless = _swallow(service, wire, payload_mb)
                most = MOST_MB if receive == "bulk" else MOST_MB + COPIES * payload_mb
                if grown > most:
                    problems.append(f"{way}: memory grew by {grown:.0f} MB at its peak")
                if receive == "bulk" and endless > payload_mb / 2:
                    problems.append(f"{way}: the endless payload took {endless:.0f} MB, so it was held")
                if service.count("mqtt_reconnects_total"):
                    problems.append(f"{way}: the connection was lost")
                if errors := service.count("messages_rejected_total", reason="internal_error"):
                    problems.append(f"{way}: {errors:.0f} internal errors")
                if service.stop() != 0:
                    problems.append(f"{way}: it did not end in order")
                said.append(f"{way} +{grown:.0f} MB")
    return Result(
        "pills",
        f"{len(_pills(payload_mb))} poison pills, the largest {payload_mb} MB, each followed by a reading"
        f" that counts; peak memory: {', '.join(said)}",
        problems,
    )


def _swallow(service: Abused, wire: Wire, payload_mb: int) -> tuple[float, float]:
    """Send each pill with a good reading after it.

    Returns:
        By how much memory grew at most, over all pills and in the last one alone, MB.
    """
    assert service.process is not None
    pid = service.process.pid
    good = _good()
    wire.send([next(good)])
    service.wait_for_count("readings_accepted_total", 1)
    first = resident_mb(pid)
    peaks, before = [], first
    for number, send in enumerate(_pills(payload_mb).values(), 2):
        forget_peak(pid)
        before = resident_mb(pid)
        send(wire)
        wire.send([next(good)])
        service.wait_for_count("readings_accepted_total", number, PATIENCE_S)
        peaks.append(peak_mb(pid))
    return max(peaks) - first, peaks[-1] - before


def _pills(payload_mb: int) -> dict[str, Callable[[Wire], None]]:
    """Return what sends each pill; none of them holds a reading."""
    pair = b"\x26" + _text(b"key") + _text(b"v" * 62_000)
    piece = b" " * 1_000_000
    size = min(payload_mb * len(piece), LARGEST - 100) // len(piece)
    deep_topic = b"plant/" + b"x" * (65_535 - len(b"plant//pump-1/telemetry")) + b"/pump-1/telemetry"
    return {
        "a key of U+FEFF": lambda wire: wire.send_odd(TOPIC, b"\x26" + _text(b"\xef\xbb\xbf") + _text(b"v")),
        "500 kB of properties": lambda wire: wire.send_odd(TOPIC, pair * 8),
        "100,000 properties": lambda wire: wire.send_odd(TOPIC, b"\x26\0\0\0\0" * 100_000),
        "a flood of properties": _flood,
        "a topic of 64 kB": lambda wire: wire.send_odd(deep_topic, payload=b"x"),
        "a device of 60 kB": lambda wire: wire.send_odd(b"plant/n/" + b"x" * 60_000 + b"/telemetry"),
        "32,000 bad elements": lambda wire: wire.send_odd(TOPIC, payload=b"[" + b"0," * 32_000 + b"0]"),
        "20,000 open brackets": lambda wire: wire.send_odd(TOPIC, payload=b"[" * 20_000),
        "words on our own topic": _words,
        "an endless payload": lambda wire: wire.send_odd(TOPIC, b"\x26\0\0\0\0" * 20, piece, size),
    }


def _flood(wire: Wire) -> None:
    for _ in range(30):
        wire.send_odd(TOPIC, b"\x26\0\0\0\0" * 20_000)


def _words(wire: Wire) -> None:
    for payload in (
        b'"\xff"',
        b"[" * 30_000,
        b'{"instance": {"a": []}}',
        b'{"instance": "\\ud800\\n"}',
        b"{",
        b"",
    ):
        for topic in (b"stream_detector/info", b"stream_detector/status"):
            wire.send_odd(topic, payload=payload)


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _good() -> Iterator[tuple[bytes, bytes]]:
    ts = 1_700_000_000
    while True:
        ts += 1
        yield TOPIC, json.dumps({"ts": ts, "values": {"x": ts % 7}}).encode()
