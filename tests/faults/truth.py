"""What should come out: the same messages through the same code, with nothing in between that can fail.

`uninterrupted` knows no socket, no disk and no second try. `Found` is what a run, with or without
faults, has come to; `judge` says how two of them differ, in words.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stream_detector.outputs.messages import timestamp
from stream_detector.service.decision import Decision
from stream_detector.service.engine import offline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.devices.snapshot import DeviceState
    from stream_detector.detectors.pyod import FittedModel
    from stream_detector.settings import Settings
    from tests.faults.scenarios import Message, Mode

BATCH = 200
FIRST_ARRIVAL = 1_790_000_000_000_000
SPENT = ("received_at", "processing_ms")
"""Fields of an alert that say when and how long, not what."""
BY_ARRIVAL = {
    *("heard", "unheard", "cadence", "arrivals", "allowed", "recent", "aged", "weights"),
    *("events_since", "events"),
}
"""Cells that say when a device was heard, and how much it said lately, by the service's clock."""
BY_TIME = {"newest", "identities", "identity_ts", "forgotten", "last_ts", "interval", "since", "channels"}
"""Cells that say when a reading was taken, by its own time, which may be its arrival."""
SHOWN = 5

Key = tuple[str, str]
"""Stream and device."""


@dataclass(slots=True)
class Found:
    """What a run has come to.

    Attributes:
        alerts: (id, seq) -> the event, without `SPENT`; in the order of telling.
        refused: sha256 of what came as dead letters -> why, and its topic.
        devices: (stream, device) -> its cells by name.
        open: (id, seq) of the alerts that are open at the end.
        states: (stream, device) -> what was said last of it.
    """

    alerts: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    devices: dict[Key, dict[str, NDArray[Any]]] = field(default_factory=dict)
    open: set[tuple[str, int]] = field(default_factory=set)
    states: dict[Key, dict[str, Any]] = field(default_factory=dict)

    def published(self) -> dict[Key, list[tuple[str, str]]]:
        """Return (kind, event) of each device's alerts, in order."""
        found: dict[Key, list[tuple[str, str]]] = defaultdict(list)
        for alert in self.alerts.values():
            found[alert["stream"], alert["device"]].append((alert["kind"], alert["event"]))
        return dict(found)

    def add_alert(self, alert: Mapping[str, Any], ignore: Sequence[str] = ()) -> None:
        """Take an event in as it was published."""
        content = {name: value for name, value in alert.items() if name not in {*SPENT, *ignore}}
        self.alerts[alert["id"], alert["seq"]] = content


def cells(state: DeviceState) -> dict[str, NDArray[Any]]:
    """Return what the bytes of a row mean."""
    found, begin = {}, 0
    for cell in state.layout.cells:
        dtype = np.dtype(cell.dtype)
        size = dtype.itemsize * int(np.prod(cell.shape, dtype=np.int64))
        found[cell.name] = np.frombuffer(state.row[begin : begin + size], dtype).reshape(cell.shape)
        begin += size
    assert begin == len(state.row), f"the row of {state.device} has {len(state.row)} bytes, not {begin}"
    return found


def uninterrupted(
    settings: Settings,
    messages: Iterable[Message],
    ignore: Sequence[str] = (),
    models: Mapping[str, FittedModel] | None = None,
) -> Found:
    """Return what the messages come to when nothing fails.

    Args:
        settings: The configuration.
        messages: In the order of publishing.
        ignore: Fields of alerts that are left out.
        models: Stream -> bundle that scores it; all others are scored by the built-in detector.
    """
    found = Found()
    now = FIRST_ARRIVAL
    engine = offline(settings, lambda: now)
    processing = engine.processing
    for name, stream in settings.streams.items():
        model = (models or {}).get(name, stream.model)
        processing.record(Decision(), engine.models.record(now, name, "live", model))
    waiting = list(messages)
    for start in range(0, len(waiting), BATCH):
        part = waiting[start : start + BATCH]
        now += 1_000_000
        decision = Decision()
        taken = processing.messages(
            decision,
            [message.topic.encode() for message in part],
            [message.payload for message in part],
            [0] * len(part),
            now,
        )
        found.refused |= {event.sha256: f"{event.reason} on {event.topic}" for event in taken.rejected}
        for _, publication in decision.publications:
            content = json.loads(publication.payload)
            if "/alert/" in publication.topic:
                found.add_alert(content, ignore)
            elif "/state/" in publication.topic:
                found.states[content["stream"], content["device"]] = content
    for name, stream in engine.memory.streams.items():
        for device, slot in stream.devices.slot_of.items():
            found.devices[name, device] = cells(stream.state_of(slot))
        found.open |= {(alert.id, alert.seq) for alert in stream.open_alerts()}
    return found


def sent(messages: Iterable[Message]) -> Counter[Key]:
    """Return how many readings each device has published."""
    counts: Counter[Key] = Counter()
    for message in messages:
        if message.readings:
            counts[message.stream, message.device] += message.readings
    return counts


