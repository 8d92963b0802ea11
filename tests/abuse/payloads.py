"""What a broken, confused or hostile sender may send: good messages, spoilt in every way we know.

Most fuzzed payloads should almost be right, else they only ever test the first line of the decoder. So
each begins as a good message of one of the streams below, and a few changes are made to it: to the
content before it is encoded, or to the bytes after.
"""

from __future__ import annotations

import json
import random
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN = 1_600_000_000
"""Seconds since 1970 of the first reading: so far back that no clock of a test doubts it."""

STREAMS: dict[str, Any] = {
    "learned": {"topic": "plant/{site}/{device}/telemetry", "max_channels": 6, "publish_scores": True},
    "declared": {
        "topic": "line/{device}",
        "channels": {"x": {"min": -10, "max": 10}, "y": {"unit": "°C"}},
        "lateness_s": 30.0,
        "window": 16,
    },
    "mapped": {
        "topic": "rooms/{device}/status",
        "map": {"device": "who", "time": "sys.at", "seq": "sys.n", "values": {"x": "a.0.x", "y": "b.y"}},
        "retained": "use",
    },
    "flat": {"topic": "bulbs/{device}", "map": {"values": "."}, "silence": False},
    "coerced": {"topic": "cheap/{device}", "coerce": True, "stuck": False},
    "scalar": {"topic": "plain/{device}/{channel}", "format": "scalar"},
    "gateway": {"topic": "gateway/{gate}/up", "device": "{gate}:{device}", "durability": "checkpoint"},
}
"""Every format and mapping that there is, with names of devices from topics, from payloads and from both."""

NUMBERS = (
    *("0", "-0", "1", "-1.5", "1e308", "-1e308", "1.7976931348623157e308", "5e-324", "1e-400", "1e999"),
    *("-1e999", "9007199254740993", "9223372036854775807", "-9223372036854775808", "4611686018427387904"),
    *("4611686018427387905", "18446744073709551616", "9" * 400, "0." + "3" * 400, "1E+2", "NaN"),
    *(
        "Infinity",
        "-Infinity",
        "nan",
        "0x10",
        "01",
        "+1",
        "1.",
        ".5",
        "1_000",
        "\uff11",
        "true",
        "null",
        "--1",
    ),
    *('"1"', '"-0"', '"NaN"', '"1e999"', '"1_0"', '"\u0661"', "[]", "{}", "[1]", '{"x":1}', '""'),
)
TEXTS = (
    *("", "x", "y", "values", "a" * 128, "a" * 129, "a" * 5000, "a\u0000b", "a\nb", "\u202epump", "\ufeff"),
    *("\ud800", "\udfff\ud800", "\U0001f4a9", "e\u0301" * 60, "+", "#", "a/b", "$SYS", "../../etc/passwd"),
    *(
        "{device}",
        "{0.__class__}",
        "%s%n",
        "<script>",
        "' OR 1=1 --",
        "pump-1",
        "NaN",
        "2020-09-13T12:26:40Z",
    ),
    *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2020-09-13T12:26:60Z", "2020-09-13T12:26:40+99:99"),
    *("2020-09-13 12:26:40Z", "2020-09-13T12:26:40.123456789123Z", "\U0001d7d9", "\u00a0", "__proto__"),
)
ODD: tuple[Any, ...] = (
    *(0, -1, 1.5, 2**53 + 1, 2**63, -(2**63), 2**62 + 1, 10**30, 1e308, 1e15, -1e18),
    *(None, True, False, [], {}, [[]], {"": None}),
)
TOKENS = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u",
        b"\\ud83d",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xfe\xff",
        b"//",
        b"/**/",
        b"'",
        b"\x1f",
        b"\x7f",
        b"NaN",
        b"1e999",
        b'"ts":0,',
        b'"seq":null,',
    ),
)
DEVICES = 40
WEIRD_LEVELS = (
    "",
    " ",
    "a b",
    "K\u00fchlhaus",
    "\ufeff",
    "\u202e",
    "a" * 129,
    "a" * 300,
    "..",
    "%2F",
    "{device}",
    "\u6cf5",
)
"""Levels of a topic that a broker may deliver."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A message that may be anything.

    Attributes:
        topic: Where; a broker may refuse it where `Sender` was told so.
        payload: What.
        flags: As in the header of a PUBLISH.
        packet_id: 0 at QoS 0.
    """

    topic: bytes
    payload: bytes
    flags: int
    packet_id: int


