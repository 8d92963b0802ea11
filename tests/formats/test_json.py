"""The canonical payload: times, numbers, lists, declared channels, and coercion."""

from __future__ import annotations

import json
import math

import pytest

from stream_detector.core.records import NO_SEQ
from tests.formats.decoding import NOW, intake, only, refusal, rows, take, tally

NEW_YEAR = 1_767_225_600_000_000


def at(ts: str) -> int:
    """Return the event time that a `ts` is read as."""
    return int(only(take(b'{"values": {"x": 1}, "ts": %s}' % ts.encode())).ts[0])


def listed(*elements: object) -> bytes:
    """Return a list as a payload."""
    return json.dumps(elements).encode()


@pytest.mark.parametrize(
    ("ts", "microseconds"),
    [
        pytest.param('"2026-01-01T00:00:00Z"', NEW_YEAR, id="UTC"),
        pytest.param('"2026-01-01T05:30:00+05:30"', NEW_YEAR, id="another zone"),
        pytest.param('"2025-12-31T20:00:00.5-04:00"', NEW_YEAR + 500_000, id="half a second"),
        pytest.param('"2026-01-01T00:00:00.123456Z"', NEW_YEAR + 123_456, id="microseconds"),
        pytest.param('"2026-01-01T00:00:00.123456789Z"', NEW_YEAR + 123_457, id="nanoseconds are rounded"),
        pytest.param('"2026-01-01 00:00:00Z"', NEW_YEAR, id="a space instead of T"),
        pytest.param("1767225600", NEW_YEAR, id="seconds"),
        pytest.param("1767225600.25", NEW_YEAR + 250_000, id="seconds with a fraction"),
        pytest.param("1767225600000", NEW_YEAR, id="milliseconds"),
        pytest.param("1767225600000.5", NEW_YEAR + 500, id="milliseconds with a fraction"),
        pytest.param("1.7672256e9", NEW_YEAR, id="seconds with an exponent"),
        pytest.param("946684801", 946_684_801_000_000, id="the first second of 2000"),
        pytest.param("1770000299", 1_770_000_299_000_000, id="not quite five minutes ahead"),
        pytest.param("null", NOW, id="null: the arrival"),
    ],
)
def test_times(ts: str, microseconds: int) -> None:
    """RFC 3339 with a zone, or seconds or milliseconds since 1970; to the microsecond."""
    assert at(ts) == microseconds


def test_the_arrival_where_there_is_no_time() -> None:
    """Each message has an instant of its own, and the elements of a list follow one another."""
    one, three = b'{"values": {"x": 1}}', listed(*[{"values": {"x": 1}}] * 3)
    readings = only(take(one, one, three))
    assert readings.ts.tolist() == [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4]
    assert readings.arrival.tolist() == [NOW, NOW + 1, NOW + 2, NOW + 2, NOW + 2]
    assert readings.index.tolist() == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("number", [0, -1, 2**62, -(2**62)])
def test_numbers_of_readings(number: int) -> None:
    """`seq` is any whole number up to 2^62; where it is absent there is none."""
    with_it = b'{"seq": %d, "values": {"x": 1}}' % number
    assert only(take(with_it, b'{"values": {"x": 1}}')).seq.tolist() == [number, NO_SEQ]


def test_values() -> None:
    """Whole numbers are taken as they are; a channel that is null was not reported."""
    content = b'{"values": {"a": 1, "b": -2.5e-3, "c": null, "d": 1e308, "e": 123456789012345678901}}'
    assert rows(only(take(content))) == [
        ("pump-1", {"a": 1.0, "b": -0.0025, "d": 1e308, "e": 123456789012345678901.0})
    ]


def test_one_bad_element() -> None:
    """A list is checked element by element: one is refused, with its place, the others are taken."""
    good = {"values": {"x": 1}}
    bad = [{"values": {"x": True}}, {"values": {"x": 1}, "ts": "?"}, 7, {}, {"values": {"a\n": 1}}, []]
    taken = take(listed(good, *bad, good))
    assert len(taken.readings[0]) == 2
    assert taken.readings[0].index.tolist() == [0, 7]
    assert [rejected.reason for rejected in taken.rejected] == [
        *("wrong_type", "timestamp", "wrong_type", "no_values", "channel_name", "wrong_type")
    ]
    assert [rejected.message.split(":")[0] for rejected in taken.rejected] == [
        f"element {k} of the list" for k in range(1, 7)
    ]
    assert not any(rejected.whole for rejected in taken.rejected)
    assert (tally(taken).accepted, sum(tally(taken).rejected.values())) == (1, 0)
    assert tally(taken).refused_readings.total() == 6


