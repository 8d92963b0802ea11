"""The simulated fleet: reproducible, quiet where nothing is wrong, and plain where something is."""

from __future__ import annotations

import math
from datetime import datetime

import msgspec
import numpy as np
import pytest

from stream_detector.demo.fleet import CHANNELS, FAULT_LASTS_S, FIRST_FAULT_S, Fault, Fleet, stream_settings

RATE_HZ = 20
THRESHOLD = 0.35
WARM_UP_S = 15.0
SEEDS = (1, 2, 3)


def limits(fleet: Fleet) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest value that each column of the fleet may show."""
    channels = [channel for device in fleet.devices for channel in device.channels.values()]
    return np.array([c.min for c in channels]), np.array([c.max for c in channels])


def column(fleet: Fleet, fault: Fault) -> int:
    """Return the column of a fault's channel among the fleet's values."""
    device = next(device for device in fleet.devices if device.name == fault.device)
    assert fault.channel is not None
    return device.first + list(device.channels).index(fault.channel)


def alarms(values: np.ndarray) -> list[int]:
    """Return where a device that learns this channel from nothing finds it novel (readings of it)."""
    seen: list[float] = []
    low, high = values[0], values[0]
    found = []
    for count, x in enumerate(values.tolist()):
        nearest = min((abs(x - other) for other in seen), default=0.0)
        d = nearest / (high - low) if high > low else 0.0
        if count >= 100 and math.log10(1 + 20 * d) * count / (count + 300) >= THRESHOLD:
            found.append(count)
        if d > 1 / 128 or high == low:  # closer than that nothing can be told apart
            seen.append(x)
        low, high = min(low, x), max(high, x)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_decides_readings_and_faults(seed: int) -> None:
    """Two fleets of one seed agree at any time, in whatever order they are asked; others differ."""
    one, other, stranger = Fleet(seed), Fleet(seed), Fleet(seed + 1)
    times = [0.0, 7.05, 33.3, 61.0]
    assert [one.readings(t, 1) for t in times] == [other.readings(t, 1) for t in reversed(times)][::-1]
    assert one.schedule(600) == other.schedule(600)
    assert one.readings(0.0, 1) != stranger.readings(0.0, 1)
    assert one.schedule(600) != stranger.schedule(600)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_minutes_show_everything(seed: int) -> None:
    """The first fault jumps at 7 s, and within 90 s every kind of fault has come and gone."""
    faults = Fleet(seed).schedule(600)
    assert faults[0].start_s == FIRST_FAULT_S
    assert faults[0].kind in {"spike", "level_shift"}
    assert {fault.kind for fault in faults if fault.stop_s <= 90} == set(FAULT_LASTS_S)
    pauses = np.diff([fault.start_s for fault in faults])
    assert pauses.min() >= 4.999
    assert pauses.max() <= 8.001


@pytest.mark.parametrize(("seed", "devices"), [(1, 24), (2, 24), (3, 1), (4, 2)])
def test_a_device_suffers_one_fault_at_a_time(seed: int, devices: int) -> None:
    """However small the fleet, a device's faults follow each other, and each one ends."""
    end_of: dict[str, float] = {}
    for fault in Fleet(seed, devices).schedule(600):
        assert end_of.get(fault.device, 0.0) <= fault.start_s < fault.stop_s
        end_of[fault.device] = fault.stop_s


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_fault_no_channel_leaves_its_limits(seed: int) -> None:
    """Over two days every value of every device stays well inside what its channel allows."""
    fleet = Fleet(seed, faults=False)
    values = np.array([fleet.values(t) for t in np.arange(0, 600, 0.25)])
    low, high = limits(fleet)
    assert (values > low).all()
    assert (values < high).all()
    assert fleet.schedule(600) == []


def test_a_drift_ends_outside_the_limits() -> None:
    """Every drift crosses its channel's limit before it is repaired, and is gone afterwards."""
    fleet = Fleet(seed=1)
    low, high = limits(fleet)
    drifts = [fault for fault in fleet.schedule(600) if fault.kind == "drift"]
    assert drifts
    for drift in drifts:
        i = column(fleet, drift)
        alone = Fleet(seed=1, faults=[drift])
        assert low[i] <= alone.values(drift.start_s)[i] <= high[i]
        last = alone.values(drift.stop_s - 0.05)[i]
        assert not low[i] <= last <= high[i]
        assert low[i] <= alone.values(drift.stop_s)[i] <= high[i]


