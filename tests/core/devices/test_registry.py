"""Acceptance against a plain reference, and identities."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.core.devices.registry import Devices
from stream_detector.core.events import Counts
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.spec import StreamSpec
from stream_detector.core.stream import Stream
from stream_detector.detectors.light import Light
from tests.core.strategies import SECOND, START, Reading, batch


def accept(readings: list[Reading], lateness: int = 0) -> tuple[list[str], int]:
    """Return what became of readings, and how many numbers were missing."""
    stream = Stream(StreamSpec("s", lateness=lateness), Light())
    verdicts, missing = [], 0
    for reading in readings:  # one by one; the law says that the cuts do not matter
        before = stream.process(batch([reading])).counts
        missing += before.missing_seq
        found = [name for name in ("late", "duplicate") if getattr(before, name)] or ["accepted"]
        verdicts += found
    return verdicts, missing


def identity(*readings: Reading) -> list[int]:
    """Return the identities of readings that come in one batch."""
    stream = Stream(StreamSpec("s"), Light())
    stream.process(batch(readings))
    table = stream.devices.table
    return [int(table["identities"][0, i]) for i in range(int(table["accepted"][0]))]


@dataclass
class PlainAcceptance:
    """Remembers the last 32 readings of one device and says what becomes of the next."""

    lateness: int
    remembered: list[tuple[int, object]] = field(default_factory=list)
    forgotten: int = -1  # newest time among those that are no longer remembered
    newest: int = -1
    numbers: list[int] = field(default_factory=list)  # of the readings of that time

    def judge(self, reading: Reading) -> str:
        """Return ``accepted``, ``late`` or ``duplicate``."""
        what = reading.seq if reading.seq is not None else tuple(sorted(reading.values.items()))
        key = (reading.ts, (what, reading.index))
        if key in self.remembered:
            return "duplicate"
        if reading.ts < self.newest - self.lateness:
            return "late"
        surely_new = (
            reading.ts == self.newest
            and reading.seq is not None
            and all(reading.seq > number for number in self.numbers)
        )
        if reading.ts <= self.forgotten and not surely_new:
            return "late"
        self.remembered.append(key)
        if len(self.remembered) > 32:
            self.forgotten = max(self.forgotten, self.remembered.pop(0)[0])
        if reading.ts > self.newest:
            self.newest, self.numbers = reading.ts, []
        if reading.ts == self.newest and reading.seq is not None:
            self.numbers.append(reading.seq)
        return "accepted"


_readings = st.lists(
    st.builds(
        Reading,
        values=st.sampled_from([{"a": 1.0}, {"a": 2.0}, {"b": 1.0}, {"a": 1.0, "b": 2.0}]),
        ts=st.integers(0, 12).map(lambda k: START + k * SECOND),
        seq=st.sampled_from([None, None, 1, 2]),
        index=st.integers(0, 2),
        device=st.just("d0"),
        arrival=st.none(),
    ),
    max_size=80,
)


@given(readings=_readings, lateness=st.sampled_from([0, 3 * SECOND]))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_plain_version(readings: list[Reading], lateness: int) -> None:
    """A reading is accepted once, and late or a duplicate exactly as the plain version says."""
    plain = PlainAcceptance(lateness)
    assert accept(readings, lateness)[0] == [plain.judge(reading) for reading in readings]


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        pytest.param([1, 2, 3], 0, id="all there"),
        pytest.param([1, 4, 5], 2, id="two lost"),
        pytest.param([7, 8, 0, 1, 3], 1, id="a reboot starts again"),
        pytest.param([0, 5_000_000_000, 5_000_000_001], 0, id="numbered anew"),
        pytest.param([-(2**63) + 1, 2**63 - 1, -(2**63) + 1], 0, id="both ends"),
        pytest.param([3, 2**63 - 1], 0, id="to the end"),
    ],
)
def test_missing_numbers(numbers: list[int], missing: int) -> None:
    """Numbers that never came are counted; they order nothing and reject nothing."""
    readings = [Reading({"a": 1.0}, START + i * SECOND, seq=seq) for i, seq in enumerate(numbers)]
    assert accept(readings) == (["accepted"] * len(numbers), missing)


def test_same_number_at_a_later_time_is_a_new_reading() -> None:
    """A rebooted sensor counts from 0 again; the same number at the same time is a duplicate."""
    readings = [
        Reading({"a": 1.0}, START, seq=0),
        Reading({"a": 1.0}, START + SECOND, seq=0),
        Reading({"a": 9.9}, START + SECOND, seq=0),
    ]
    assert accept(readings)[0] == ["accepted", "accepted", "duplicate"]


def test_32_channels_at_one_time() -> None:
    """A device that has a topic for each of 32 channels is heard whole, and redelivery changes nothing."""
    readings = [Reading({f"c{c}": float(c)}, START) for c in range(32)]
    assert accept(readings * 2)[0] == ["accepted"] * 32 + ["duplicate"] * 32


def test_a_coarse_clock_and_numbers() -> None:
    """A device that numbers 200 readings of one second is heard whole, each of them once."""
    readings = [Reading({"a": 1.0}, START + k // 200 * SECOND, seq=k) for k in range(400)]
    assert accept(readings)[0] == ["accepted"] * 400
    verdicts = accept(readings + readings, lateness=10 * SECOND)[0]
    assert verdicts == ["accepted"] * 400 + ["late"] * 368 + ["duplicate"] * 32


def test_a_coarse_clock_without_numbers() -> None:
    """From the 33rd reading of one time on, new ones cannot be told from old ones; a newer time can."""
    readings = [Reading({"a": float(k)}, START) for k in range(40)]
    verdicts = accept([*readings, Reading({"a": 0.0}, START + 1)])[0]
    assert verdicts == ["accepted"] * 33 + ["late"] * 7 + ["accepted"]


@given(numbers=st.lists(st.integers(0, 60), min_size=60, max_size=160), start=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_numbers_in_any_order_are_taken_once(numbers: list[int], start: int) -> None:
    """However the numbers of one time are shuffled and repeated, none is accepted twice."""
    readings = [Reading({"a": 1.0}, START - SECOND, seq=start)]
    readings += [Reading({"a": 1.0}, START, seq=number) for number in numbers]
    verdicts = accept(readings)[0][1:]
    taken = [number for number, verdict in zip(numbers, verdicts, strict=True) if verdict == "accepted"]
    assert len(taken) == len(set(taken))
    assert max(numbers) in taken


def test_what_is_forgotten_is_never_accepted_again() -> None:
    """However often and late the broker delivers a reading again, it changes the window once."""
    readings = [Reading({"a": float(k)}, START + k * SECOND) for k in range(100)]
    verdicts = accept(readings + readings, lateness=1000 * SECOND)[0]
    assert verdicts == ["accepted"] * 100 + ["late"] * 68 + ["duplicate"] * 32


def test_a_time_far_ahead_makes_what_follows_late() -> None:
    """Until the clock passes that time; nothing breaks, and other devices do not suffer."""
    readings = [
        Reading({"a": 1.0}, START),
        Reading({"a": 1.0}, START + 300 * SECOND),
        Reading({"a": 1.0}, START + SECOND),
        Reading({"a": 1.0}, START + SECOND, device="other"),
        Reading({"a": 1.0}, START + 301 * SECOND),
    ]
    assert accept(readings)[0] == ["accepted", "accepted", "late", "accepted", "accepted"]


def test_late_and_duplicate_readings_change_no_window() -> None:
    """Only accepted readings are in the window and in the counts of scored or warming up."""
    pipeline = Pipeline([StreamSpec("s")], Light, lambda _: Light())
    readings = [
        Reading({"a": 1.0}, START + SECOND),
        Reading({"a": 1.0}, START + SECOND),
        Reading({"a": 5.0}, START),
    ]
    counts = pipeline.process(batch(readings))["s"].counts
    assert counts == Counts(warming_up=1, late=1, duplicate=1)
    layout = pipeline.streams["s"].layouts[0]
    assert layout.table["length"][0] == 1


def test_identity_does_not_depend_on_order_or_layout() -> None:
    """The order of channels, other readings of the batch and channels reported as NaN play no part."""
    plain = Reading({"a": 1.5, "b": 2.5}, START)
    other = Reading({"z": 0.0}, START)
    (first,) = identity(plain)
    assert identity(other, Reading({"b": 2.5, "a": 1.5}, START))[1:] == [first]
    assert identity(Reading({"b": 2.5, "c": float("nan"), "a": 1.5}, START)) == [first]


def test_identity_tells_readings_apart() -> None:
    """Another time, number, value, channel or place in a list is another reading."""
    base = Reading({"a": 1.0, "b": 2.0}, START)
    variants = [
        base,
        base._replace(ts=START + 1),
        base._replace(seq=0),
        base._replace(seq=1),
        base._replace(index=1),
        base._replace(index=2),
        base._replace(values={"a": 2.0, "b": 1.0}),
        base._replace(values={"a": 1.0, "c": 2.0}),
        base._replace(values={"a": 1.0}),
        base._replace(values={"a": -1.0, "b": 2.0}),
        base._replace(values={"a": np.nextafter(1.0, 2.0), "b": 2.0}),
    ]
    found = [identity(variant)[0] for variant in variants]
    assert len(set(found)) == len(variants)


def test_identity_by_number_does_not_look_at_values() -> None:
    """Where a device numbers its readings, the number and the time are the identity."""
    assert identity(Reading({"a": 1.0}, START, seq=4)) == identity(Reading({"b": 7.0}, START, seq=4))


def test_slots_stay() -> None:
    """A device keeps its slot, and tags are those it came with first."""
    devices = Devices()
    assert devices.slots(["a", "b"], {"b": {"site": "x"}}).tolist() == [0, 1]
    assert devices.slots(["b", "c", "a"], {"b": {"site": "y"}}).tolist() == [1, 2, 0]
    assert devices.tags == {1: {"site": "x"}}
    assert (len(devices), devices.names) == (3, ["a", "b", "c"])
