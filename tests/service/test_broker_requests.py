"""Requests as they come over MQTT: what is wrong with them, and where their replies go."""

from __future__ import annotations

import pytest

from stream_detector.formats.taken import Oversized
from stream_detector.service.commands import NOT_YET
from tests.service.asking import Asked, wanting


@pytest.mark.parametrize(
    ("command", "request_", "code", "words"),
    [
        ("ack", {"transaction": "t"}, "bad_request", "missing required field `id`"),
        ("ack", {"transaction": "t", "id": "x"}, "bad_request", "regex"),
        ("ack", {"transaction": "t", "id": "0" * 24 + "\n"}, "bad_request", "length <= 24"),
        ("ack", {"transaction": "t", "id": "0" * 24}, "not_found", "no open alert"),
        ("feedback", {"transaction": "t", "id": "0" * 24, "verdict": "?"}, "bad_request", "Invalid enum"),
        ("forget", {"transaction": "t", "stream": "pumps", "device": "?"}, "not_found", "no device pumps/?"),
        ("forget", {"transaction": "t", "stream": "?", "device": "p"}, "not_found", "no device ?/p"),
        ("dance", {"transaction": "t"}, "unknown_command", "there are: ack, feedback"),
        *[(name, {"transaction": "t"}, "not_supported", "does not know the command") for name in NOT_YET],
    ],
)
def test_a_request_that_is_wrong_is_answered(
    kept: Asked, command: str, request_: object, code: str, words: str
) -> None:
    """By a code for programs, and a sentence for people."""
    (reply,) = kept.ask(command, request_)
    assert (reply["ok"], reply["result"], reply["error"]["code"]) == (False, None, code)
    assert words in reply["error"]["message"]
    assert kept.published[-1].topic == f"stream_detector/reply/{'unknown' if command == 'dance' else command}"
    assert kept.total("commands_total", result=code) == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[]", b"7", b'{"id": "a"}', b'{"transaction": ""}', b'{"transaction": {}}', b"[" * 5000],
)
def test_what_cannot_be_answered_is_a_dead_letter(kept: Asked, payload: bytes) -> None:
    """Without a transaction nobody would know whose answer it is."""
    (letter,) = kept.ask("ack", payload)
    assert (letter["schema"], letter["reason"]) == ("stream_detector.deadletter/1", "command")
    assert letter["topic"] == "stream_detector/cmd/ack"
    assert kept.total("commands_total", command="ack", result="dead_letter") == 1
    assert kept.total("messages_received_total") == 0


def test_a_large_request_is_refused(kept: Asked) -> None:
    """Of which only the beginning came, so it has no transaction."""
    whole = Oversized(70_000, "ab" * 32)
    (letter,) = kept.ask("ack", b'{"transaction": "t", "comm', oversized=whole)
    assert letter["message"] == "the request is too large"
    assert (letter["size"], letter["sha256"]) == (70_000, "ab" * 32)


def test_a_retained_request_is_ignored(kept: Asked) -> None:
    """Nobody asks now; it would be carried out at every start."""
    alert = kept.raise_alert()
    assert kept.ask("ack", {"transaction": "t", "id": alert}, retained=True) == []
    assert kept.total("commands_total", command="ack", result="ignored") == 1


def test_an_answer_goes_where_it_is_wanted(kept: Asked) -> None:
    """To the response topic with its correlation data, which do for a transaction, too."""
    alert = kept.raise_alert()
    properties = wanting("me/answers", b"\x00\x01")
    *_, first = kept.ask("ack", {"id": alert}, properties=properties)
    answer = kept.published[-1]
    assert (answer.topic, answer.correlation, answer.once) == ("me/answers", b"\x00\x01", True)
    assert (first["transaction"], first["ok"]) == (None, True)
    assert kept.ask("ack", {"id": alert}, properties=properties) == [first]
    (refused,) = kept.ask("ack", b"nonsense", properties=properties)
    assert refused["error"]["code"] == "bad_request"
    assert kept.ask("ack", {"id": alert}, properties=properties) == [first]


@pytest.mark.parametrize(
    "topic",
    [
        "a/#",
        "+",
        "$SYS/x",
        "$share/a/b",
        "stream_detector/alert/pumps/p",
        "stream_detector/cmd/ack",
        "plant/n/p",
        "homeassistant/device/sd_0123456789abcdef/config",
        "a\nb",
        "/" * 250,
    ],
)
def test_an_answer_is_no_input(kept: Asked, topic: str) -> None:
    """A response topic that we read ourselves, or that no topic can be, is not used."""
    (reply,) = kept.ask("ack", {"transaction": "t", "id": "0" * 24}, properties=wanting(topic))
    assert reply["error"]["code"] == "not_found"
    assert kept.published[-1].topic == "stream_detector/reply/ack"
