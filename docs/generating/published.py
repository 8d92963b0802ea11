"""Topics and messages: what msgspec knows of them.

Only the meaning of the fields stands here, in `MEANINGS`: the structs carry no text. A field without a
meaning is an error.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from typing import Any
from urllib.parse import unquote

import msgspec

from generating import markdown
from stream_detector.core import events
from stream_detector.outputs import home_assistant
from stream_detector.outputs import messages as publications
from stream_detector.outputs.settings import HomeAssistantSettings
from stream_detector.service.announcements import DROPPED
from stream_detector.service.other_instances import OtherInstances

ANNOUNCED = home_assistant.Announced("homeassistant", "stream_detector", ())

MEANINGS = {
    "AlertMessage": {
        "schema": "Name and version of this form.",
        "id": "The same for the whole life of an alert. Made from the stream, the device, the kind and the"
        " first anomalous reading, so a replay of the same readings gives the same id.",
        "seq": "1, 2, 3 … within the alert. An event whose `seq` is not greater than the last one seen for"
        " its `id` is a repetition.",
        "event": "`raise`, `update` (the severity rose or the peak grew), `ack` (a person has seen it) or"
        " `clear`.",
        "kind": "`point`: the model finds the reading unusual. `range`: outside the configured limits."
        " `stuck`: a value that does not move. `silence`: the device says nothing."
        " `data_quality`: most of its readings come too late to be scored.",
        "stream": "The stream's name in the configuration.",
        "device": "The device's name.",
        "tags": "What else the topic captured, by name.",
        "severity": "`warning` or `critical`.",
        "score": "Of the reading behind this event; 1.0 is the threshold, whatever the model.",
        "peak_score": "The largest score since the alert was raised.",
        "raw_score": "The model's own number.",
        "threshold": "The raw number that maps to a score of 1.0.",
        "confidence": "0 to 1: how sure it is that a normal reading would score lower.",
        "prediction": "1 while the alert is open, 0 when it clears.",
        "label": "The stream's word for the prediction.",
        "started_at": "Time of the first anomalous reading; times are RFC 3339, UTC, by the device's clock.",
        "updated_at": "Time of the reading behind this event.",
        "ended_at": "When the alert cleared; null while it is open.",
        "received_at": "When that reading arrived, by the service's clock.",
        "processing_ms": "From its arrival to this message, in milliseconds.",
        "values": "The reading, by channel.",
        "expected": "By channel: `value`, `lower` and `upper` as expected; null where there is no bound.",
        "contributions": "`channel` and `share`, the largest first; the shares sum to 1.",
        "reason": "One sentence for a person.",
        "model": "`name`, `version` and `role` of the model that scored.",
        "incident": "The incident it belongs to; always null in this version.",
        "acknowledged": "Whether a person has acknowledged the alert.",
        "channels": "The channels that hold the alert, at its end those that held it; empty where the device"
        " as a whole does.",
        "ended_because": "At its end: `returned`, `new_normal` (it lasted for so long that it is accepted),"
        " `forgotten` or `model_replaced`; else null.",
    },
    "ReplyMessage": {
        "schema": "Name and version of this form.",
        "transaction": "The request's; null where it had none.",
        "command": "The command's name.",
        "ok": "Whether it was carried out.",
        "error": "`code` and `message`, a sentence; null where it was carried out.",
        "result": "What the command gives; null where it was not carried out.",
    },
    "StateMessage": {
        "schema": "Name and version of this form.",
        "stream": "The stream's name in the configuration.",
        "device": "The device's name.",
        "tags": "What else the topic captured, by name.",
        "state": "`warming_up`, `ok`, `alerting` or `silent`; a silent device is `silent` whatever is open.",
        "severity": "The highest of the open alerts; null where none is open.",
        "score": "The last score; null before the first.",
        "active_count": "How many alerts are open.",
        "active": "The open alerts: `id`, `kind`, `severity`, `started_at`, `acknowledged`.",
        "muted": "Always false in this version.",
        "updated_at": "When the state changed; RFC 3339, UTC.",
    },
}


def make() -> str:
    """Return the page of topics, alerts and states."""
    raised = _raised()
    alert = publications.alert_message(raised, ("Normal", "Anomaly"), processing_ms=1.498)
    state = publications.state_message(_changed(raised))
    return markdown.page(
        [
            "# What is published",
            (
                "Everything stands below `topics.base`, `stream_detector` unless configured. In names"
                " everything outside `A-Za-z0-9_.-` is percent-encoded. Fields and topics may be added later;"
                " none is renamed or removed without a new version in `schema`."
            ),
            markdown.table(("topic", "retained", "QoS", "carries"), _topics()),
            "## What it listens to",
            markdown.table(("topic", "QoS", "for"), _listened()),
            (
                "What the service publishes it never reads as telemetry. A login for it at the broker has to"
                " be allowed all of this; [Brokers](../brokers.md) says more."
            ),
            f"## An alert: `{publications.ALERT_SCHEMA}`",
            fields(publications.AlertMessage),
            "For example:",
            markdown.fenced(markdown.pretty(alert), "json"),
            f"## A device's state: `{publications.STATE_SCHEMA}`",
            fields(publications.StateMessage),
            "For example:",
            markdown.fenced(markdown.pretty(state), "json"),
        ]
    )


def _topics() -> list[tuple[str, ...]]:
    """Return a row for each kind of message, with the topic and the flags that the code gives it."""
    raised = _raised("{stream}", "{device}")
    model = publications.ModelMessage("default", "1", "live")
    refused = events.Rejected("pumps", "{reason}", "", "", 0, "", b"", 0)
    out = publications.Publications("stream_detector", {"{stream}": ("Normal", "Anomaly")})
    listed = (
        (out.status("online"), "`online`; `stopped` after an orderly end; `offline` by the last will"),
        (
            out.info({}),
            "version, streams, models, and the JSON schema of an alert; at every connect and reload",
        ),
        (out.of(raised, 0), "an alert is raised, updated, acknowledged or cleared"),
        (
            out.of(_changed(raised), 0),
            "a device's state, whenever it changes; empty once the device is forgotten",
        ),
        (
            out.score("{stream}", "{device}", 0, 0.0, model),
            (
                "every score, where the stream says `publish_scores: true`:"
                " `schema`, `stream`, `device`, `ts`, `score`, `model`"
            ),
        ),
        (
            out.of(refused, 0),
            (
                "a refused message: `schema`, `reason`, `message` (a sentence), `stream`, `topic`, `size`,"
                " `sha256`, `payload_head_base64` (the first kilobyte), `received_at`"
            ),
        ),
        (
            publications.Publication("stream_detector/reply/{name}", b"", once=True),
            "the answer to a request; said once, on the request's response topic where it has one (MQTT 5)",
        ),
        (
            home_assistant.removal(ANNOUNCED, "{stream}", "{device}"),
            "where `home_assistant.enabled`: what Home Assistant has to know of a device",
        ),
    )
    return [
        (
            f"`{re.sub('sd_[0-9a-f]{16}', 'sd_<16 hex>', unquote(one.topic))}`",
            "yes" if one.retain else "no",
            str(one.qos),
            text,
        )
        for one, text in listed
        if one is not None
    ]


def _listened() -> list[tuple[str, ...]]:
    """Return a row for each topic that the service subscribes to."""
    info, status = OtherInstances("stream_detector", "").topics
    at_home = HomeAssistantSettings(enabled=True)
    return [
        ("`topic` of each stream", "`qos`", "telemetry"),
        ("`stream_detector/cmd/+`", "1", "requests: [Commands over MQTT](requests.md)"),
        (f"`{info}`, `{status}`", "1", "whether another service lives under the same base"),
        (f"`{DROPPED}`", "0", "how many messages the broker has dropped; where it tells"),
        *(
            (f"`{topic}`", "1", "Home Assistant has started; where `home_assistant.enabled`")
            for topic in at_home.filters
        ),
    ]


def fields(struct: type[msgspec.Struct]) -> str:
    """Return the table of a message's fields."""
    meanings = MEANINGS[struct.__name__]
    fields = msgspec.structs.fields(struct)
    strange = {field.name for field in fields} ^ set(meanings)
    if strange:
        which = ", ".join(sorted(strange))
        sys.exit(f"docs/generating/published.py: MEANINGS of {struct.__name__} must name {which} or not")
    rows = [(f"`{field.name}`", _json_type(field.type), meanings[field.name]) for field in fields]
    return markdown.table(("field", "type", "meaning"), rows)


