"""One message may bring readings of many devices, and be readable only by what another one declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.core.records import TopicState
from stream_detector.formats import FORMATS, topic_states
from stream_detector.formats.intake import Intake
from stream_detector.formats.settings import IntakeSettings
from tests.formats.decoding import NOW, Room, only, refusal, rows, take, tally
from tests.formats.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.formats.taken import Taken

UP = "gateways/{site}"
BIRTH = b"birth 7=temp 8=rpm"
DUP = 8


@pytest.fixture(autouse=True)
def _gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `format: json` be the gateways' format."""
    monkeypatch.setitem(FORMATS, "json", Gateway)  # type: ignore[arg-type]  # a dict, in truth


def intake(*, room: int = 100, **settings: Any) -> Intake:
    """Return an intake for gateways."""
    streams = {"pumps": IntakeSettings.model_validate({"topic": UP, **settings})}
    return Intake(streams, base="base", admission=Room(room))


def send(into: Intake, *payloads: bytes, site: str = "n", ids: Sequence[int] = (), flags: int = 0) -> Taken:
    """Take messages of a gateway as one batch."""
    count = len(payloads)
    return into.take(
        [f"gateways/{site}".encode()] * count, payloads, [flags] * count, NOW, packet_ids=ids or None
    )


def states(taken: Taken) -> list[tuple[str, bytes]]:
    """Return what is to be kept."""
    assert all(each.stream == "pumps" and each.at == NOW for each in taken.states)
    return [(each.topic, each.content) for each in taken.states]


def test_a_message_brings_readings_of_many_devices() -> None:
    """Each device has its channels, its tags and an instant of its own; the next message comes after them."""
    into = intake()
    taken = send(into, BIRTH, b"data a 7=1 8=2 | b 7=3 | a 7=4", b"data c 8=5")
    readings = only(taken)
    assert rows(readings) == [
        ("a", {"temp": 1, "rpm": 2}),
        ("b", {"temp": 3}),
        ("a", {"temp": 4}),
        ("c", {"rpm": 5}),
    ]
    assert readings.tags == {device: {"site": "n"} for device in "abc"}
    assert readings.index.tolist() == [0, 1, 2, 0]
    assert readings.ts.tolist() == [NOW + 1, NOW + 2, NOW + 3, NOW + 4]
    assert readings.arrival.tolist() == [NOW + 1] * 3 + [NOW + 4]
    assert only(send(into, b"data d 7=1")).arrival.tolist() == [NOW + 5]


def test_a_device_is_named_by_topic_and_payload() -> None:
    """The stream's template holds for every device in a message."""
    readings = only(send(intake(device="{site}-{device}"), BIRTH, b"data a 7=1 | b 7=2"))
    assert readings.devices == ["n-a", "n-b"]


def test_each_reading_is_admitted_on_its_own() -> None:
    """No room for a device, too many channels or an impossible name cost that reading only."""
    taken = send(intake(room=2), BIRTH, b"data a 7=1 | b 7=2 | c 7=3 | a 8=4")
    assert rows(taken.readings[0]) == [("a", {"temp": 1}), ("b", {"temp": 2}), ("a", {"rpm": 4})]
    assert tally(taken).refused_readings == {"device_limit": 1}
    assert taken.rejected[0].message.startswith("element 2 of the list: ")
    taken = send(intake(max_channels=1), BIRTH, b"data a 7=1 8=2 | b 7=2 | b 8=3")
    assert rows(taken.readings[0]) == [("b", {"temp": 2})]
    assert tally(taken).refused_readings == {"channel_limit": 2}
    taken = send(intake(), BIRTH, b"data a\x01 7=1 | b 7=2 | c 9=1")
    assert rows(taken.readings[0]) == [("b", {"temp": 2})]
    assert tally(taken).refused_readings == {"device_name": 1, "channel_name": 1}
    counts = tally(taken)
    assert (counts.received, counts.accepted, counts.rejected) == (2, 2, {})


@pytest.mark.parametrize("end", [b"poison", b"fault"])
def test_a_message_that_is_refused_late_leaves_nothing_behind(end: bytes) -> None:
    """Its readings and the devices that were new by them are taken back, whatever went wrong."""
    into = intake()
    send(into, BIRTH, b"data a 7=1")
    taken = send(into, b"data a 7=2", b"data a 7=3 | b 7=4 | %s 7=0" % end, b"data c 8=5")
    assert rows(taken.readings[0]) == [("a", {"temp": 2}), ("c", {"rpm": 5})]
    assert sum(tally(taken).rejected.values()) == len(taken.rejected) == 1
    assert taken.readings[0].tags == {"c": {"site": "n"}}
    readings = only(send(into, b"data b 7=6"))
    assert (readings.devices, readings.tags) == (["b"], {"b": {"site": "n"}})


