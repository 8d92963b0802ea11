"""The detector `default`: what it finds, what it holds, and what it lets go, on series as sensors send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.devices.table import Table
from stream_detector.detectors.default.detector import Default
from stream_detector.detectors.default.memory import CHANNEL
from stream_detector.detectors.default.views import VIEWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.scoring.detector import ChannelVerdicts

MINUTE = 60.0
MONDAY = 1_767_571_200
"""2026-01-05, 00:00 UTC."""
HOURS = 60


def times(n: int, every_s: float = MINUTE) -> NDArray[np.int64]:
    """Return event times, µs, from a Monday on."""
    out: NDArray[np.int64] = ((MONDAY + np.arange(n) * every_s) * 1e6).astype(np.int64)
    return out


def judge(values: NDArray[np.float64], ts: NDArray[np.int64] | None = None) -> ChannelVerdicts:
    """Return what a new detector says of one device, (n,) or (n, channels)."""
    values = values.reshape(len(values), -1)
    table = Table(Default().columns(), values.shape[1])
    table.add()
    slots = np.zeros(len(values), dtype=np.int32)
    found = Default().score(
        table, slots, values, np.empty((len(values), 0)), times(len(values)) if ts is None else ts
    )
    assert found.by_channel is not None
    return found.by_channel


def alarms(said: ChannelVerdicts, channel: int = 0) -> list[tuple[int, int, str]]:
    """Return each fault that is found: its first and last reading, and the view that saw it first.

    Gaps of less than ten readings are bridged.
    """
    found: list[tuple[int, int, str]] = []
    for i in np.flatnonzero(said.anomalous[:, channel]).tolist():
        if found and i - found[-1][1] < 10:
            found[-1] = found[-1][0], i, found[-1][2]
        else:
            found.append((i, i, VIEWS[said.view[i, channel]]))
    return found


def cycling(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Return a value that goes up and down between 20 and 30 each 50 readings, with a little noise."""
    random = np.random.default_rng(seed)
    out: NDArray[np.float64] = 25 + 5 * np.sin(np.arange(n) * 2 * np.pi / 50) + random.normal(0, 0.2, n)
    return out


def test_what_is_usual_is_no_alarm() -> None:
    """Two weeks of an ordinary series raise nothing after the first day."""
    said = judge(cycling(14 * 24 * HOURS))
    assert [start for start, *_ in alarms(said) if start >= 24 * HOURS] == []


def test_it_scores_after_twenty_readings() -> None:
    """Of the first ones nothing is said; a gross value is found soon after."""
    values = cycling(80)
    values[60] = 65_535.0
    said = judge(values)
    assert np.isnan(said.score[:19]).all()
    assert not np.isnan(said.score[20:]).any()
    assert alarms(said) == [(60, 60, "value")]


@pytest.mark.parametrize("length", [20, 200, 1000])
def test_a_fault_is_held_as_long_as_it_lasts(length: int) -> None:
    """A value that jumps out of its range and stays there is anomalous until it is back."""
    values = cycling(5000)
    values[3000 : 3000 + length] = 45.0 + np.random.default_rng(1).normal(0, 0.2, length)
    said = judge(values)
    (start, end, view) = alarms(said)[0]
    assert (start, end, view) == (3000, 3000 + length - 1, "value")
    assert len(alarms(said)) == 1
    assert said.score[3000, 0] >= 1.0
    assert length < 50 or said.score[3040, 0] >= 2.0  # critical once it lasts


def test_a_fault_that_comes_back_is_told_again() -> None:
    """The same value, hours later, is a fault again; what has come often is a habit."""
    values = cycling(15_000)
    for start in range(2000, 15_000, 1000):
        values[start : start + 60] = 36.0
    starts = [start for start, *_ in alarms(judge(values))]
    assert starts[:3] == [2000, 3000, 4000]
    assert not [start for start in starts if start >= 8000]