@dataclass(slots=True)
class Verdict:
    """How a run differs from what should have come out.

    Attributes:
        lost: Readings that are in no window.
        twice: Readings that were counted more than once.
        alerts: Events that came as they should.
        of_alerts: Events that should have come.
        windows: Devices whose cells are equal, bit by bit.
        of_windows: Devices.
        problems: Sentences; none: all is as it should be.
    """

    lost: int = 0
    twice: int = 0
    alerts: int = 0
    of_alerts: int = 0
    windows: int = 0
    of_windows: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the figures."""
        return (
            f"{self.lost} lost, {self.twice} twice, {self.alerts:,}/{self.of_alerts:,} alerts,"
            f" {self.windows}/{self.of_windows} windows equal"
        )

    def __iadd__(self, other: Verdict) -> Self:
        """Add the figures of another run."""
        for name in ("lost", "twice", "alerts", "of_alerts", "windows", "of_windows", "problems"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


def attempt(run: Callable[[], Verdict], name: str) -> Verdict:
    """Return what a run came to; one that did not come to its end is a problem, not the end of the proof."""
    try:
        verdict = run()
    except AssertionError as error:
        return Verdict(problems=[f"{name}: {error}"])
    verdict.problems = [f"{name}: {problem}" for problem in verdict.problems]
    return verdict


def judge(found: Found, expected: Found, counts: Mapping[Key, int], mode: Mode) -> Verdict:
    """Compare a run with what should have come out."""
    verdict = Verdict()
    _judge_counts(found, counts, verdict)
    _judge_windows(found, expected, BY_ARRIVAL | (BY_TIME if mode == "neither" else set()), verdict)
    if mode == "neither":
        _judge_order(found, expected, verdict)
    else:
        _judge_alerts(found, expected, verdict)
        if found.open != expected.open:
            verdict.problems.append(f"open at the end: {found.open ^ expected.open} in only one of the two")
    _judge_states(found, expected, mode, verdict)
    for which, these, those in (("missing", expected, found), ("wrong", found, expected)):
        for sha256 in these.refused.keys() - those.refused.keys():
            verdict.problems.append(f"a dead letter is {which}: {these.refused[sha256]}")
    return verdict


def _judge_counts(found: Found, counts: Mapping[Key, int], verdict: Verdict) -> None:
    for key, count in counts.items():
        accepted = int(found.devices[key]["accepted"]) if key in found.devices else 0
        verdict.lost += max(0, count - accepted)
        verdict.twice += max(0, accepted - count)
        if accepted != count:
            verdict.problems.append(f"{'/'.join(key)}: {accepted} readings in its window, {count} sent")


def _judge_windows(found: Found, expected: Found, but: set[str], verdict: Verdict) -> None:
    verdict.of_windows = len(expected.devices)
    for key, wanted in expected.devices.items():
        here = found.devices.get(key, {})
        wrong = [
            name
            for name in sorted(wanted.keys() - but)
            if name not in here or here[name].tobytes() != wanted[name].tobytes()
        ]
        verdict.windows += not wrong
        if wrong:
            verdict.problems.append(f"{'/'.join(key)}: other cells in {', '.join(wrong[:SHOWN])}")
    if more := found.devices.keys() - expected.devices.keys():
        verdict.problems.append(f"devices that should not be: {sorted(more)[:SHOWN]}")


def _judge_states(found: Found, expected: Found, mode: Mode, verdict: Verdict) -> None:
    """Compare what was said last of each device, which the broker keeps for those who come later.

    A login with a new session publishes all states once more, as of each device's newest reading then:
    their `updated_at` lies between that of the last change and the newest reading at the end.
    """
    but = {"updated_at", "active"} if mode == "neither" else set()
    for key, wanted in expected.states.items():
        here = found.states.get(key, {})
        other = [name for name in wanted.keys() - but if here.get(name) != wanted[name]]
        newest = timestamp(int(expected.devices[key]["newest"])) if key in expected.devices else ""
        if other == ["updated_at"] and wanted["updated_at"] <= here["updated_at"] <= newest:
            continue
        if other:
            what = ", ".join(f"{name} {here.get(name)} instead of {wanted[name]}" for name in other[:2])
            verdict.problems.append(f"{'/'.join(key)} has a wrong state: {what}")


def _judge_alerts(found: Found, expected: Found, verdict: Verdict) -> None:
    verdict.of_alerts = len(expected.alerts)
    for key, wanted in expected.alerts.items():
        here = found.alerts.get(key)
        verdict.alerts += here == wanted
        if here is None:
            verdict.problems.append(
                f"never published: {wanted['event']} {wanted['kind']} {wanted['device']} {key}"
            )
        elif here != wanted:
            other = [name for name in wanted if here.get(name) != wanted[name]]
            what = ", ".join(f"{name} {here.get(name)} instead of {wanted[name]}" for name in other[:2])
            verdict.problems.append(f"published otherwise: {wanted['device']} {key}: {what}")
    for key in found.alerts.keys() - expected.alerts.keys():
        alert = found.alerts[key]
        verdict.problems.append(f"invented: {alert['event']} {alert['kind']} {alert['device']} {key}")


def _judge_order(found: Found, expected: Found, verdict: Verdict) -> None:
    """Compare what each device caused, where the ids depend on the times of arrival."""
    here = found.published()
    for key, wanted in expected.published().items():
        verdict.of_alerts += len(wanted)
        got = here.get(key, [])
        verdict.alerts += len(wanted) if got == wanted else 0
        if got != wanted:
            k = next((k for k, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
            where = f"event {k}" if k is not None else f"{len(got)} events instead of {len(wanted)}"
            verdict.problems.append(f"{'/'.join(key)} published otherwise: {where}")
    if more := here.keys() - expected.published().keys():
        verdict.problems.append(f"alerts that should not be, of {sorted(more)[:SHOWN]}")