def _json_type(kind: Any) -> str:
    """Return what a field's type is called in JSON."""
    if isinstance(kind, types.UnionType):
        return " or ".join(_json_type(one) for one in typing.get_args(kind))
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return _json_type(type(typing.get_args(kind)[0]))
    words = {
        str: "string",
        int: "integer",
        float: "number",
        bool: "true, false",
        type(None): "null",
        list: "list",
    }
    return words.get(origin, "object")


def _raised(stream: str = "ovens", device: str = "oven-1") -> events.AlertChanged:
    """Return the first alert of the README."""
    at = 1_767_225_600_000_000
    return events.AlertChanged(
        event="raise",
        id="afaa16effc977de8d5052510",
        seq=1,
        kind="point",
        stream=stream,
        device=device,
        tags={},
        severity="critical",
        score=3.12842852,
        peak_score=3.12842852,
        raw_score=0.65696999,
        threshold=0.21,
        confidence=0.98039216,
        started_at=at,
        updated_at=at,
        ended_at=None,
        received_at=at,
        values={"temperature": 260.0},
        expected={"temperature": events.Expected(202.015625, 197.7567017, 206.2745483)},
        contributions=(events.Contribution("temperature", 1.0),),
        reason="temperature 260 °C is above its expected 197.8–206.3 (100 % of the score)",  # noqa: RUF001
        model_name="light",
        model_version="1",
    )


def _changed(alert: events.AlertChanged) -> events.DeviceStateChanged:
    """Return the state of a device that has just raised an alert."""
    return events.DeviceStateChanged(
        stream=alert.stream,
        device=alert.device,
        tags=alert.tags,
        state="alerting",
        previous="ok",
        severity=alert.severity,
        score=alert.score,
        active=(events.ActiveAlert(alert.id, alert.kind, alert.severity, alert.started_at),),
        updated_at=alert.updated_at,
    )
