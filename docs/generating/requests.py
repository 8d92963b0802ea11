"""What the service can be asked over MQTT, and what it answers: what msgspec knows of requests and replies.

Only the meanings and the examples' values stand here. A field without a meaning is an error.
"""

from __future__ import annotations

import inspect
import json
import sys
import typing
from typing import Any

import msgspec

from generating import markdown
from generating.published import fields
from stream_detector.outputs import messages as publications
from stream_detector.service import commands

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

MEANINGS = {
    "id": "The alert's `id`.",
    "by": "Who says so; shown in the event's `reason`.",
    "comment": "Likewise.",
    "verdict": "Whether the alert was right.",
    "stream": "The stream's name.",
    "device": "The device's name.",
}
VALUES = {
    "id": "afaa16effc977de8d5052510",
    "by": "anna",
    "comment": "the fan is being changed",
    "verdict": "false_alert",
    "stream": "ovens",
    "device": "oven-1",
}


def make() -> str:
    """Return the page of commands over MQTT."""
    result = {"id": VALUES["id"], "stream": "ovens", "device": "oven-1", "acknowledged_by": "anna", "seq": 2}
    reply = publications.reply_message("ack", "7b1f", result, None)
    text = [
        "# Commands over MQTT",
        (
            "The service can be asked by a message on `stream_detector/cmd/{name}`, at QoS 1, not retained;"
            " it answers on `stream_detector/reply/{name}`, or on the request's response topic with its"
            " correlation data (MQTT 5). A request is a JSON object. Its `transaction`, a text of yours up to"
            " 128 characters, stands in the reply. A transaction that was answered in the last 24 hours gets"
            " the answer that it had and is not carried out again; so who misses a reply asks again. Take a"
            " random text, not a counter that begins anew: it would get yesterday's replies."
        ),
        (
            "A request with neither `transaction` nor response topic cannot be answered: it is a dead letter"
            " (`command`). Retained requests are ignored, for nobody asks now."
        ),
        (
            "Let only those write `stream_detector/cmd/#` who may acknowledge and forget: the broker's"
            " permissions decide that, and `deploy/mosquitto/acl` shows how. A response topic may be any that"
            " our login may write and that we do not read."
        ),
    ]
    for name, struct in commands.REQUESTS.items():
        text += [f"## `{name}`", inspect.cleandoc(struct.__doc__ or "")]
        if rows := _rows(struct):
            text.append(markdown.table(("field", "needed", "legal", "meaning"), rows))
        request = json.dumps(
            {"transaction": "7b1f"} | {field.name: VALUES[field.name] for field in _of(struct)}
        )
        text.append(markdown.fenced(f"mosquitto_pub -q 1 -t stream_detector/cmd/{name} -m '{request}'"))
    text += [
        "## Not yet",
        f"{markdown.code(commands.NOT_YET)} are answered with the error `not_supported`.",
        f"## The reply: `{publications.REPLY_SCHEMA}`",
        fields(publications.ReplyMessage),
        "For example:",
        markdown.fenced(msgspec.json.format(reply, indent=2).decode(), "json"),
        "## Errors",
        markdown.table(
            ("code", "meaning"), [(f"`{code}`", f"{said}.") for code, said in commands.ERRORS.items()]
        ),
    ]
    return markdown.page(text)


def _of(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(struct)


def _rows(struct: type[msgspec.Struct]) -> list[tuple[str, ...]]:
    found = _of(struct)
    if strange := {field.name for field in found} - set(MEANINGS):
        sys.exit(f"docs/generating/requests.py: MEANINGS must name {', '.join(sorted(strange))}")
    properties = msgspec.json.schema(struct)["$defs"][struct.__name__]["properties"]
    return [
        (
            f"`{field.name}`",
            "yes" if field.required else "no",
            _legal(properties[field.name]),
            MEANINGS[field.name],
        )
        for field in found
    ]


def _legal(schema: Mapping[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    if "enum" in schema:
        return markdown.code(sorted(schema["enum"], reverse=True))
    if "pattern" in schema:
        return f"text like `{schema['pattern']}`"
    return f"text, up to {schema['maxLength']} characters"
