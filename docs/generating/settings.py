"""All settings: what pydantic knows of them."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from generating import markdown
from stream_detector.settings import ENV_PREFIX, Settings


def make() -> str:
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
        text.append(markdown.table(("key", "legal", "default", "what it does"), rows))
    return markdown.page(text)


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
