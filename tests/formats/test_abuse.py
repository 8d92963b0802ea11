"""The abuse corpus: each payload is refused for its reason, in a sentence that says what to do."""

from __future__ import annotations

import json

import pytest

from stream_detector.core.events import REJECTIONS
from tests.formats.decoding import PUMP, intake, only, refusal, rows, take, tally


def value(text: str) -> bytes:
    """Return a payload with one value, as it stands in the JSON."""
    return b'{"values": {"x": %s}}' % text.encode()


def field(text: str) -> bytes:
    """Return a payload with one more field."""
    return b'{"values": {"x": 1}, %s}' % text.encode()


def device(name: str) -> bytes:
    """Return a payload that names its device."""
    return json.dumps({"device_id": name, "values": {"x": 1}}).encode()


NESTED = 100_000
CORPUS = [
    pytest.param(b"", "empty", "send a JSON object", id="nothing"),
    pytest.param(b" \r\n\t", "empty", "send a JSON object", id="only spaces"),
    pytest.param(b"{", "malformed", "no JSON", id="an open brace"),
    pytest.param(b"hello", "malformed", "no JSON", id="plain text"),
    pytest.param(b"'x'", "malformed", "no JSON", id="single quotes"),
    pytest.param(value("1") + b"}", "malformed", "trailing", id="a brace too much"),
    pytest.param(value("1") + value("2"), "malformed", "trailing", id="two objects"),
    pytest.param(value("1") + b"\x00", "malformed", "trailing", id="a NUL at the end"),
    pytest.param(b'{"values": {"x": 1},}', "malformed", "no JSON", id="a comma too much"),
    pytest.param(value("0x10"), "malformed", "no JSON", id="hexadecimal"),
    pytest.param(value("01"), "malformed", "no JSON", id="a leading zero"),
    pytest.param(value("+1"), "malformed", "no JSON", id="a plus"),
    pytest.param(value("1."), "malformed", "no JSON", id="half a number"),
    pytest.param(value("1") + b"// x", "malformed", "no JSON", id="a comment"),
    pytest.param(b"[" * NESTED, "too_large", "send smaller", id="nested deeply and large"),
    pytest.param(b"[" * 60_000, "malformed", "nested too deeply", id="a deep list"),
    pytest.param(b'{"a":' * 13_000 + b"1", "malformed", "nested too deeply", id="a deep object"),
    pytest.param(
        value("[" * 30_000 + "]" * 30_000), "wrong_type", "a number, not a list", id="a deep list as a value"
    ),
    pytest.param(b"\xef\xbb\xbf" + value("1"), "malformed", "no JSON", id="a byte order mark"),
    pytest.param(value("1").decode().encode("utf-16"), "encoding", "not UTF-8 from byte 0", id="UTF-16"),
    pytest.param(value("1").decode().encode("utf-16-le"), "malformed", "no JSON", id="UTF-16 without mark"),
    pytest.param(b'{"values": {"\xff": 1}}', "encoding", "not UTF-8 from byte 13", id="a broken channel"),
    pytest.param(
        b'{"device_id": "\xc3\x28", "values": {"x": 1}}', "encoding", "not UTF-8", id="a broken device"
    ),
    pytest.param(b"null", "wrong_type", "must be an object", id="null"),
    pytest.param(b"true", "wrong_type", "must be an object", id="true"),
    pytest.param(b"17", "wrong_type", "must be an object", id="a bare number"),
    pytest.param(b'"x"', "wrong_type", "must be an object", id="a bare string"),
    pytest.param(b"[]", "no_values", "at least one reading", id="an empty list"),
    pytest.param(b"{}", "no_values", 'send {"values"', id="an empty object"),
    pytest.param(b'{"values": {}}', "no_values", "at least one channel", id="empty values"),
    pytest.param(b'{"values": null}', "wrong_type", "$.values must be an object", id="values are null"),
    pytest.param(b'{"values": 3}', "wrong_type", "$.values must be an object", id="values are a number"),
    pytest.param(b'{"values": [1]}', "wrong_type", "$.values must be an object", id="values are a list"),
    pytest.param(value("null"), "no_values", "at least one channel", id="a value is null"),
    pytest.param(value("true"), "wrong_type", "must be a number, not true/false", id="true as a number"),
    pytest.param(value('"2"'), "wrong_type", "must be a number, not text", id="text as a number"),
    pytest.param(value("{}"), "wrong_type", "must be a number", id="an object as a number"),
    pytest.param(value("[1]"), "wrong_type", "must be a number", id="a list as a number"),
    pytest.param(value("NaN"), "not_finite", "leave the channel out", id="NaN"),
    pytest.param(value("Infinity"), "not_finite", "leave the channel out", id="Infinity"),
    pytest.param(value("-Infinity"), "not_finite", "leave the channel out", id="-Infinity"),
    pytest.param(value("nan"), "not_finite", "leave the channel out", id="nan"),
    pytest.param(value('"NaN"'), "wrong_type", "must be a number", id="NaN in a string"),
    pytest.param(value("1e999"), "not_finite", "too large", id="1e999"),
    pytest.param(value("-1e999"), "not_finite", "too large", id="-1e999"),
    pytest.param(value("9" * 400), "not_finite", "too large", id="400 digits"),
    pytest.param(field('"ts": "yesterday"'), "timestamp", "RFC 3339", id="a word as the time"),
    pytest.param(field('"ts": ""'), "timestamp", "RFC 3339", id="an empty time"),
    pytest.param(field('"ts": "2026-01-01T00:00:00"'), "timestamp", "with a zone", id="a time without zone"),
    pytest.param(field('"ts": "2026-13-01T00:00:00Z"'), "timestamp", "RFC 3339", id="month 13"),
    pytest.param(field('"ts": true'), "timestamp", "RFC 3339", id="true as the time"),
    pytest.param(field('"ts": {}'), "timestamp", "RFC 3339", id="an object as the time"),
    pytest.param(field('"ts": NaN'), "not_finite", "no JSON numbers", id="NaN as the time"),
    pytest.param(field('"ts": "9999-12-31T23:59:59Z"'), "time_bounds", "device's clock", id="the year 9999"),
    pytest.param(field('"ts": "1969-12-31T23:59:59Z"'), "time_bounds", "device's clock", id="the year 1969"),
    pytest.param(
        field('"ts": "0001-01-01T00:00:00+14:00"'), "time_bounds", "device's clock", id="the year 1"
    ),
    pytest.param(field('"ts": 0'), "time_bounds", "device's clock", id="the epoch"),
    pytest.param(field('"ts": -1'), "time_bounds", "device's clock", id="before the epoch"),
    pytest.param(field('"ts": 1e308'), "time_bounds", "device's clock", id="1e308 as the time"),
    pytest.param(field('"ts": -1e308'), "time_bounds", "device's clock", id="-1e308 as the time"),
    pytest.param(
        field('"ts": %s' % ("9" * 400)), "time_bounds", "device's clock", id="400 digits as the time"
    ),
    pytest.param(field('"ts": 1770000301'), "time_bounds", "ahead", id="301 s ahead"),
    pytest.param(field('"seq": 1.5'), "seq", "whole number", id="a fraction as seq"),
    pytest.param(field('"seq": "1"'), "seq", "whole number", id="text as seq"),
    pytest.param(field('"seq": true'), "seq", "whole number", id="true as seq"),
    pytest.param(field('"seq": 4611686018427387905'), "seq", "2^62", id="2^62 + 1 as seq"),
    pytest.param(field('"seq": %s' % ("9" * 400)), "seq", "whole number", id="400 digits as seq"),
    pytest.param(field('"device_id": 17'), "device_name", "must be a string", id="a number as the device"),
    pytest.param(device("pump-2"), "device_mismatch", "the topic says 'pump-1'", id="another device"),
    pytest.param(device("PUMP-1"), "device_mismatch", "the topic says 'pump-1'", id="another case"),
    pytest.param(device("pump-1\n"), "device_mismatch", "'pump-1\\n'", id="a newline more"),
    pytest.param(device(""), "device_mismatch", "the topic says 'pump-1'", id="an empty device"),
    pytest.param(value("1").replace(b"x", b""), "channel_name", "it is empty", id="an empty channel"),
    pytest.param(value("1").replace(b"x", b"a\\u0000b"), "channel_name", "U+0000", id="NUL in a channel"),
    pytest.param(value("1").replace(b"x", b"a" * 129), "channel_name", "more than 128", id="a long channel"),
]