def test_garbage_blinds_nothing() -> None:
    """After one reading of 65535 a fault of the usual size is found as before."""
    values = cycling(4000)
    values[2000] = 65_535.0
    values[3000:3100] = 40.0
    assert [each[:2] for each in alarms(judge(values))] == [(2000, 2000), (3000, 3099)]


def test_a_new_level_is_accepted() -> None:
    """What overlaps with the known range is the new normal after some hundred readings, and quiet then."""
    values = np.random.default_rng(2).normal(20, 1, 6000)
    values[3000:] += 5.0
    said = judge(values)
    assert said.anomalous[3000:3010].any()
    assert said.accepted[3000:3400].any()
    assert not said.anomalous[3450:].any()
    assert not (said.accepted & said.anomalous).any()


def test_what_lies_far_away_is_accepted_late() -> None:
    """A machine that breaks for a day is broken for a day; after two days at that value it is how it is."""
    values = cycling(10_000)
    values[3000:9000] = 60.0 + np.random.default_rng(1).normal(0, 0.2, 6000)
    said = judge(values)
    assert said.anomalous[3000 : 3000 + 2 * 24 * HOURS - 10].all()
    assert np.flatnonzero(said.accepted[:9000, 0]).tolist() == [3000 + 2 * 24 * HOURS]


def test_spikes_between_usual_values_become_a_habit() -> None:
    """Single readings that leap are told three times; then only if the next one confirms them."""
    values = cycling(9000)
    random = np.random.default_rng(3)
    values[np.arange(1500, 9000, 500)] = random.uniform(33, 38, 15)
    values[8800:8830] = 75.0
    found = alarms(judge(values))
    assert len(found) <= 4
    assert found[-1][:2] in ((8800, 8829), (8801, 8829))


def test_a_counter_grows_and_begins_anew() -> None:
    """Growth is no alarm; a reset is told once, and the growth after it is none."""
    random = np.random.default_rng(4)
    values = 3700 + np.cumsum(random.uniform(0, 0.02, 12_000))
    values[8000:] -= values[8000]
    found = alarms(judge(values))
    assert len(found) == 1
    assert found[0][0] == 8000
    assert found[0][1] <= 8030


def test_a_value_of_another_hour_is_found() -> None:
    """Ordinary values at the wrong time of day are unusual by the hour, once some days are known."""
    n, day = 14 * 288, 288
    ts = times(n, 300.0)
    hour = np.arange(n) % day / 12
    random = np.random.default_rng(5)
    values = 50 + 40 * ((hour > 7) & (hour < 18)) + random.normal(0, 1.5, n)
    night = 9 * day + 12  # one o'clock, on a Wednesday
    values[night : night + 48] = 90 + random.normal(0, 1.5, 48)
    said = judge(values, ts)
    found = [each for each in alarms(said) if each[0] >= 8 * day]
    assert found
    start, end, _ = found[0]
    assert night <= start <= night + 24
    assert end >= night + 40
    seen = said.view[start : end + 1, 0][said.anomalous[start : end + 1, 0]]
    assert VIEWS.index("hour") in seen.tolist()


def test_a_cycle_that_stops_is_found() -> None:
    """A compressor that no longer switches shows ordinary values for too long."""
    values = np.where(np.arange(8000) % 60 < 20, 88.0, 1.2) + np.random.default_rng(6).normal(0, 0.3, 8000)
    values[6000:7000] = 1.2 + np.random.default_rng(7).normal(0, 0.3, 1000)
    said = judge(values)
    (start, end, view) = next(each for each in alarms(said) if each[0] >= 1440)
    assert view == "dwell"
    assert 6040 <= start <= 6120
    assert end >= 6990


def test_noise_is_found() -> None:
    """A signal whose readings scatter six times as much is unusual, whatever its values."""
    values = cycling(5000)
    values[4000:4150] += np.random.default_rng(8).normal(0, 1.2, 150)
    found = [each for each in alarms(judge(values)) if each[0] >= 1440]
    assert found
    assert 4000 <= found[0][0] < 4060


