"""What other programs rely on, field by field."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from stream_detector.core.events import (
    ActiveAlert,
    AlertChanged,
    AlertSuppressed,
    ChannelAdded,
    Contribution,
    DeviceStateChanged,
    Expected,
    ModelRefused,
    ModelReplaced,
    Rejected,
)
from stream_detector.outputs.messages import ModelMessage, Publications, encode_name, timestamp

START = 1_767_225_600_000_000
PUBLICATIONS = Publications("base", {"pumps": ("Fine", "Odd")})
ALERT = AlertChanged(
    event="raise",
    id="0123456789abcdef01234567",
    seq=1,
    kind="point",
    stream="pumps",
    device="pump 1",
    tags={"site": "north"},
    severity="critical",
    score=3.5,
    peak_score=3.5,
    raw_score=0.735,
    threshold=0.21,
    confidence=0.998,
    started_at=START,
    updated_at=START + 1,
    ended_at=None,
    received_at=START + 2_000_000,
    values={"vibration": 9.7},
    expected={"vibration": Expected(2.3, 1.2, None)},
    contributions=(Contribution("vibration", 0.77), Contribution("temperature", 0.23)),
    reason="vibration 9.7 mm/s is above its expected 1.2–3.4 (77 % of the score)",  # noqa: RUF001 - as shown
    model_name="light",
    model_version="1",
)
STATE = DeviceStateChanged(
    stream="pumps",
    device="pump 1",
    tags={"site": "north"},
    state="alerting",
    previous="ok",
    severity="critical",
    score=3.5,
    active=(ActiveAlert("0123456789abcdef01234567", "point", "critical", START),),
    updated_at=START + 1,
)


def published(event: Any) -> tuple[str, Any, int, bool]:
    """Return topic, content, QoS and retain of what an event becomes."""
    publication = PUBLICATIONS.of(event, START + 2_001_500)
    assert publication is not None
    return publication.topic, json.loads(publication.payload), publication.qos, publication.retain


def test_an_alert() -> None:
    """Its fields are those of the contract, in its order, each of its type; it is not retained."""
    topic, content, qos, retain = published(ALERT)
    assert (topic, qos, retain) == ("base/alert/pumps/pump%201", 1, False)
    assert list(content.items()) == [
        ("schema", "stream_detector.alert/1"),
        ("id", "0123456789abcdef01234567"),
        ("seq", 1),
        ("event", "raise"),
        ("kind", "point"),
        ("stream", "pumps"),
        ("device", "pump 1"),
        ("tags", {"site": "north"}),
        ("severity", "critical"),
        ("score", 3.5),
        ("peak_score", 3.5),
        ("raw_score", 0.735),
        ("threshold", 0.21),
        ("confidence", 0.998),
        ("prediction", 1),
        ("label", "Odd"),
        ("started_at", "2026-01-01T00:00:00.000000Z"),
        ("updated_at", "2026-01-01T00:00:00.000001Z"),
        ("ended_at", None),
        ("received_at", "2026-01-01T00:00:02.000000Z"),
        ("processing_ms", 1.5),
        ("values", {"vibration": 9.7}),
        ("expected", {"vibration": {"value": 2.3, "lower": 1.2, "upper": None}}),
        (
            "contributions",
            [{"channel": "vibration", "share": 0.77}, {"channel": "temperature", "share": 0.23}],
        ),
        ("reason", "vibration 9.7 mm/s is above its expected 1.2–3.4 (77 % of the score)"),  # noqa: RUF001
        ("model", {"name": "light", "version": "1", "role": "live"}),
        ("incident", None),
        ("acknowledged", False),
        ("channels", []),
        ("ended_because", None),
    ]


def test_the_end_of_an_alert() -> None:
    """It has an end, and the prediction and label of a normal reading."""
    _, content, _, _ = published(replace(ALERT, event="clear", seq=2, ended_at=START + 5, score=0.1))
    assert (content["event"], content["ended_at"]) == ("clear", "2026-01-01T00:00:00.000005Z")
    assert (content["prediction"], content["label"], content["score"]) == (0, "Fine", 0.1)


def test_a_state() -> None:
    """Retained, with the open alerts by id, kind, severity and start."""
    topic, content, qos, retain = published(STATE)
    assert (topic, qos, retain) == ("base/state/pumps/pump%201", 1, True)
    assert content == {
        "schema": "stream_detector.state/1",
        "stream": "pumps",
        "device": "pump 1",
        "tags": {"site": "north"},
        "state": "alerting",
        "severity": "critical",
        "score": 3.5,
        "active_count": 1,
        "active": [
            {
                "id": "0123456789abcdef01234567",
                "kind": "point",
                "severity": "critical",
                "started_at": "2026-01-01T00:00:00.000000Z",
                "acknowledged": False,
            }
        ],
        "muted": False,
        "updated_at": "2026-01-01T00:00:00.000001Z",
    }


def test_a_state_of_nothing_special() -> None:
    """No alert, no severity; before the first score there is none."""
    calm = replace(STATE, state="warming_up", previous=None, severity=None, score=None, active=())
    _, content, _, _ = published(calm)
    assert (content["severity"], content["score"], content["active_count"], content["active"]) == (
        None,
        None,
        0,
        [],
    )


def test_a_dead_letter() -> None:
    """Reason and sentence, topic and size, hash, and the beginning of the payload."""
    head = bytes(range(256)) * 4
    event = Rejected("", "topic", "it is no name", "a\x00b", 5000, "ab" * 32, head, START)
    topic, content, qos, retain = published(event)
    assert (topic, qos, retain) == ("base/deadletter/topic", 1, False)
    assert content == {
        "schema": "stream_detector.deadletter/1",
        "reason": "topic",
        "message": "it is no name",
        "stream": None,
        "topic": "a\x00b",
        "size": 5000,
        "sha256": "ab" * 32,
        "payload_head_base64": base64.b64encode(head).decode(),
        "received_at": "2026-01-01T00:00:00.000000Z",
    }


def test_events_that_are_not_published() -> None:
    """They are for logs and metrics."""
    for event in (
        ChannelAdded("pumps", "p", "x", START),
        AlertSuppressed("pumps", "p", "point", "min_severity"),
        ModelReplaced(START, "pumps", "live", "m", "2"),
        ModelRefused(START, "pumps", "m", "3", "hash", "no"),
    ):
        assert PUBLICATIONS.of(event, START) is None


def test_a_score() -> None:
    """Not retained, QoS 0; a reading without a score says null."""
    model = ModelMessage("light", "1", "live")
    publication = PUBLICATIONS.score("pumps", "a/b", START, 0.5, model)
    assert (publication.topic, publication.qos, publication.retain) == ("base/score/pumps/a%2Fb", 0, False)
    assert json.loads(publication.payload) == {
        "schema": "stream_detector.score/1",
        "stream": "pumps",
        "device": "a/b",
        "ts": "2026-01-01T00:00:00.000000Z",
        "score": 0.5,
        "model": {"name": "light", "version": "1", "role": "live"},
    }
    nothing = PUBLICATIONS.score("pumps", "a/b", START, float("nan"), model)
    assert json.loads(nothing.payload)["score"] is None


def test_the_status() -> None:
    """One word, retained."""
    publication = PUBLICATIONS.status("online")
    assert (publication.topic, publication.payload) == ("base/status", b"online")
    assert (publication.qos, publication.retain, PUBLICATIONS.status_topic) == (1, True, "base/status")


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("pump-17_a.B", "pump-17_a.B"),
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("a+b#", "a%2Bb%23"),
        ("50%", "50%25"),
        ("%2F", "%252F"),
        ("~", "%7E"),
        ("Kühl", "K%C3%BChl"),
        ("泵", "%E6%B3%B5"),
        ("<b>&\"'$", "%3Cb%3E%26%22%27%24"),
    ],
)
def test_names_in_topics(name: str, encoded: str) -> None:
    """Everything outside A-Za-z0-9_.- is percent-encoded, % included; different names stay different."""
    assert encode_name(name) == encoded


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (START, "2026-01-01T00:00:00.000000Z"),
        (START + 123_456, "2026-01-01T00:00:00.123456Z"),
        (946_684_800_000_001, "2000-01-01T00:00:00.000001Z"),
        (4_102_444_799_999_999, "2099-12-31T23:59:59.999999Z"),
    ],
)
def test_times(microseconds: int, text: str) -> None:
    """RFC 3339 in UTC, always with six digits, so that they sort as text."""
    assert timestamp(microseconds) == text


def test_the_schema_in_info_is_that_of_the_alerts() -> None:
    """A real alert passes it; one that lacks a field or has a wrong type does not."""
    info = PUBLICATIONS.info({"version": "1", "streams": {}})
    assert (info.topic, info.retain, info.qos) == ("base/info", True, 1)
    content = json.loads(info.payload)
    assert (content["schema"], content["version"]) == ("stream_detector.info/1", "1")
    schema = content["alert_schema"]
    _, alert, _, _ = published(ALERT)
    assert problems(alert, schema, schema) == []
    for name in alert:
        assert problems({key: alert[key] for key in alert if key != name}, schema, schema), name
        assert problems({**alert, name: [True]}, schema, schema), name
    assert problems({**alert, "more": 1}, schema, schema) == [], "fields may be added"


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """Return where a value differs from a JSON schema, as far as ours goes."""
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in schema:
        return min((problems(value, each, root) for each in schema["anyOf"]), key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{value!r} is none of {schema['enum']}"]
    assert schema.keys() <= {
        *("title", "description", "type", "properties", "required", "items", "additionalProperties", "$defs")
    }
    types: dict[str, tuple[type, ...]] = {
        "object": (dict,),
        "array": (list,),
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "null": (type(None),),
        "boolean": (bool,),
    }
    if not isinstance(value, types[schema["type"]]) or isinstance(value, bool) != (
        schema["type"] == "boolean"
    ):
        return [f"{value!r} is no {schema['type']}"]
    found = []
    if isinstance(value, dict):
        found += [f"no {name}" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or None
            found += problems(inner, known, root) if known else []
    if isinstance(value, list):
        found += [problem for inner in value for problem in problems(inner, schema["items"], root)]
    return found
