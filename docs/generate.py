"""Make docs/reference from the code: settings, metrics, commands, and what is published.

    .venv/bin/python docs/generate.py            write the pages
    .venv/bin/python docs/generate.py --check    say whether they are current, exit code 1 if not

A page says what pydantic, prometheus_client, typer and msgspec know of the code. Only the meaning
of the published fields stands here, in `MEANINGS`: the structs carry no text. A field without a
meaning is an error.
"""
# ruff: noqa: INP001, T201 - a script that talks to a terminal, not a package

from __future__ import annotations

import json
import sys
import types
import typing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from typer.testing import CliRunner

from stream_detector import publications
from stream_detector.cli import app
from stream_detector.core import events
from stream_detector.settings import ENV_PREFIX, Settings
from stream_detector.telemetry import PUBLISH_RESULTS, RELOAD_RESULTS, Telemetry

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parent / "reference"
WIDTH = 100
NOTE = "<!-- Made by docs/generate.py from the code; change the code, then run `make docs`. -->\n"


# -- settings ------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Return the page of all settings, a table a section."""
    schema = Settings.model_json_schema()
    example = ENV_PREFIX + "BROKER__URL"
    text = [
        "# Settings",
        (
            "The whole configuration is one YAML file; [config.yaml](../../config.yaml) holds every key with"
            " its default. Each key is also an environment variable, which wins over the file: `broker.url`"
            f" is `{example}`. A value that is no plain word is written as JSON there."
        ),
        (
            "A key that is not known, a wrong type or an impossible combination is refused before anything"
            " connects, with the file, the line, the key, what came and what is legal."
        ),
    ]
    for path, section in _sections(Settings, ()):
        own = schema["properties"] if section is Settings else schema["$defs"][section.__name__]["properties"]
        rows = [
            (
                f"`{name}`",
                _legal(own[name], schema["$defs"]),
                "needed"
                if field.is_required()
                else f"`{_default(field.get_default(call_default_factory=True))}`",
                field.description or "",
            )
            for name, field in section.model_fields.items()
            if _section_of(field.annotation) is None
        ]
        text.append(f"## `{'.'.join(path)}`" if path else "## At the top")
        text.append(_table(("key", "legal", "default", "what it does"), rows))
    return _page(text)


def _sections(model: type[BaseModel], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], type[BaseModel]]]:
    """Return a section and those inside it, each with where it stands."""
    found = [(path, model)]
    for name, field in model.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None:
            steps = (name, "<name>") if typing.get_origin(field.annotation) is dict else (name,)
            found += _sections(inner, (*path, *steps))
    return found


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds: itself, by names, or where it is not null."""
    for inner in (annotation, *typing.get_args(annotation)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _legal(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_legal(one, defs) for one in schema["anyOf"])
    if "$ref" in schema:
        return _legal(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = {
        "array": f"list of {schema.get('maxItems', 'values')}",
        "boolean": "`true`, `false`",
        "integer": "whole number",
        "null": "`null`",
        "number": "number",
        "object": "mapping",
        "string": {"path": "path", "password": "text, kept secret"}.get(schema.get("format", ""), "text"),
    }
    pattern = [f"like `{schema['pattern']}`"] if "pattern" in schema else []
    return ", ".join([words[schema["type"]], *pattern, *_bounds(schema)])


def _bounds(schema: dict[str, Any]) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {schema[key]:,}".replace(",", " ") for key, sign in signs.items() if key in schema]


def _default(value: Any) -> str:
    if isinstance(value, str | Path) and str(value):
        return str(value)
    return json.dumps(value)


# -- metrics -------------------------------------------------------------------------------------------


def metrics_page() -> str:
    """Return the page of all metrics and of the values their labels can have."""
    registry = CollectorRegistry()
    Telemetry(["pumps"], registry)
    rows = []
    for collector in registry._collector_to_names:  # noqa: SLF001 - the only list with names, labels and help
        metric: Any = collector
        name = f"{metric._name}_total" if metric._type == "counter" else metric._name  # noqa: SLF001
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001
        rows.append((f"`{name}`", metric._type, labels, metric._documentation))  # noqa: SLF001
    lists = (
        ("reason of messages_rejected, readings_rejected", events.REJECTIONS),
        ("reason of messages_ignored", events.IGNORED),
        ("reason of alerts_suppressed", events.SUPPRESSED),
        ("kind", events.KINDS),
        ("severity", events.SEVERITIES),
        ("event", typing.get_args(events.AlertEvent)),
        ("state of devices", events.STATES),
        ("result of alert_publishes", PUBLISH_RESULTS),
        ("result of model_reloads", RELOAD_RESULTS),
    )
    values = [(label, ", ".join(f"`{value}`" for value in allowed)) for label, allowed in lists]
    return _page(
        [
            "# Metrics",
            (
                "Served at `/metrics` in Prometheus' text form, or as OpenMetrics where the client asks for"
                " it. A device is never a label, so the page does not grow with the fleet. `stream` is empty"
                " for messages that belong to none."
            ),
            _table(("metric", "type", "labels", "what it says"), sorted(rows)),
            "## What the labels can say",
            "These lists are closed, and their series start at 0.",
            _table(("label", "values"), values),
        ]
    )


# -- commands ------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Return the page of all commands: what each says with --help."""
    names = [command.name or "" for command in app.registered_commands]
    text = [
        "# Commands",
        (
            "Exit codes: 0 done, 1 failed while running, 2 usage or configuration, 3 state on disk refused."
            " An error is one sentence on stderr that says what, where, and what to do."
        ),
        _fenced(_help()),
    ]
    for name in names:
        text += [f"## {name}", _fenced(_help(name))]
    return _page(text)