def test_a_jump_within_the_range_is_found() -> None:
    """A value that never leaps and then does, to where it often was, is unusual by its step."""
    values = cycling(5000)
    values[4015:] = cycling(5025)[4040:]  # half a cycle on, from 30 to 20
    found = [each for each in alarms(judge(values)) if each[0] >= 1440]
    assert found
    assert found[0][0] in (4015, 4016)
    assert found[0][2] in ("step", "spread")


@pytest.mark.parametrize("pause", ["silence", "rest"])
def test_what_follows_a_pause_is_no_step(pause: str) -> None:
    """After a gap, or a value that stood still, the next value may be anywhere in its range."""
    values, ts = cycling(5000), times(5000)
    if pause == "rest":
        values[4015:4065] = values[4014]
        values[4065:4115] = cycling(5100)[4090:4140]
    else:
        values[4015:] = cycling(5025)[4040:]
        ts[4015:] += int(3600e6)
    assert [each for each in alarms(judge(values, ts)) if 4000 <= each[0] < 4110] == []


def test_a_counter_that_hardly_moves_is_never_critical() -> None:
    """Channels that have changed a few times only may change again: at most a warning."""
    values = np.full(6000, 2.0)
    values[4000:4500] = 3.0
    said = judge(values)
    assert np.nanmax(said.score) < 2.0


def test_nothing_is_ever_inside_its_band() -> None:
    """Where the value itself is the reason, the band is one that it has left."""
    values = cycling(6000)
    values[2000:2100] = 41.0
    values[3000:3300] += 3.0
    values[4000] = -5.0
    said = judge(values)
    by_value = said.anomalous & (said.view == VIEWS.index("value"))
    assert by_value.any()
    inside = (said.lower <= said.seen) & (said.seen <= said.upper)
    assert not (inside & by_value).any()


def test_a_channel_that_is_not_reported_waits() -> None:
    """NaN changes nothing, for that channel and for the others."""
    both = np.column_stack([cycling(3000), cycling(3000, seed=1)])
    both[2000:2050, 0] = 50.0
    gaps = both.copy()
    gaps = np.insert(gaps, range(0, 3000, 3), [np.nan, np.nan], axis=0)
    reported = ~np.isnan(gaps[:, 0])
    ts = np.repeat(0, len(gaps))
    ts[reported] = times(3000)
    said, alone = judge(gaps, ts), judge(both)
    np.testing.assert_array_equal(said.score[reported], alone.score)
    np.testing.assert_array_equal(said.anomalous[reported], alone.anomalous)
    assert np.isnan(said.score[~reported]).all()
    assert not said.anomalous[:, 1].any()


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param([0.0], id="nothing"),
        pytest.param([1e300, -1e300], id="huge"),
        pytest.param([5e-324, -5e-324], id="tiny"),
        pytest.param([1.0, 1.0, 1e18], id="leaping"),
        pytest.param([1e15, 1e15 + 1], id="digits"),
    ],
)
def test_strange_series_give_scores(strange: list[float]) -> None:
    """Whatever numbers come, and at whatever times, there is a score in its bounds."""
    values = np.tile(np.array(strange), 1500)
    for ts in (times(len(values)), times(len(values), 0.0), times(len(values))[::-1].copy()):
        said = judge(values, ts)
        scores = said.score[~np.isnan(said.score)]
        assert ((scores >= 0) & (scores <= 1000)).all()
        assert (said.score[said.anomalous] >= 1.0).all()
        assert (np.nan_to_num(said.score[~said.anomalous]) < 1.0).all()


def test_it_fits_its_budget() -> None:
    """Four channels of a device take less than 8 kB."""
    columns = Default().columns()
    bytes_of_channel = np.dtype(columns["channels"].dtype).itemsize
    rest = int(np.prod(columns["usual"].shape)) * np.dtype(columns["usual"].dtype).itemsize
    assert 4 * bytes_of_channel + rest <= 8192
    assert CHANNEL.itemsize == sum(CHANNEL[name].itemsize for name in CHANNEL.names or ())  # no gaps
