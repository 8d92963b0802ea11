"""Format `scalar`: one number a message."""

from __future__ import annotations

from typing import Any

import pytest

from tests.formats.decoding import NOW, only, refusal, rows, take


def scalar(payload: bytes, topic: str = "home/{device}/{channel}", **settings: Any) -> Any:
    """Take a payload on home/stove/heat."""
    return take(("home/stove/heat", payload), topic=topic, format="scalar", **settings)


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"3", 3.0),
        (b" -0.5e1\n", -5.0),
        (b"1e308", 1e308),
        (b"0", 0.0),
        (b"12345678901234567890", 12345678901234567890.0),
    ],
)
def test_numbers(payload: bytes, number: float) -> None:
    """Numbers as JSON writes them; the arrival is the time."""
    readings = only(scalar(payload))
    assert rows(readings) == [("stove", {"heat": number})]
    assert readings.ts.tolist() == [NOW]


def test_without_a_channel_in_the_topic() -> None:
    """The channel is called `value`, and other captures are tags."""
    readings = only(scalar(b"1", topic="home/{device}/{room}"))
    assert rows(readings) == [("stove", {"value": 1.0})]
    assert dict(readings.tags) == {"stove": {"room": "heat"}}


def test_the_channel_is_no_tag() -> None:
    """One device with several channels is not seen under different captures."""
    assert only(scalar(b"1")).tags == {}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b"on", "malformed"),
        (b"true", "malformed"),
        (b"null", "malformed"),
        (b'"3"', "malformed"),
        (b"3 mm/s", "malformed"),
        (b"3,5", "malformed"),
        (b"+3", "malformed"),
        (b"03", "malformed"),
        (b".5", "malformed"),
        (b"5.", "malformed"),
        (b"1_000", "malformed"),
        (b"0x10", "malformed"),
        (b"1 2", "malformed"),
        (b"3\x00", "malformed"),
        ("٣".encode(), "malformed"),
        (b'{"values": {"x": 1}}', "malformed"),
        (b"NaN", "not_finite"),
        (b"-Infinity", "not_finite"),
        (b"inf", "not_finite"),
        (b"1e999", "not_finite"),
        (b"9" * 400, "not_finite"),
        (b"\xff", "encoding"),
        ("3".encode("utf-16"), "encoding"),
        (b"1" * 65_537, "too_large"),
    ],
)
def test_refused(payload: bytes, reason: str) -> None:
    """All else is refused, in one printable sentence."""
    found, sentence = refusal(scalar(payload))
    assert (found, sentence.isprintable()) == (reason, True), sentence


def test_a_channel_that_is_not_declared() -> None:
    """It is refused; the sentence names those that are."""
    assert only(scalar(b"1", channels={"heat": {}}))
    reason, sentence = refusal(scalar(b"1", channels={"cold": {}}))
    assert (reason, sentence) == ("no_values", "channel 'heat' is not one of cold")
