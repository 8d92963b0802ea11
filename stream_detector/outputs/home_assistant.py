"""Home Assistant: each device of ours becomes one of its devices, by MQTT discovery.

What Home Assistant is to know of a device is one retained message, always the same one, so it can be
sent again whenever somebody may have missed it: when a device shows up, at every start, and when Home
Assistant says that it has started. That is why announcements do not go through the outbox. Taking a
device out again is different: nobody but us knows that it was ever there. So what may still stand at the
broker is kept as a small fact, until it has been taken out.

The fields are those that Home Assistant documents for device discovery; a test checks each message
against them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector import __version__
from stream_detector.core.events import STATES, DeviceForgotten, DeviceStateChanged
from stream_detector.outputs.messages import Publication, encode_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from stream_detector.core.events import Event, Outcome
    from stream_detector.core.records import Readings
    from stream_detector.outputs.settings import HomeAssistantSettings

A_TURN = 50
"""So many devices are announced at once: fifty thousand shall not hold up an alert."""
SCORE_EVERY = 30_000_000
"""A score is published at most so often, µs of arrival: Home Assistant records every one."""
AVAILABILITY = "{{ 'online' if value == 'online' else 'offline' }}"
"""`stopped` is offline, too."""
PROBLEM = "{{ 'ON' if value_json.active_count > 0 else 'OFF' }}"


class Announced(msgspec.Struct, frozen=True):
    """Under which topics devices were announced, and of which streams; kept over restarts."""

    prefix: str
    base: str
    streams: tuple[str, ...]
    scores: tuple[tuple[str, str], ...] = ()

    def covers(self, stream: str, former: Announced) -> bool:
        """Return whether the devices of a stream stand where a former configuration has put them."""
        return (self.prefix, self.base) == (former.prefix, former.base) and stream in self.streams


def identity(base: str, stream: str, device: str) -> str:
    """Return the id of a device, the same for ever.

    Example:
        >>> identity("stream_detector", "pumps", "pump-1")
        'sd_b9d1e0c3c91742d5'
    """
    digest = hashlib.blake2b(f"{base}\0{stream}\0{device}".encode(), digest_size=8)
    return f"sd_{digest.hexdigest()}"


def config_topic(announced: Announced, stream: str, device: str) -> str:
    """Return where the configuration of a device stands."""
    return f"{announced.prefix}/device/{identity(announced.base, stream, device)}/config"


def removal(announced: Announced, stream: str, device: str) -> Publication:
    """Return what takes a device out of Home Assistant."""
    return Publication(config_topic(announced, stream, device), b"", retain=True)


def announcement(
    announced: Announced, stream: str, device: str, tags: Mapping[str, str], *, ends_score: bool = False
) -> Publication:
    """Return what introduces a device.

    Args:
        announced: Under which topics.
        stream: Its stream.
        device: Its name.
        tags: Other captures of its topic; `area` or `site` is suggested as its area.
        ends_score: It had a score sensor, which goes: a component with nothing but its platform.
    """
    name = identity(announced.base, stream, device)
    components = _components(announced, name, stream, device)
    if ends_score:
        components["score"] = {"platform": "sensor"}
    content = {
        "device": _device(name, stream, device, tags),
        "origin": {"name": "stream_detector", "sw_version": __version__},
        "availability_topic": f"{announced.base}/status",
        "availability_template": AVAILABILITY,
        "payload_available": "online",
        "payload_not_available": "offline",
        "qos": 1,
        "components": components,
    }
    return Publication(config_topic(announced, stream, device), msgspec.json.encode(content), retain=True)


def _device(name: str, stream: str, device: str, tags: Mapping[str, str]) -> dict[str, Any]:
    about = {
        "identifiers": [name],
        "name": device,
        "manufacturer": "stream_detector",
        "model": stream,
        "sw_version": __version__,
    }
    area = tags.get("area") or tags.get("site")
    return {**about, "suggested_area": area} if area else about


def _components(announced: Announced, name: str, stream: str, device: str) -> dict[str, dict[str, Any]]:
    at = f"{encode_name(stream)}/{encode_name(device)}"
    state_topic = f"{announced.base}/state/{at}"
    place = f"{slug(stream) or 'stream'}_{slug(device) or name}"

    def entity(platform: str, what: str, topic: str, template: str) -> dict[str, Any]:
        return {
            "platform": platform,
            "unique_id": f"{name}_{what}",
            "default_entity_id": f"{platform}.{place}_{what}",
            "name": what.capitalize(),
            "state_topic": topic,
            "value_template": template,
        }

    found = {
        "problem": {
            **entity("binary_sensor", "problem", state_topic, PROBLEM),
            "device_class": "problem",
            "json_attributes_topic": state_topic,
        },
        "state": {
            **entity("sensor", "state", state_topic, "{{ value_json.state }}"),
            "device_class": "enum",
            "options": list(STATES),
            "entity_category": "diagnostic",
        },
    }
    if (stream, device) in announced.scores:
        found["score"] = {
            **entity("sensor", "score", f"{announced.base}/score/{at}", "{{ value_json.score }}"),
            "state_class": "measurement",
            "suggested_display_precision": 2,
        }
    return found


def slug(text: str) -> str:
    """Return a text as part of an entity id; empty where it has no letter or digit that can stand there.

    Example:
        >>> slug("Kühlhaus 3/a"), slug("泵")
        ('kuhlhaus_3_a', '')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")


