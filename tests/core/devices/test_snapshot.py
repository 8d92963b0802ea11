"""A device's memory as a value: taken, stored, put back, here or under another configuration."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream_detector.core.devices.table import Column
from stream_detector.core.events import AlertChanged
from stream_detector.core.records import Gap, ModelSet, Tick
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.core.stream import Stream
from stream_detector.detectors.light import Light
from tests.core.devices.pump import LIMITS, POLICY, alerts, cell, events, of, pump, usual
from tests.core.replaying import states
from tests.core.strategies import SECOND, START, Distance, batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.core.scoring.detector import Detector


def test_a_state_is_a_value() -> None:
    """Neither later readings nor the device's end change it."""
    pipeline = pump()
    events(pipeline, batch([*usual(120), *usual(1, 120, a=30.0)]))
    state = of(pipeline)
    assert set(state.tracks) == {"range", "point"}
    before = copy.deepcopy(state)
    events(pipeline, batch([*usual(2, 121, a=90.0), *usual(5, 123)]))
    pipeline.streams["s"].forget(0)
    assert state == before
    other = pump()
    other.streams["s"].restore(state)
    events(other, batch(usual(5, 123)))
    assert state == before


def test_devices_of_a_layout_share_its_description() -> None:
    """It is one object, so who stores it may look it up by identity; it names every cell but slots."""
    pipeline = pump()
    events(pipeline, batch([*usual(3), *usual(3, device="d2")]))
    first, second = of(pipeline), of(pipeline, "d2")
    assert first.layout is second.layout
    assert first.layout.channels == ("a", "b")
    assert first.layout.detector == ("light", "1")
    named = {(cell.table, cell.name): (cell.dtype, cell.shape) for cell in first.layout.cells}
    assert named["device", "newest"] == ("<i8", ())
    assert named["layout", "ring"] == ("<f4", (2, 8))
    assert ("device", "row") not in named
    size = sum(np.dtype(cell.dtype).itemsize * int(np.prod(cell.shape)) for cell in first.layout.cells)
    assert size == len(first.row)


def test_a_restored_device_takes_the_place_of_the_one_that_is_there() -> None:
    """There is never a device twice, and the others stay as they are."""
    pipeline = pump()
    events(pipeline, batch([*usual(30), *usual(30, device="d2")]))
    then, other = of(pipeline), of(pipeline, "d2")
    events(pipeline, batch(usual(9, 30, a=50.0)))
    pipeline.streams["s"].restore(then)
    assert states(pipeline) == {"d1": then, "d2": other}
    assert pipeline.streams["s"].open_alerts() == []


def test_a_forgotten_device_leaves_nothing() -> None:
    """Its name, tags, tracks and rows are gone, and the next device that gets them begins blank."""
    pipeline = pump()
    stream = pipeline.streams["s"]
    events(pipeline, batch([*usual(130), *usual(1, 130, a=30.0)]))
    assert (stream.devices.tags, len(stream.open_alerts())) == ({0: {"site": "north"}}, 2)
    stream.forget(0)
    events(pipeline, Gap(START, START + 999 * SECOND), Tick(START + 1000 * SECOND))
    assert (len(stream.devices), stream.devices.tags, stream.open_alerts()) == (0, {}, [])
    assert stream.census() == {"warming_up": 0, "ok": 0, "alerting": 0, "silent": 0}
    assert stream.devices.table["unheard"][0] == 0
    new = pump()
    for each in (pipeline, new):
        events(each, batch(usual(5, 200, device="d3")))
    assert states(pipeline) == states(new)
    assert stream.devices.names == ["d3"]
    assert stream.layouts[0].table.size == 1


def test_a_row_of_the_wrong_length_is_refused() -> None:
    """The sentence names the device and both lengths; nothing is changed."""
    pipeline = pump()
    events(pipeline, batch(usual(30)))
    state = of(pipeline)
    broken = replace(state, row=state.row[:-1])
    said = f"^the row of device 'd1' has {len(state.row) - 1} bytes, its layout says {len(state.row)}; it is"
    with pytest.raises(ValueError, match=said):
        pipeline.streams["s"].restore(broken)
    assert states(pipeline) == {"d1": state}


