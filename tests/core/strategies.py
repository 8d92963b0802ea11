"""What the tests of the core have in common: readings written by hand, stories for Hypothesis, detectors.

A story is a list of steps such as ("spike", 1, 50.0) that is played into records, so that what
Hypothesis finds can be read. To put a detector under the law, add a line to `DETECTORS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from stream_detector.core.records import (
    NO_SEQ,
    Acknowledged,
    Forgotten,
    Gap,
    ModelSet,
    Readings,
    Record,
    Tick,
)
from stream_detector.core.scoring.detector import MAX_SCORE, Verdicts, significant
from stream_detector.core.windows.features import of_history
from stream_detector.detectors.default.detector import Default
from stream_detector.detectors.light import Light
from stream_detector.models.training import DETECTORS as TRAINED
from stream_detector.models.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Column, Table
    from stream_detector.core.scoring.detector import Detector

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


class Reading(NamedTuple):
    """One reading, as a person writes it; times in µs."""

    values: dict[str, float]
    ts: int
    device: str = "d0"
    arrival: int | None = None
    seq: int | None = None
    index: int = 0


def batch(readings: Sequence[Reading], stream: str = "s") -> Readings:
    """Return readings as one record; the arrival is the event time where none is given."""
    columns = tuple(dict.fromkeys(tuple(reading.values) for reading in readings))
    return Readings(
        stream=stream,
        devices=[reading.device for reading in readings],
        columns=columns,
        shapes=np.array([columns.index(tuple(reading.values)) for reading in readings], dtype=np.int32),
        values=np.array([x for reading in readings for x in reading.values.values()], dtype=np.float64),
        ts=np.array([reading.ts for reading in readings], dtype=np.int64),
        arrival=np.array([r.ts if r.arrival is None else r.arrival for r in readings], dtype=np.int64),
        seq=np.array([NO_SEQ if r.seq is None else r.seq for r in readings], dtype=np.int64),
        index=np.array([reading.index for reading in readings], dtype=np.int32),
        tags={reading.device: {"site": "north"} for reading in readings if reading.device == "d1"},
    )


class Distance:
    """A fitted model without state: the root mean square of its feature row, feature by feature."""

    name = "distance"
    version = "3"
    threshold = 40.0
    channels: tuple[str, ...] | None = ("b", "a")  # not the order in which they are reported
    features: tuple[str, ...] = ("value", "z", "difference", "mean", "deviation", "lag_2")
    raise_after = (2, 3)

    def columns(self) -> Mapping[str, Column]:
        """Return nothing: it has no state."""
        return {}

    def score(
        self,
        learned: Table,  # noqa: ARG002 - the promise of all detectors
        slots: NDArray[np.int32],  # noqa: ARG002
        values: NDArray[np.float64],  # noqa: ARG002
        rows: NDArray[np.float64],
        ts: NDArray[np.int64],  # noqa: ARG002
    ) -> Verdicts:
        """Score a batch; see `Detector.score`."""
        total = np.zeros(len(rows))
        for column in rows.T:  # one after the other, so that no sum depends on the batch
            total = total + column * column
        raw = np.sqrt(total / rows.shape[1])
        score = np.minimum(significant(raw / self.threshold), MAX_SCORE)
        by_channel = np.abs(rows).reshape(len(rows), len(self.features), -1).sum(axis=1)
        return Verdicts(
            raw=raw,
            score=score,
            anomalous=score >= 1.0,
            confidence=lambda i: float(raw[i] / (1.0 + raw[i])),
            shares=lambda i: by_channel[i],
        )


@cache
def fitted(detector: str) -> Detector:
    """Return a model trained on what the devices of a story usually send."""
    story = Story()
    values = np.array([[values["b"], values["a"]] for values in map(story.values, [story.devices[0]] * 400)])
    names = ("value", "z", "lag_2")
    rows = of_history(names, np.zeros(400, np.int32), values, np.arange(400), window=5)
    return train(
        rows[5:],
        name=detector,
        channels=("b", "a"),
        features=names,
        window=5,
        detector=detector,
        contamination=0.02,
    ).model


DETECTORS: Mapping[str, Callable[[], Detector]] = {
    "default": Default,
    "light": Light,
    "distance": Distance,
    **{name: partial(fitted, name) for name in TRAINED},
}
SLOW = frozenset(TRAINED) - {"iforest"}
"""PyOD scores a call in up to a millisecond: these get fewer stories."""


@dataclass
class Device:
    """What a device of a story will send next."""

    name: str
    channels: list[str] = field(default_factory=lambda: ["a", "b"])
    seq: int | None = None
    sent: list[Reading] = field(default_factory=list)
    count: int = 0


class Story:
    """Plays steps into records: readings stay single, the test cuts them into batches."""

    def __init__(self) -> None:
        self.records: list[Reading | Record] = []
        self.now = START
        self.devices = [Device("d0", seq=0), Device("d1"), Device("d2", channels=["b"])]

    def play(self, steps: Sequence[tuple[Any, ...]]) -> list[Reading | Record]:
        """Return the records of the steps."""
        for name, *arguments in steps:
            getattr(self, name)(*arguments)
        records, self.records = self.records, []
        return records

    def run(self, count: int) -> None:
        """All devices report in turn, every second."""
        for _ in range(count):
            self.now += SECOND
            for device in self.devices:
                self._send(device, self.values(device))

    def spike(self, d: int, size: float) -> None:
        """Add a size to the first channel."""
        self.now += SECOND
        values = self.values(self.devices[d])
        values[next(iter(values))] += size
        self._send(self.devices[d], values)

    def picture(self, d: int, seen: str) -> None:
        """Send usual readings (.) and some that are out of everything (x)."""
        for letter in seen:
            self.spike(d, 300.0 if letter == "x" else 0.0)

    def stuck(self, d: int, count: int) -> None:
        """Repeat a value."""
        for _ in range(count):
            self.now += SECOND
            self._send(self.devices[d], dict.fromkeys(self.devices[d].channels, 5.25))

    def partial(self, d: int, channel: str, value: float | None) -> None:
        """Report one channel only (perhaps a new one), at the same time as what came before."""
        device = self.devices[d]
        if channel not in device.channels:
            device.channels.append(channel)
        self._send(device, {channel: float("nan") if value is None else value})

    def hole(self, d: int) -> None:
        """Report NaN in one channel, all in another order."""
        self.now += SECOND
        device = self.devices[d]
        values = dict(reversed(self.values(device).items()))
        values[device.channels[-1]] = float("nan")
        self._send(device, values)

    def again(self, d: int, back: int) -> None:
        """Deliver an old reading once more."""
        sent = self.devices[d].sent
        if sent:
            self.records.append(sent[-min(back, len(sent))]._replace(arrival=self.now))

    def late(self, d: int, seconds: int) -> None:
        """Report something that is older than the newest."""
        self._send(self.devices[d], self.values(self.devices[d]), ts=self.now - seconds * SECOND)

    def backlog(self, d: int, count: int, size: float) -> None:
        """Report what is older than the newest, a second apart, with a size added to the first channel."""
        device = self.devices[d]
        for k in range(count):
            values = self.values(device)
            values[next(iter(values))] += size
            self._send(device, values, ts=self.now - (5000 - k) * SECOND)

    def listed(self, d: int, count: int) -> None:
        """Send a list: one arrival, several times."""
        for index in range(count):
            self.now += SECOND
            self._send(self.devices[d], self.values(self.devices[d]), index=index)
        place = len(self.records) - count
        self.records[place:] = [
            item._replace(arrival=self.now) for item in self.records[place:] if isinstance(item, Reading)
        ]

    def renumber(self, d: int, step: int) -> None:
        """Lose some numbers, or start again."""
        if self.devices[d].seq is not None:
            self.devices[d].seq = max(0, (self.devices[d].seq or 0) + step)

    def quiet(self, seconds: int) -> None:
        """Nobody says anything; ticks go on."""
        for _ in range(seconds):
            self.now += SECOND
            self.records.append(Tick(self.now))

    def gap(self, seconds: int) -> None:
        """Nobody can be heard."""
        self.records.append(Gap(self.now, self.now + seconds * SECOND))
        self.now += seconds * SECOND

    def model(self) -> None:
        """Another model takes over."""
        self.records.append(ModelSet(self.now, "s", "live", "other"))

    def ack(self, d: int) -> None:
        """Somebody has seen the alert of a device; which one is found out where it is played."""
        self.records.append(Acknowledged(self.now, "s", self.devices[d].name, ""))

    def forget(self, d: int) -> None:
        """A device is gone for good, until it speaks again."""
        self.records.append(Forgotten(self.now, "s", self.devices[d].name))

    def values(self, device: Device) -> dict[str, float]:
        """Return what a device sends next."""
        device.count += 1
        # The first channel always changes, the others stay for two or three readings.
        noise = [device.count // (1 + c) * (37 + 12 * c) % 101 / 25 for c in range(len(device.channels))]
        return {name: 10.0 + noise[c] for c, name in enumerate(device.channels)}

    def _send(self, device: Device, values: dict[str, float], ts: int | None = None, index: int = 0) -> None:
        if device.seq is not None:
            device.seq += 1
        when = self.now if ts is None else ts
        reading = Reading(values, when, device.name, arrival=self.now + 7, seq=device.seq, index=index)
        device.sent.append(reading)
        self.records.append(reading)


_device = st.integers(0, 2)
_channel = st.sampled_from(["a", "b", "c", "y"])
_steps = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 12)),
    st.tuples(st.just("spike"), _device, st.sampled_from([0.5, 8.0, 300.0, -1e7, 1e300])),
    st.tuples(st.just("picture"), _device, st.text("x.", min_size=3, max_size=8)),
    st.tuples(st.just("stuck"), _device, st.sampled_from([2, 3, 7, 18, 45, 70, 160])),
    st.tuples(st.just("partial"), _device, _channel, st.sampled_from([None, 11.5, 99.0])),
    st.tuples(st.just("hole"), _device),
    st.tuples(st.just("again"), _device, st.integers(1, 40)),
    st.tuples(st.just("late"), _device, st.integers(1, 5)),
    st.tuples(st.just("backlog"), _device, st.integers(1, 40), st.sampled_from([0.0, 300.0])),
    st.tuples(st.just("listed"), _device, st.integers(2, 5)),
    st.tuples(st.just("renumber"), _device, st.sampled_from([2, -1000])),
    st.tuples(st.just("quiet"), st.integers(1, 25)),
    st.tuples(st.just("gap"), st.integers(1, 30)),
    st.tuples(st.just("model")),
    st.tuples(st.just("ack"), _device),
    st.tuples(st.just("forget"), _device),
)
stories = st.lists(_steps, min_size=1, max_size=12)
"""Lists of steps for `Story.play`."""


@st.composite
def cuts(draw: st.DrawFn) -> Callable[[int], bool]:
    """Draw where to cut: a function from the number of a record to whether a batch ends before it."""
    every = draw(st.sampled_from([1, 2, 3, 7, 50]))
    odd = draw(st.sets(st.integers(0, 300), max_size=8))
    return lambda i: i % every == 0 or i in odd