class Sender:
    """Makes messages, seeded; about a quarter of them is good.

    Args:
        seed: The same seed makes the same messages.
        wire: Only topics that a broker takes, and flags as a sender sets them.
    """

    def __init__(self, seed: object, *, wire: bool = False) -> None:
        self._rng = random.Random(str(seed))  # noqa: S311 - it has to be repeatable, not secret
        self._wire = wire
        self._clock = 0
        self._sent: list[Spoilt] = []
        self._good = {
            "learned": self._learned,
            "declared": self._declared,
            "mapped": self._mapped,
            "flat": self._flat,
            "coerced": self._coerced,
            "scalar": self._scalar,
            "gateway": self._gateway,
        }
        self._spoil_bytes: tuple[Callable[[bytes], bytes], ...] = (
            self._flip,
            self._flip,
            self._cut,
            self._truncate,
            self._repeat,
            self._nest,
            self._insert,
            self._insert,
            self._splice,
            self._swap_number,
            self._swap_number,
            self._other_encoding,
            self._other_bytes,
        )

    def messages(self, count: int) -> Iterator[Spoilt]:
        """Yield so many messages."""
        for _ in range(count):
            yield self._message()

    def _message(self) -> Spoilt:
        rng = self._rng
        if self._sent and rng.random() < 0.04:
            return self._again(rng.choice(self._sent))
        stream = rng.choice(tuple(self._good))
        said, content = self._good[stream]()
        payload = self._spoilt(content) if rng.random() < 0.6 else self._encode(content)
        topic = self._other_topic(said) if rng.random() < 0.08 else said.encode()
        qos = rng.random() < 0.7
        flags = (qos << 1) | (not self._wire and rng.random() < 0.03)
        message = Spoilt(topic, payload, flags, rng.randint(1, 65_535) if qos else 0)
        self._sent.append(message)
        if len(self._sent) > 2000:
            del self._sent[:1000]
        return message

    def _again(self, message: Spoilt) -> Spoilt:
        """Return a message once more: as the broker repeats it, or as a sender does."""
        if self._wire or not message.packet_id or self._rng.random() < 0.3:
            return message
        return Spoilt(message.topic, message.payload, message.flags | 8, message.packet_id)

    # -- what is good ---------------------------------------------------------------------------

    def _device(self) -> str:
        return f"pump-{int(self._rng.random() ** 2 * DEVICES)}"

    def _time(self) -> Any:
        """Return a time, mostly a little later than the one before, in any way to write one."""
        rng = self._rng
        self._clock += rng.choice((0, 1, 1, 1, 1, 5, -20))
        at = BEGIN + self._clock
        how = rng.random()
        if how < 0.5:
            return at
        if how < 0.7:
            return at * 1000 + 7
        return datetime.fromtimestamp(at, UTC).isoformat()

    def _number(self) -> float:
        rng = self._rng
        return round(rng.gauss(3, 1), 3) if rng.random() < 0.97 else rng.choice((1e9, -1e300, 1e308, 5e-324))

    def _reading(self, **more: Any) -> dict[str, Any]:
        rng = self._rng
        names = ("x", "y", "z", "vibration", "temp_c") if rng.random() < 0.1 else ("x", "y")
        values = {name: self._number() for name in names}
        reading: dict[str, Any] = {"values": values, **more}
        if rng.random() < 0.8:
            reading["ts"] = self._time()
        if rng.random() < 0.4:
            reading["seq"] = rng.choice((self._clock, self._clock, 2**62, -(2**62), 0))
        return reading

    def _some(self, one: Callable[[], Any]) -> Any:
        """Return one reading, or a list of them."""
        if self._rng.random() < 0.85:
            return one()
        return [one() for _ in range(self._rng.choice((1, 2, 5, 40)))]

    def _learned(self) -> tuple[str, Any]:
        return f"plant/n/{self._device()}/telemetry", self._some(self._reading)

    def _declared(self) -> tuple[str, Any]:
        return f"line/{self._device()}", self._some(self._reading)

    def _mapped(self) -> tuple[str, Any]:
        device = self._device()

        def one() -> dict[str, Any]:
            return {
                "who": device,
                "sys": {"at": self._time(), "n": self._clock},
                "a": [{"x": self._number()}],
                "b": {"y": self._number(), "unit": "W"},
            }

        return f"rooms/{device}/status", self._some(one)

    def _flat(self) -> tuple[str, Any]:
        return f"bulbs/{self._device()}", {
            "x": self._number(),
            "y": self._number(),
            "on": True,
            "name": "bulb",
        }

    def _coerced(self) -> tuple[str, Any]:
        def one() -> dict[str, Any]:
            reading = self._reading()
            reading["values"] |= {"x": str(self._number()), "on": self._rng.random() < 0.5}
            return reading

        return f"cheap/{self._device()}", self._some(one)

    def _scalar(self) -> tuple[str, Any]:
        return f"plain/{self._device()}/{self._rng.choice('xyz')}", self._number()

    def _gateway(self) -> tuple[str, Any]:
        device = self._device()
        return f"gateway/g{self._rng.randrange(3)}/up", self._some(lambda: self._reading(device_id=device))

    # -- how it is spoilt -----------------------------------------------------------------------

    def _encode(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=self._rng.random() < 0.5).encode("utf-8", "surrogatepass")

    def _spoilt(self, content: Any) -> bytes:
        rng = self._rng
        if rng.random() < 0.5:
            for _ in range(rng.choice((1, 1, 2, 4))):
                content = self._spoil_content(content)
            payload = self._encode(content)
            if rng.random() < 0.7:
                return payload
        else:
            payload = self._encode(content)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            payload = rng.choice(self._spoil_bytes)(payload)
        return payload

    def _spoil_content(self, content: Any) -> Any:
        """Return content with one thing changed, somewhere in the tree."""
        rng = self._rng
        if isinstance(content, dict) and content and rng.random() < 0.8:
            key = rng.choice(tuple(content))
            how = rng.random()
            if how < 0.6:
                content[key] = self._spoil_content(content[key])
            elif how < 0.7:
                del content[key]
            elif how < 0.85:
                content[rng.choice(TEXTS)] = content.pop(key)
            else:
                name = rng.choice(TEXTS)[:200]
                content |= {f"{name}{k}": self._number() for k in range(rng.choice((1, 5, 100)))}
            return content
        if isinstance(content, list) and content and rng.random() < 0.8:
            place = rng.randrange(len(content))
            content[place] = self._spoil_content(content[place])
            return content
        return self._anything(content)

    def _anything(self, content: Any) -> Any:
        rng = self._rng
        how = rng.random()
        if how < 0.3:
            return rng.choice(TEXTS)
        if how < 0.6:
            return deepcopy(rng.choice(ODD))
        if how < 0.8:
            return rng.choice(([content], {"values": content}, [content, None, content]))
        for _ in range(rng.choice((1, 3, 40))):
            content = [content] if rng.random() < 0.5 else {"a": content}
        return content

    def _place(self, payload: bytes) -> int:
        return self._rng.randrange(len(payload) + 1)

    def _flip(self, payload: bytes) -> bytes:
        if not payload:
            return b"\x80"
        place = self._rng.randrange(len(payload))
        changed = payload[place] ^ (1 << self._rng.randrange(8))
        return payload[:place] + bytes([changed]) + payload[place + 1 :]

    def _cut(self, payload: bytes) -> bytes:
        begin = self._place(payload)
        return payload[:begin] + payload[begin + self._rng.choice((1, 2, 10)) :]

    def _truncate(self, payload: bytes) -> bytes:
        return payload[: self._place(payload)]

    def _repeat(self, payload: bytes) -> bytes:
        """Say a part many times: keys stand twice, brackets open again and again."""
        rng, begin = self._rng, self._place(payload)
        part = payload[begin : begin + rng.choice((1, 5, 30))]
        most = max(1, 70_000 // max(1, len(part)))
        return (
            payload[:begin]
            + part * min(most, rng.choice((2, 2, 2, 10, 10, 10, 300, 70_000 if rng.random() < 0.1 else 30)))
            + payload[begin:]
        )

    def _nest(self, payload: bytes) -> bytes:
        depth = self._rng.choice((1, 2, 100, 1100, 30_000 if self._rng.random() < 0.1 else 3))
        opening, closing = self._rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"values":', b"}")))
        begin = self._place(payload)
        return payload[:begin] + opening * depth + payload[begin:] + closing * depth

    def _insert(self, payload: bytes) -> bytes:
        place = self._place(payload)
        return payload[:place] + self._rng.choice(TOKENS) + payload[place:]

    def _splice(self, payload: bytes) -> bytes:
        other = self._rng.choice(self._sent).payload if self._sent else b"[]"
        return payload[: self._place(payload)] + other[self._place(other) :]

    def _swap_number(self, payload: bytes) -> bytes:
        """Put another number in the place of one, or of the bytes after a colon."""
        begin = payload.find(b":", self._place(payload)) + 1
        stop = begin
        while stop < len(payload) and payload[stop] in b" -+.0123456789eE":
            stop += 1
        return payload[:begin] + self._rng.choice(NUMBERS).encode() + payload[stop:]

    def _other_encoding(self, payload: bytes) -> bytes:
        text = payload.decode("latin-1")
        return text.encode(self._rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-8")))

    def _other_bytes(self, payload: bytes) -> bytes:
        rng = self._rng
        size = rng.choice((0, 1, 2, 20, 200, 66_000 if rng.random() < 0.05 else 300))
        return rng.choice((rng.randbytes(size), b" " * size, b"\0" * size, payload + b"\n" * size))

    def _other_topic(self, topic: str) -> bytes:
        """Return a topic with an unusual level, of nobody, or (where a broker would not have it) no text."""
        rng = self._rng
        levels = topic.split("/")
        how = rng.random()
        if how < 0.6:
            levels[rng.randrange(len(levels))] = rng.choice(WEIRD_LEVELS)
        elif how < 0.8:
            levels.insert(rng.randrange(len(levels) + 1), rng.choice(WEIRD_LEVELS))
        elif how < 0.9 or self._wire:
            levels = rng.choice(
                (["nobody", "listens"], ["stream_detector", "info"], ["stream_detector", "alert", "x"], [""])
            )
        else:
            return rng.choice(
                (b"", b"\xff/x", b"line/\xed\xa0\x80", b"line/\0", b"line/+", b"$SYS/x", b"line/\x1b[2J")
            )
        return "/".join(levels).encode() or b"/"