def test_each_kind_of_fault_does_what_it_says() -> None:
    """A shift stays, a spike falls back, a stuck channel repeats itself, a silent device is missing."""
    plain = Fleet(seed=5, faults=False)
    kinds = list(FAULT_LASTS_S)
    faults = [
        Fault(device.name, kind, None if kind == "silence" else next(iter(device.channels)), 10, 20, 8)
        for device, kind in zip(plain.devices, kinds, strict=False)
    ]
    fleet = Fleet(seed=5, faults=faults)
    columns = {fault.kind: column(fleet, fault) for fault in faults if fault.channel is not None}

    def extra(kind: str, t: float) -> float:
        return float((fleet.values(t) - plain.values(t))[columns[kind]])

    assert [extra("level_shift", t) for t in (9.9, 10, 19.9, 20)] == pytest.approx([0, 8, 8, 0], abs=0.002)
    assert [extra("spike", t) for t in (9.9, 10, 15, 20)] == pytest.approx([0, 8, 4, 0], abs=0.002)
    assert [extra("drift", t) for t in (9.9, 10, 15, 20)] == pytest.approx([0, 0, 4, 0], abs=0.002)
    stuck = [fleet.values(t)[columns["stuck"]] for t in (10, 12.35, 19.95, 20)]
    assert stuck[0] == stuck[1] == stuck[2] != stuck[3]
    silent = plain.devices[kinds.index("silence")].topic
    assert [silent in dict(fleet.readings(t, 0)) for t in (9.9, 10, 19.9, 20)] == [True, False, False, True]
    assert fleet.active(9.9) == fleet.active(20) == []
    assert fleet.active(10) == faults


def test_payloads_have_the_canonical_shape() -> None:
    """A reading is JSON: an RFC 3339 time with milliseconds, a number, and all channels as floats."""

    class Payload(msgspec.Struct, forbid_unknown_fields=True):
        ts: str
        seq: int
        values: dict[str, float]

    fleet = Fleet(seed=1, faults=False)
    readings = fleet.readings(t=12.35, seq=247)
    assert len({topic for topic, _ in readings}) == len(fleet.devices) == 24
    for topic, payload in readings:
        decoded = msgspec.json.decode(msgspec.json.encode(payload), type=Payload)
        assert decoded.ts == "2026-01-01T00:00:12.350Z"
        assert datetime.fromisoformat(decoded.ts).tzinfo is not None
        assert decoded.seq == 247
        _, site, kind, device = topic.split("/")
        assert site in {"north", "south"}
        assert device.startswith(kind.removesuffix("s") + "-")
        assert list(decoded.values) == list(CHANNELS[kind])


def test_the_settings_know_every_topic_and_channel() -> None:
    """Each kind is a stream of its own, whose pattern fits its devices' topics and no others."""
    settings = stream_settings()
    for device in Fleet(seed=1).devices:
        fitting = [
            name
            for name, stream in settings.items()
            if str(stream["topic"]).split("/")[2] == device.topic.split("/")[2]
        ]
        assert len(fitting) == 1
        channels = settings[fitting[0]]["channels"]
        assert isinstance(channels, dict)
        assert {name: (c["min"], c["max"]) for name, c in channels.items()} == {
            name: (c.min, c.max) for name, c in device.channels.items()
        }


def test_channels_of_a_device_move_together() -> None:
    """A meter's power follows its current, and its voltage falls as they rise."""
    fleet = Fleet(seed=1, faults=False)
    first = fleet.devices[2].first
    assert list(fleet.devices[2].channels) == ["power", "voltage", "current"]
    power, voltage, current = np.array([fleet.values(t)[first : first + 3] for t in np.arange(0, 300, 0.5)]).T
    assert np.corrcoef(power, current)[0, 1] > 0.9
    assert np.corrcoef(power, voltage)[0, 1] < -0.9
    assert power == pytest.approx(voltage * current, rel=0.1)


def test_days_differ_from_nights() -> None:
    """A device moves about twice as far at noon as at midnight."""
    fleet = Fleet(seed=1, faults=False)
    noon, midnight = (
        np.ptp([fleet.values(t) for t in np.arange(start, start + 6, 0.05)], axis=0)
        for start in (297.0, 147.0)
    )
    assert (noon > 1.5 * midnight).all()


def test_a_learning_detector_is_quiet_without_faults() -> None:
    """Fewer than 1 % of the device-minutes of a day after the first 15 s alarm."""
    fleet = Fleet(seed=1, faults=False)
    values = np.array([fleet.values(k / RATE_HZ) for k in range(300 * RATE_HZ)])
    noisy = set()
    for i, device in enumerate(fleet.devices):
        for c in range(len(device.channels)):
            times = np.array(alarms(values[:, device.first + c])) / RATE_HZ
            noisy |= {(i, minute) for minute in (times[times > WARM_UP_S] // 60).tolist()}
    assert len(noisy) < 0.01 * len(fleet.devices) * 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_learning_detector_sees_the_jumps(seed: int) -> None:
    """The first jump of a channel is novel at once, the one at 7 s included.

    A channel that had a jump or drift before is left out: who learns everything may know it.
    """
    fleet = Fleet(seed)
    values = np.array([fleet.values(k / RATE_HZ) for k in range(120 * RATE_HZ)])
    known: set[int] = set()
    jumps = 0
    for fault in fleet.schedule(118):
        if fault.kind in {"stuck", "silence"}:
            continue
        i = column(fleet, fault)
        if fault.kind != "drift" and i not in known:
            jumps += 1
            start = math.ceil(fault.start_s * RATE_HZ)
            assert start in alarms(values[: start + 1, i]), fault
        known.add(i)
    assert jumps >= 5