@pytest.mark.parametrize(("payload", "reason", "says"), CORPUS)
def test_refused(payload: bytes, reason: str, says: str) -> None:
    """Nothing of it becomes a reading; the sentence is one line, whatever the payload holds."""
    found, sentence = refusal(take(payload))
    assert (found, says in sentence) == (reason, True), (found, sentence)
    assert found in REJECTIONS
    assert len(sentence) < 300
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("a\nb", "a control character (U+000A)", id="newline"),
        pytest.param("a\x00b", "a control character (U+0000)", id="NUL"),
        pytest.param("a\x7fb", "a control character (U+007F)", id="delete"),
        pytest.param("pump\u202e1", "a format character (U+202E)", id="right to left"),
        pytest.param("pump\ufeff", "a format character (U+FEFF)", id="byte order mark"),
        pytest.param("", "it is empty", id="empty"),
        pytest.param("a" * 129, "129 characters, more than 128", id="too long"),
    ],
)
def test_a_device_name_that_is_none(name: str, says: str) -> None:
    """The name is shown escaped, and the sentence says what is wrong with it."""
    found, sentence = refusal(take(("plant", device(name)), topic="plant"))
    assert (found, says in sentence) == ("device_name", True), (found, sentence)
    assert sentence.isprintable()


@pytest.mark.parametrize("name", ["pump-017", "Kühlhaus 3", "a" * 128, "泵", "+/#", "<b>", "{device}"])
def test_a_device_name_that_is_one(name: str) -> None:
    """Any visible text of 1 to 128 characters, and spaces."""
    assert only(take(("plant", device(name)), topic="plant")).devices == [name]