def test_an_element_that_is_no_utf8() -> None:
    """It is refused alone, like any other bad element."""
    taken = take(b'[{"values": {"x": 1}}, {"values": {"\xff": 1}}, {"values": {"x": 2}}]')
    assert [values for _, values in rows(taken.readings[0])] == [{"x": 1.0}, {"x": 2.0}]
    assert dict(tally(taken).refused_readings) == {"encoding": 1}


def test_a_list_of_nothing_but_rubbish() -> None:
    """The message counts as accepted, each of its elements as refused."""
    taken = take(listed(1, 2))
    assert (taken.readings, tally(taken).accepted) == ([], 1)
    assert dict(tally(taken).refused_readings) == {"wrong_type": 2}


def test_a_list_that_breaks_off() -> None:
    """Nothing of it is taken."""
    assert refusal(take(b'[{"values": {"x": 1}}, {"values": {"x": 2}'))[0] == "malformed"


def test_declared_channels() -> None:
    """Only they are looked at, in their order; one that is absent or null is NaN."""
    channels: dict[str, dict[str, float]] = {"b": {}, "a": {}}
    content = b'{"values": {"a": 1, "other": "text", "b": null}}'
    ((_, values),) = rows(only(take(content, channels=channels)))
    assert list(values) == ["b", "a"]
    assert math.isnan(values["b"])
    assert values["a"] == 1.0
    reason, sentence = refusal(take(b'{"values": {"other": 1}}', channels=channels))
    assert (reason, sentence.endswith("b, a")) == ("no_values", True)
    assert refusal(take(b'{"values": {"a": "1"}}', channels=channels))[0] == "wrong_type"


def test_coercion() -> None:
    """With `coerce` numbers in strings and true/false are taken, in `values`, `ts` and `seq`."""
    content = b'{"values": {"a": "3.2", "b": true, "c": false, "d": 4}, "ts": "1767225600", "seq": "7"}'
    readings = only(take(content, coerce=True))
    assert rows(readings) == [("pump-1", {"a": 3.2, "b": 1.0, "c": 0.0, "d": 4.0})]
    assert (readings.ts.tolist(), readings.seq.tolist()) == ([NEW_YEAR], [7])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ('"x": "nan"', "not_finite"),
        ('"x": "inf"', "not_finite"),
        ('"x": "1e999"', "not_finite"),
        ('"x": %s' % ("9" * 400), "not_finite"),
        ('"x": "on"', "wrong_type"),
        ('"x": ""', "wrong_type"),
        ('"x": {}', "wrong_type"),
        ('"x": [1]', "wrong_type"),
        ("", "no_values"),
    ],
)
def test_coercion_has_limits(values: str, reason: str) -> None:
    """What is no finite number is refused as ever."""
    assert refusal(take(b'{"values": {%s}}' % values.encode(), coerce=True))[0] == reason


def test_channels_of_one_message() -> None:
    """32 are taken, 33 are refused, with what to do."""
    wide = {f"c{k}": 1 for k in range(33)}
    reason, sentence = refusal(take(json.dumps({"values": wide}).encode()))
    assert (reason, "list the wanted ones under channels" in sentence) == ("channel_limit", True)
    del wide["c32"]
    assert len(rows(only(take(json.dumps({"values": wide}).encode())))[0][1]) == 32


def test_channels_learned_over_messages() -> None:
    """The limit holds for all that a device ever reported; what it reported before goes on."""
    pumps = intake(max_channels=3)
    for name in "abc":
        only(take(b'{"values": {"%s": 1}}' % name.encode(), into=pumps))
    reason, sentence = refusal(take(b'{"values": {"d": 1}}', into=pumps))
    assert (reason, "would have 4 channels" in sentence) == ("channel_limit", True)
    only(take(b'{"values": {"c": 1, "a": 2}}', into=pumps))
    only(take(("plant/north/pump-2", b'{"values": {"d": 1}}'), into=pumps))


def test_a_limit_of_devices() -> None:
    """Devices beyond it are refused; those that are known go on."""
    pumps = intake(max_devices=2)
    content = b'{"values": {"x": 1}}'
    only(take(("plant/a/1", content), ("plant/a/2", content), into=pumps))
    reason, sentence = refusal(take(("plant/a/3", content), into=pumps))
    assert (reason, "max_devices" in sentence) == ("device_limit", True)
    assert only(take(("plant/a/2", content), into=pumps)).devices == ["2"]