def test_a_state_holds_from_its_message_on() -> None:
    """Inside a batch as between two; it belongs to its topic, and each change is to be kept, in order."""
    into = intake()
    assert tally(send(into, b"data a 7=1")).refused_readings == {"channel_name": 1}
    taken = send(into, BIRTH, b"data a 7=1", b"birth 7=rpm", b"data b 7=2", b"death", b"birth 7=oil")
    assert rows(taken.readings[0]) == [("a", {"temp": 1}), ("b", {"rpm": 2})]
    assert states(taken) == [("n", b"7=temp 8=rpm"), ("n", b"7=rpm"), ("n", b""), ("n", b"7=oil")]
    assert rows(only(send(into, b"data a 7=1"))) == [("a", {"oil": 1})]
    assert tally(send(into, b"data a 7=1", site="s")).refused_readings == {"channel_name": 1}


def test_what_does_not_change_is_not_kept_again() -> None:
    """A gateway that declares the same every minute costs nothing."""
    into = intake()
    assert len(states(send(into, BIRTH))) == 1
    assert states(send(into, BIRTH, BIRTH)) == []
    assert states(send(into, b"death", BIRTH)) == [("n", b""), ("n", b"7=temp 8=rpm")]


def test_a_refused_message_changes_no_state() -> None:
    """What it had declared is taken back."""
    into = intake()
    send(into, BIRTH)
    taken = send(into, b"birth 7=broken")
    assert (refusal(taken)[0], states(taken)) == ("malformed", [])
    assert rows(only(send(into, b"data a 7=1"))) == [("a", {"temp": 1})]


def test_states_come_back() -> None:
    """What was kept is there before the first message; what no stream wants any more is passed over."""
    into = intake()
    into.begin()
    into.restore([TopicState(1, "pumps", "n", b"7=temp"), TopicState(1, "gone", "n", b"7=x")])
    taken = send(into, b"data a 7=1", b"birth 7=temp")
    assert rows(taken.readings[0]) == [("a", {"temp": 1})]
    assert states(taken) == []
    into.begin()
    assert tally(send(into, b"data a 7=1")).refused_readings == {"channel_name": 1}


def test_a_format_without_state_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose format was changed does not carry what the old one remembered."""
    monkeypatch.undo()
    into = intake()
    into.restore([TopicState(1, "pumps", "n", b"7=temp")])
    assert take((UP, b"{}"), into=into).states == []


def test_a_message_that_comes_again_is_passed_over() -> None:
    """By a later state it would mean something else: neither what it gave nor what was refused changes."""
    into = intake()
    send(into, BIRTH, b"data a 7=1 | b 9=1", b"birth 7=rpm 9=oil", ids=[1, 2, 3])
    taken = send(into, BIRTH, b"data a 7=1 | b 9=1", b"birth 7=rpm 9=oil", ids=[1, 2, 3], flags=DUP)
    assert (taken.readings, taken.rejected, taken.states) == ([], [], [])
    counts = tally(taken)
    assert (counts.received, counts.accepted) == (3, 3)
    assert rows(only(send(into, b"data a 7=1", ids=[2]))) == [("a", {"rpm": 1})]


def test_states_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many topics, so many bytes: what is beyond is refused in a sentence, and what was there stays."""
    monkeypatch.setattr(topic_states, "MAX_TOPICS", 2)
    monkeypatch.setattr(topic_states, "MAX_BYTES", 1 << 20)
    into = intake()
    for site in ("n", "s"):
        assert len(states(send(into, BIRTH, site=site))) == 1
    taken = send(into, BIRTH, site="w")
    assert refusal(taken) == (
        "device_limit",
        "'w' would be one more than the 2 topics of a stream of which something can be remembered",
    )
    send(into, b"death")
    assert len(states(send(into, BIRTH, site="w"))) == 1
    monkeypatch.setattr(topic_states, "MAX_BYTES", 40)
    assert len(states(send(into, b"birth 7=" + b"x" * 20, site="w"))) == 1  # 23 with its name, and 13 of s
    taken = send(into, b"birth 7=" + b"x" * 25, site="w")
    assert refusal(taken)[0] == "too_large"
    assert rows(only(send(into, b"data a 7=1", site="w"))) == [("a", {"x" * 20: 1})]
    assert states(send(into, b"birth 7=" + b"y" * 20, site="w")) == [("w", b"7=" + b"y" * 20)]


def test_a_state_is_the_same_object_until_it_changes() -> None:
    """A format can keep what it has made of it; a change that a message takes back itself is none."""
    kept = topic_states.TopicStates("pumps")
    first = b"7=temp"
    kept.put("n", first)
    kept.accept(NOW)
    kept.put("n", bytes(bytearray(first)))
    assert kept.get("n") is first
    kept.put("n", b"7=rpm")
    kept.put("n", first)
    kept.accept(NOW)
    assert kept.take() == [TopicState(NOW, "pumps", "n", first)]