def test_a_lone_surrogate_names_nothing() -> None:
    """JSON can escape half a character; it is refused like other broken text."""
    for content in (b'{"device_id": "\\ud800", "values": {"x": 1}}', b'{"values": {"\\udfff": 1}}'):
        found, sentence = refusal(take(("plant", content), topic="plant"))
        assert found in {"device_name", "channel_name", "malformed"}
        assert sentence.isprintable()


def test_duplicate_keys() -> None:
    """The last one wins, as in most JSON decoders."""
    content = b'{"values": {"x": 7}, "values": {"x": 1, "x": 2}}'
    assert rows(only(take(content))) == [("pump-1", {"x": 2.0})]


def test_fields_that_nobody_knows() -> None:
    """They are passed over, whatever they hold; text in them need not even be UTF-8."""
    for more in (b'[{"values": {"x": "text"}}]', b"null", b'"\xff"', b"9" * 400):
        content = b'{"more": ' + more + b', "values": {"x": 1}}'
        assert rows(only(take(content))) == [("pump-1", {"x": 1.0})]


def test_a_payload_above_the_limit() -> None:
    """65,536 bytes are taken; one more, or five million of extra keys, are not even looked at."""
    good = value("1")
    assert len(only(take(good + b" " * (65_536 - len(good))))) == 1
    assert refusal(take(good + b" " * (65_537 - len(good))))[0] == "too_large"
    keys = b", ".join(b'"key %d": 0' % k for k in range(350_000))
    found, sentence = refusal(take(b'{"values": {"x": 1}, ' + keys + b"}"))
    assert (found, f"{len(keys) + 22} bytes" in sentence) == ("too_large", True), sentence


def test_neither_topic_nor_payload_names_the_device() -> None:
    """The sentence says how to name it."""
    found, sentence = refusal(take(("plant", value("1")), topic="plant"))
    assert (found, "add device_id" in sentence) == ("device_missing", True)


def test_a_refused_message_leaves_no_trace() -> None:
    """What comes after the whole corpus is taken as if nothing had been before."""
    pumps = intake()
    good = field('"seq": 7')
    for case in CORPUS:
        taken = take(case.values[0], good, into=pumps)  # type: ignore[arg-type]
        assert (tally(taken).accepted, len(taken.rejected)) == (1, 1)
        (readings,) = taken.readings
        assert rows(readings) == [("pump-1", {"x": 1.0})]
        assert readings.seq.tolist() == [7]


def test_a_dead_letter_holds_the_beginning() -> None:
    """Size and hash are of the whole payload, the head is its first kilobyte."""
    (rejected,) = take(b"x" * 5000).rejected
    assert (rejected.size, rejected.head, rejected.topic) == (5000, b"x" * 1024, PUMP)
    assert rejected.stream == "pumps"