class OtherVersion(Light):
    """The next version of a detector."""

    version = "2"


class OtherColumns(Light):
    """Learns something in another shape under the same name, which it should not."""

    def columns(self) -> Mapping[str, Column]:
        """Return one column of another shape."""
        return {**super().columns(), "usual": Column(np.int64, (64,))}


@pytest.mark.parametrize("detector", [OtherVersion, OtherColumns, Distance])
def test_another_detector_learns_anew(detector: Callable[[], Detector]) -> None:
    """Windows, cadence and identities are kept; what was learned is not, not even in part."""
    before, after = pump(), pump(detector)
    events(before, batch(usual(150)))
    after.streams["s"].restore(of(before))
    assert cell(after, "length") == 8
    assert after.process(batch(usual(1, 149)))["s"].counts.duplicate == 1
    for name in detector().columns():
        assert not cell(after, name).any()


def test_the_same_detector_set_anew_learns_anew() -> None:
    """As it does for the devices that were there when it was set."""
    pipeline = pump()
    stream = pipeline.streams["s"]
    events(pipeline, batch([*usual(150), *usual(150, device="d2")]))
    away = of(pipeline)
    stream.forget(stream.devices.slot_of["d1"])
    events(pipeline, ModelSet(START + 150 * SECOND, "s", "live", "light"))
    stream.restore(away)
    assert not cell(pipeline, "seen", "d1").any()
    assert not cell(pipeline, "seen", "d2").any()
    assert cell(pipeline, "length", "d1") == 8


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"window": 16}, id="another window"),
        pytest.param({"channels": {**LIMITS, "c": Limits()}}, id="another channel"),
    ],
)
def test_another_layout_begins_anew(changed: dict[str, Any]) -> None:
    """Windows and what was learned on them are blank; open alerts and identities are kept."""
    before, after = pump(), pump(**changed)
    events(before, batch([*usual(150), *usual(1, 150, a=30.0)]))
    after.streams["s"].restore(of(before))
    assert after.streams["s"].channels_of("d1") == tuple(changed.get("channels", LIMITS))
    assert cell(after, "length") == 0
    assert not cell(after, "seen").any()
    assert after.streams["s"].open_alerts() == before.streams["s"].open_alerts()
    found = events(after, batch(usual(4, 150)))
    assert ("clear", "range", 2) in alerts(found)


def test_learned_channels_are_kept() -> None:
    """A device comes back to the layout of its own channels, in whatever order devices come."""
    before, after = pump(channels={}), pump(channels={})
    events(before, batch([*usual(20), *usual(20, device="d2", c=1.0)]))
    for name in ("d2", "d1"):
        after.streams["s"].restore(of(before, name))
    assert after.streams["s"].channels_of("d2") == ("a", "b", "c")
    assert states(after) == states(before)


def test_cells_that_are_new_or_gone() -> None:
    """A version of the code with other cells takes those that it knows and begins blank with the rest."""
    before, after = pump(), pump()
    events(before, batch(usual(30)))
    state = of(before)
    unknown = [
        replace(each, name="gone") if each.name in {"heard", "changes"} else each
        for each in state.layout.cells
    ]
    after.streams["s"].restore(replace(state, layout=replace(state.layout, cells=tuple(unknown))))
    table = after.streams["s"].devices.table
    assert table["accepted"][0] == 30
    assert table["heard"][0] == Stream(StreamSpec("x"), Light()).devices.table.columns["heard"].fill
    assert cell(after, "length") == 8
    assert cell(after, "longest").tolist() == cell(before, "longest").tolist()
    assert cell(after, "changes").tolist() == [0, 0]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_reading_may_be_a_relapse(restarted: bool) -> None:  # noqa: FBT001
    """An alert is remembered for as long as a reading that is not too late can open it again."""
    pipeline = pump(lateness=4 * SECOND)
    events(pipeline, batch([*usual(30), *usual(1, 30, a=30.0), *usual(3, 31)]))  # over at 33
    events(pipeline, batch(usual(9, 34)), Tick(START + 42 * SECOND))
    if restarted:
        state, pipeline = of(pipeline), pump(lateness=4 * SECOND)
        pipeline.streams["s"].restore(state)
    late = usual(1, 38, a=31.0)[0]._replace(values={"a": 31.0})
    assert alerts(events(pipeline, batch([late]))) == [("raise", "range", 3)]