def _help(*command: str) -> str:
    result = CliRunner().invoke(
        app, [*command, "--help"], prog_name="stream-detector", terminal_width=WIDTH, color=False
    )
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


# -- what is published ---------------------------------------------------------------------------------

MEANINGS = {
    "AlertMessage": {
        "schema": "Name and version of this form.",
        "id": "The same for the whole life of an alert. Made from the stream, the device, the kind and the"
        " first anomalous reading, so a replay of the same readings gives the same id.",
        "seq": "1, 2, 3 … within the alert. An event whose `seq` is not greater than the last one seen for"
        " its `id` is a repetition.",
        "event": "`raise`, `update` (the severity rose or the peak grew) or `clear`.",
        "kind": "`point`: the model finds the reading unusual. `range`: outside the configured limits."
        " `stuck`: a value that does not move. `silence`: the device says nothing.",
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
        "active": "The open alerts: `id`, `kind`, `severity`, `started_at`.",
        "muted": "Always false in this version.",
        "updated_at": "When the state changed; RFC 3339, UTC.",
    },
}


def alerts_page() -> str:
    """Return the page of topics, alerts and states."""
    raised = _raised()
    alert = publications.alert_message(raised, ("Normal", "Anomaly"), processing_ms=1.498)
    state = publications.state_message(_changed(raised))
    return _page(
        [
            "# What is published",
            (
                "Everything stands below `topics.base`, `stream_detector` unless configured. In names"
                " everything outside `A-Za-z0-9_.-` is percent-encoded. Fields and topics may be added later;"
                " none is renamed or removed without a new version in `schema`."
            ),
            _table(("topic", "retained", "QoS", "carries"), _topics()),
            f"## An alert: `{publications.ALERT_SCHEMA}`",
            _fields(publications.AlertMessage),
            "For example:",
            _fenced(_pretty(alert), "json"),
            f"## A device's state: `{publications.STATE_SCHEMA}`",
            _fields(publications.StateMessage),
            "For example:",
            _fenced(_pretty(state), "json"),
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
        (out.of(raised, 0), "an alert is raised, updated or cleared"),
        (out.of(_changed(raised), 0), "a device's state, whenever it changes"),
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
    )
    return [
        (f"`{unquote(one.topic)}`", "yes" if one.retain else "no", str(one.qos), text)
        for one, text in listed
        if one is not None
    ]


def _fields(struct: type[msgspec.Struct]) -> str:
    meanings = MEANINGS[struct.__name__]
    fields = msgspec.structs.fields(struct)
    strange = {field.name for field in fields} ^ set(meanings)
    if strange:
        sys.exit(
            f"docs/generate.py: MEANINGS of {struct.__name__} must name {', '.join(sorted(strange))} or not"
        )
    rows = [(f"`{field.name}`", _json_type(field.type), meanings[field.name]) for field in fields]
    return _table(("field", "type", "meaning"), rows)


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


# -- Markdown ------------------------------------------------------------------------------------------


def _page(parts: list[str]) -> str:
    return "\n\n".join([parts[0], NOTE.rstrip(), *parts[1:]]) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


def _pretty(message: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(message), indent=2).decode()


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "commands.md": commands_page,
    "alerts.md": alerts_page,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them; return the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    pages = {FOLDER / name: make() for name, make in PAGES.items()}
    if not arguments:
        FOLDER.mkdir(exist_ok=True)
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
        return 0
    old = [
        path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in old:
        print(f"docs/reference/{path.name} is not what the code says; run `make docs`", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
