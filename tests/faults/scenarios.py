"""What the devices of a proof say: seeded, so that the same seed gives the same scenario.

Twenty devices of two streams measure, and now and then something is wrong with one of them: a spike,
a value beyond its range, a value that does not move. Readings come alone and in lists, whole and in
part, and a few messages are no JSON at all. `Mode` is how a reading says which one it is.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Mode = Literal["seq", "ts", "neither"]
"""By time and number (several at one time), by time alone, or not at all: then the arrival is the time."""
MODES: tuple[Mode, ...] = get_args(Mode)

BEGIN = datetime(2025, 6, 1, tzinfo=UTC)
MODEL = "light"
"""It raises at each new extreme: the more alerts, the more a proof can find."""
STREAMS: dict[str, Any] = {
    "pumps": {
        "topic": "plant/{site}/{device}/telemetry",
        "channels": {
            "vibration": {"unit": "mm/s", "min": 0, "max": 100},
            "temperature": {"min": -40, "max": 90},
        },
        "model": MODEL,
    },
    "fans": {"topic": "hall/{device}", "model": MODEL},
}
DEVICES = 20
LISTS = 0.1
PARTIAL = 0.05
GARBAGE = 0.002
LENGTHS = {"": (10, 40), "spike": (1, 3), "beyond": (1, 15), "stuck": (90, 130)}
"""Of a stretch in which all is well, or not, in readings."""
SENTINEL = "plant/north/sentinel/telemetry"


def seeded(*parts: object) -> random.Random:
    """Return a generator that depends on nothing but these parts."""
    return random.Random("/".join(map(str, parts)))  # noqa: S311 - it has to be repeatable, not secret


def streams(mode: Mode, changed: Mapping[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the section `streams` of the configuration.

    Silence is left to a proof of its own. Where arrivals are the times, an update of an alert would
    depend on how fast the proof runs.

    Args:
        mode: Of the scenario.
        changed: Stream -> other settings.
    """
    alerts = {"update_every_s": 86_400} if mode == "neither" else {}
    return {
        name: {**stream, "silence": False, "alerts": alerts, **(changed or {}).get(name, {})}
        for name, stream in STREAMS.items()
    }


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the scenario.

    Attributes:
        topic: Where.
        payload: What.
        stream: Of the device.
        device: Who; empty for garbage.
        readings: In the payload.
    """

    topic: str
    payload: bytes
    stream: str
    device: str
    readings: int


@dataclass(slots=True)
class Device:
    """One device: what it will measure next.

    An episode is a stretch in which something is wrong; `left` readings of it are to come.
    """

    number: int
    mode: Mode
    chance: random.Random
    said: int = 0
    level: float = 0.0
    episode: str = "switched on"
    left: int = 0
    held: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose what is usual for this device."""
        self.level = self.chance.uniform(10.0, 40.0)

    @property
    def stream(self) -> str:
        """The stream that it belongs to."""
        return "pumps" if self.number % 2 == 0 else "fans"

    @property
    def name(self) -> str:
        """Its name."""
        return f"{self.stream[:-1]}-{self.number}"

    @property
    def topic(self) -> str:
        """Where it publishes."""
        return f"plant/north/{self.name}/telemetry" if self.stream == "pumps" else f"hall/{self.name}"

    def reading(self) -> dict[str, Any]:
        """Return the next reading."""
        if not self.left:
            self._next_episode()
        self.left -= 1
        found: dict[str, Any] = {"values": self._values()}
        number, self.said = self.said, self.said + 1
        if self.mode == "ts":
            found["ts"] = _instant(number)
        elif self.mode == "seq":
            found |= {"ts": _instant(number // 3), "seq": number}
        elif self.number % 3 == 0:  # a number without a time identifies nothing: sensors begin again at 0
            found["seq"] = number % 50
        return found

    def _next_episode(self) -> None:
        self.episode = "" if self.episode else self.chance.choice(["spike", "beyond", "beyond", "stuck"])
        self.left = self.chance.randint(*LENGTHS[self.episode])
        self.held = self._usual()

    def _values(self) -> dict[str, float]:
        values = dict(self.held) if self.episode == "stuck" else self._usual()
        if self.episode == "spike":
            values["vibration"] = round(values["vibration"] + self.chance.uniform(40.0, 55.0), 3)
        elif self.episode == "beyond":
            values["vibration"] = round(self.chance.uniform(101.0, 180.0), 3)
        elif self.chance.random() < PARTIAL:
            del values[self.chance.choice(sorted(values))]
        return values

    def _usual(self) -> dict[str, float]:
        values = {
            "vibration": round(self.level + self.chance.gauss(0.0, 1.5), 3),
            "temperature": round(41.0 + self.chance.gauss(0.0, 0.4), 2),
        }
        if self.stream == "fans" and self.said > 60:  # a channel that appears while all runs
            values["current"] = round(5.0 + self.chance.gauss(0.0, 0.1), 3)
        return values


def scenario(seed: object, mode: Mode, readings: int, devices: int = DEVICES) -> Iterator[Message]:
    """Yield messages with so many readings in all, of devices in turns that chance gives."""
    chance = seeded(seed, mode, "story")
    fleet = [Device(number, mode, seeded(seed, mode, number)) for number in range(devices)]
    made = 0
    while made < readings:
        device = chance.choice(fleet)
        if chance.random() < GARBAGE:
            yield Message(device.topic, b'{"values": %d' % made, device.stream, "", 0)
        count = min(chance.randint(2, 6), readings - made) if chance.random() < LISTS else 1
        elements = [device.reading() for _ in range(count)]
        content = elements if count > 1 else elements[0]
        made += count
        yield Message(device.topic, json.dumps(content).encode(), device.stream, device.name, count)


def last_word(mode: Mode) -> Message:
    """Return the reading whose alert says that all before it are taken in and published: it is out of range.

    Messages keep their order on the way in, alerts on the way out.
    """
    content: dict[str, Any] = {"values": {"vibration": 1000.0}}
    if mode != "neither":
        content["ts"] = _instant(0)
    return Message(SENTINEL, json.dumps(content).encode(), "pumps", "sentinel", 1)


def _instant(number: int) -> str:
    return (BEGIN + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
