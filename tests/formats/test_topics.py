"""What a topic says: which stream and device it means, and what stands in it besides."""

from __future__ import annotations

import pytest

from stream_detector.formats import routing
from stream_detector.formats.intake import Intake
from stream_detector.formats.settings import IntakeSettings
from stream_detector.formats.taken import Oversized
from tests.formats.decoding import NOW, Room, intake, only, refusal, take, tally

GOOD = b'{"values": {"x": 1}}'


def test_captures_become_tags() -> None:
    """Those that do not name the device are said once, when the device is new."""
    pumps = intake(topic="{area}/+/{site}/{device}/#")
    readings = only(take(("west/x/north/p1/a/b", GOOD), ("west/y/north/p1", GOOD), into=pumps))
    assert readings.devices == ["p1", "p1"]
    assert dict(readings.tags) == {"p1": {"area": "west", "site": "north"}}
    assert only(take(("west/x/north/p1", GOOD), into=pumps)).tags == {}


@pytest.mark.parametrize(
    ("topic", "template", "sent", "payload", "device"),
    [
        ("{site}/{device}", "{device}", "north/p1", GOOD, "p1"),
        ("{site}/{device}", "{site}-{device}", "north/p1", GOOD, "north-p1"),
        ("{site}/{cell}", "{site}/{cell}", "north/7", GOOD, "north/7"),
        ("{site}/up", "{site}:{device}", "north/up", b'{"device_id": "p", "values": {"x": 1}}', "north:p"),
        ("{site}/{device}", "{device}", "north/p", b'{"device_id": "p", "values": {"x": 1}}', "p"),
        ("up", "{device}", "up", b'{"device_id": "a b", "values": {"x": 1}}', "a b"),
        ("{site}/{device}", "{device}", "/{site}", GOOD, None),
        ("a/{device}", "{device}", "a/{site}", GOOD, "{site}"),
    ],
)
def test_the_device_is_a_template(
    topic: str, template: str, sent: str, payload: bytes, device: str | None
) -> None:
    """It is filled from the captures and the payload's device; values are never read as templates."""
    taken = take((sent, payload), topic=topic, device=template)
    if device is None:
        assert refusal(taken)[0] == "topic"
    else:
        assert only(taken).devices == [device]


def test_a_template_fills_up() -> None:
    """Parts that are names may make a whole that is none."""
    taken = take((f"{'a' * 100}/{'b' * 100}", GOOD), topic="{site}/{device}", device="{site}{device}")
    assert refusal(taken)[0] == "device_name"


def test_one_device_under_two_topics() -> None:
    """It stays one device and is pointed out once."""
    pumps = intake()
    assert only(take(("plant/n/p", GOOD), ("plant/s/p", GOOD), into=pumps)).devices == ["p", "p"]
    assert pumps.devices_with_other_captures() == [("pumps", "p")]
    assert pumps.devices_with_other_captures() == []


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (b"plant/north/", "device_name"),
        (b"plant//p1", "topic"),
        (b"plant/north/a\x01b", "device_name"),
        ("plant/\u202e/p1".encode(), "topic"),
        (b"plant/" + b"n" * 60_000 + b"/p1", "topic"),
    ],
)
def test_a_topic_that_names_badly(topic: bytes, reason: str) -> None:
    """It is refused, again and again, and the log can show it."""
    pumps = intake()
    for _ in range(2):
        taken = pumps.take([topic], [GOOD], [0], NOW)
        assert refusal(taken)[0] == reason
        assert taken.rejected[0].received_at == NOW
        assert taken.rejected[0].size == len(GOOD)


def test_a_topic_that_is_no_utf8() -> None:
    """It belongs to no stream."""
    taken = intake().take([b"plant/\xff/p1"], [GOOD], [0], NOW)
    assert dict(taken.tallies[""].rejected) == {"topic": 1}


def test_many_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are remembered up to a limit, long ones not at all; devices stay who they are."""
    monkeypatch.setattr(routing, "MAX_ROUTES", 10)
    pumps = intake()
    for number in range(25):
        only(take((f"plant/s{number}/p{number}", GOOD), ("plant/n/p", GOOD), into=pumps))
    pumps.take([b"plant/" + b"n" * 60_000 + b"/p1"], [GOOD], [0], NOW)
    assert len(pumps._router.known) <= 10
    assert max(map(len, pumps._router.known)) < 20
    assert len(pumps._streams["pumps"]._tags) <= 11
    assert pumps.devices_with_other_captures() == []


def test_what_is_not_for_us() -> None:
    """Other topics, and everything below our own base, are counted and not read."""
    taken = take(
        *[("elsewhere", GOOD), ("plant/north", GOOD), ("base/state/x", GOOD), ("base", GOOD)],
        topic="plant/{site}/{device}",
    )
    assert (taken.readings, taken.rejected) == ([], [])
    assert dict(taken.tallies[""].ignored) == {"no_stream": 2, "own_topic": 2}
    assert taken.own == [("base/state/x", GOOD), ("base", GOOD)]


def test_a_base_is_whole_levels() -> None:
    """A topic that only begins like ours is telemetry; a stream for everything never takes ours."""
    taken = take(("baseline", GOOD), ("base/x", GOOD), topic="#", device="{device}")
    assert dict(tally(taken).rejected) == {"device_missing": 1}
    assert dict(taken.tallies[""].ignored) == {"own_topic": 1}


def test_retained_messages() -> None:
    """They are ignored, unless the stream wants them."""
    assert dict(tally(take(GOOD, b"garbage", flags=1)).ignored) == {"retained": 2}
    assert len(only(take(GOOD, flags=1, retained="use"))) == 1
    assert len(only(take(GOOD, flags=0b1010))) == 1, "DUP and QoS are not the retain bit"


def test_streams_side_by_side() -> None:
    """A topic belongs to the stream whose pattern it matches; each stream has its own tally."""
    streams = {
        "a": IntakeSettings(topic="a/{device}"),
        "b": IntakeSettings(topic="b/{device}", format="scalar"),
    }
    both = Intake(streams, base="base", admission=Room())
    assert both.filters == ["a/+", "b/+"]
    taken = both.take([b"a/1", b"b/1", b"b/1"], [GOOD, b"1", GOOD], [0, 0, 0], NOW)
    assert [readings.stream for readings in taken.readings] == ["a", "b"]
    assert [(tally.received, tally.accepted) for tally in taken.tallies.values()] == [(1, 1), (2, 1)]


def test_a_payload_that_was_cut() -> None:
    """Where only its beginning was kept, size and hash are those of the whole."""
    taken = intake().take(
        [b"plant/n/p"] * 2, [GOOD, GOOD], [0, 0], NOW, {0: Oversized(size=10_000_000, sha256="ab")}
    )
    (rejected,) = taken.rejected
    assert (rejected.reason, rejected.size, rejected.sha256) == ("too_large", 10_000_000, "ab")
    assert tally(taken).accepted == 1


@pytest.mark.parametrize(
    "template", ["{device.x}", "{device!r}", "{device:>9}", "{device} {", "{0}", "{}", "x"]
)
def test_templates_that_are_none(template: str) -> None:
    """What could fail with every message is refused with the configuration."""
    with pytest.raises(ValueError, match="device"):
        IntakeSettings(topic="a/{device}", device=template)