class HomeAssistant:
    """What Home Assistant gets, a few devices at a time.

    Args:
        settings: The section.
        base: All our topics stand below it.
        streams: Names of all streams.
        known: Yields all known devices of a stream with their tags; None now and then, for a pause.

    Attributes:
        formerly: What may still stand at the broker although it is not wanted any more.
    """

    def __init__(
        self,
        settings: HomeAssistantSettings,
        base: str,
        streams: Iterable[str],
        known: Callable[[str], Iterator[tuple[str, Mapping[str, str]] | None]],
    ) -> None:
        self._settings = settings
        self._known = known
        self._now: Announced | None = None
        self._next_score: dict[tuple[str, str], int] = {}
        if settings.enabled:
            scores = [each.partition("/") for each in settings.score_devices]
            self._now = Announced(
                settings.prefix,
                base,
                tuple(sorted(streams if settings.streams is None else settings.streams)),
                tuple(sorted((stream, device) for stream, _, device in scores)),
            )
            self._next_score = dict.fromkeys(self._now.scores, 0)
        self._scored_streams = {stream for stream, _ in self._next_score}
        self.formerly: list[Announced] = []
        self._new: dict[tuple[str, str], Mapping[str, str]] = {}
        self._walk: Iterator[Sequence[Publication]] | None = None
        self._again = False

    def begin(self, fact: object) -> None:
        """Announce everybody, and take out what is not wanted any more.

        Args:
            fact: What `fact` was the last time; None: there was none.
        """
        before = msgspec.convert(fact or [], list[Announced])
        self.formerly = [each for each in before if each != self._now]
        self._new.clear()
        self._again = False
        self._walk = self._everything()

    @property
    def fact(self) -> list[object]:
        """Return what has to be known after a restart: all that may stand at the broker."""
        return [msgspec.to_builtins(each) for each in self._all()]

    def event(self, event: Event) -> None:
        """Take in what happened: a device with its first state is announced."""
        match event:
            case DeviceStateChanged(previous=None) if self._now and event.stream in self._now.streams:
                self._new[event.stream, event.device] = event.tags
            case DeviceForgotten():
                self._new.pop((event.stream, event.device), None)

    def removals(self, event: Event) -> list[Publication]:
        """Return what takes a device out that is forgotten; it has to survive a crash."""
        if not isinstance(event, DeviceForgotten):
            return []
        return [
            removal(each, event.stream, event.device) for each in self._all() if event.stream in each.streams
        ]

    def listen(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Take in what came: when Home Assistant has started, it wants to hear of everybody."""
        for topic, payload in messages:
            if topic in self._settings.filters and payload == b"online":
                self.once_more()

    def once_more(self) -> None:
        """Announce everybody again, after the walk that is on its way."""
        if self._walk is None:
            self._walk = self._everything()
        else:  # who asks again and again would else let nobody but the first be announced
            self._again = True

    def sampled(self, readings: Readings, outcome: Outcome) -> list[tuple[int, float]]:
        """Return place and score of the readings whose score Home Assistant gets: seldom one."""
        if readings.stream not in self._scored_streams:
            return []
        newest: dict[str, tuple[int, float]] = {}
        for place, score in zip(outcome.scored.tolist(), outcome.scores.tolist(), strict=True):
            if (readings.stream, readings.devices[place]) in self._next_score:
                newest[readings.devices[place]] = place, score
        due = []
        for device, (place, score) in newest.items():
            arrival = int(readings.arrival[place])
            if arrival >= self._next_score[readings.stream, device]:
                self._next_score[readings.stream, device] = arrival + SCORE_EVERY
                due.append((place, score))
        return due

    @property
    def done(self) -> bool:
        """Whether `take` has nothing more to give now."""
        return self._walk is None and not self._new

    def take(self) -> list[Publication]:
        """Return what is to be published next, of about fifty devices."""
        found: list[Publication] = []
        while self._new and self._now and len(found) < A_TURN:
            (stream, device), tags = self._new.popitem()
            found.append(announcement(self._now, stream, device, tags))
        while self._walk is not None and len(found) < A_TURN:
            step = next(self._walk, None)
            if step is None:
                self._walk = self._everything() if self._again else None
                self._again = False
            elif not step:
                break
            else:
                found += step
        return found

    def _all(self) -> list[Announced]:
        return [*self.formerly, *([self._now] if self._now else [])]

    def _everything(self) -> Iterator[Sequence[Publication]]:
        """Yield what is to be said of each device; nothing for a pause."""
        for former in self.formerly:
            for stream in former.streams:
                if self._now is not None and self._now.covers(stream, former):
                    continue
                for each in self._known(stream):
                    yield [removal(former, stream, each[0])] if each else []
        if self._now is None:
            return
        had_score = {
            each
            for former in self.formerly
            for each in former.scores
            if self._now.covers(each[0], former) and each not in self._now.scores
        }
        for stream in self._now.streams:
            for each in self._known(stream):
                if each is None:
                    yield []
                    continue
                device, tags = each
                # The score sensor is taken out first, then left out, as Home Assistant wants it.
                steps = (True, False) if (stream, device) in had_score else (False,)
                yield [announcement(self._now, stream, device, tags, ends_score=step) for step in steps]