def test_idle_devices_are_those_that_no_tick_can_reach() -> None:
    """Known ones may fall silent, open or beginning alerts may end: none of these is idle."""
    pipeline = pump(Distance)
    stream = pipeline.streams["s"]
    events(pipeline, batch(usual(21, device="known")))
    for k, name in enumerate(("first", "second", "third", "fourth")):
        events(pipeline, batch(usual(3, k, device=name)))
    events(pipeline, batch(usual(1, 30, device="open", a=99.0)))
    events(pipeline, batch(usual(9, device="begins")), batch(usual(1, 9, device="begins", b=300.0)))
    assert "point" in of(pipeline, "begins").tracks
    idle = [stream.devices.names[slot] for slot in stream.idle_devices(100)]
    assert idle == ["first", "second", "third", "fourth"]
    assert [stream.devices.names[slot] for slot in stream.idle_devices(2)] == ["first", "second"]


def test_without_silence_a_known_device_is_idle() -> None:
    """Nothing happens to it but by its own readings."""
    pipeline = pump(silence_at_least=None)
    events(pipeline, batch(usual(150)))
    assert pipeline.streams["s"].idle_devices(9) == [0]
    events(pipeline, batch(usual(1, 150, a=30.0)))
    assert pipeline.streams["s"].idle_devices(9) == []
    events(pipeline, batch(usual(20, 151)), Tick(START + 171 * SECOND))
    assert pipeline.streams["s"].idle_devices(9) == [0]


def test_devices_that_fall_silent_together_are_told_in_order() -> None:
    """By the time of their last reading, then by name: not by slots, which another process deals anew."""
    pipeline = pump()
    for name, start in (("z", 0), ("y", 1), ("x", 0)):
        events(pipeline, batch(usual(40, start, device=name)))
    found = events(pipeline, Tick(START + 100 * SECOND))
    assert [event.device for event in found if isinstance(event, AlertChanged)] == ["x", "z", "y"]


def test_silence_that_lasts_touches_nobody() -> None:
    """A device that is gone for ever is written down when its alert is told, not with every tick."""
    pipeline = pump()
    events(pipeline, batch(usual(40)))
    outcomes = [pipeline.process(Tick(START + k * SECOND))["s"] for k in range(40, 540)]
    told = [k for k, outcome in enumerate(outcomes) if outcome.events]
    assert [k for k, outcome in enumerate(outcomes) if outcome.touched.size] == told
    assert 3 <= len(told) <= 9
    assert alerts(outcomes[told[-1]].events) == [("update", "silence", len(told))]


def test_silence_that_is_held_back_is_raised_when_it_is_bad_enough() -> None:
    """Until then its ticks touch nobody; its alert begins with the last reading all the same."""
    pipeline = pump(policy=replace(POLICY, min_severity="critical"))
    events(pipeline, batch(usual(40)))  # one a second: 5 s of silence are a warning, 10 s critical
    outcomes = [pipeline.process(Tick(START + (39 + k) * SECOND))["s"] for k in range(12)]
    assert [k for k, outcome in enumerate(outcomes) if outcome.touched.size] == [5, 10]
    assert [alerts(outcome.events) for outcome in outcomes if outcome.events] == [
        [],
        [("raise", "silence", 1)],
    ]
    assert pipeline.streams["s"].open_alerts()[0].started_at == START + 39 * SECOND


def test_a_stream_is_never_without_a_live_detector() -> None:
    """A detector beside it may go, the live one can only be replaced."""
    pipeline = pump()
    with pytest.raises(ValueError, match="stream s cannot be without a live detector"):
        pipeline.process(ModelSet(START, "s", "live", ""))
