"""A mistake in the configuration as one sentence: the file, the line, the key, what came, what is legal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from stream_detector.errors import ConfigurationError
from stream_detector.settings.root import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic import ValidationError

SECRET_KEYS = ("password", "token", "url")  # people write passwords into URLs


def first_mistake(
    error: ValidationError, where: str, lines: dict[tuple[str, ...], int], content: dict[str, Any]
) -> ConfigurationError:
    """Return the error that says the first mistake.

    Args:
        error: What pydantic found.
        where: The file, or whatever the content came from.
        lines: The line of each key path in it.
        content: What was read.
    """
    mistakes = error.errors(include_url=False, include_context=True)
    # A misspelt key is also a missing one: the key that came says more.
    mistake = min(mistakes, key=lambda found: found["type"] != "extra_forbidden")
    path = tuple(str(step) for step in mistake["loc"] if step != "[key]")
    key = _printable(".".join(path))
    place = _place(path, where, lines)
    what = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        what = f"there is no such key; legal are {', '.join(_legal(path[:-1]))}"
    elif mistake["type"] == "missing":
        what = "this key is missing"
    elif mistake["type"] != "value_error":
        came = _value_at(content, path)
        if mistake["type"] == "model_type":  # a text where a section belongs may well hold a login
            what = "Input should be a section with keys of its own, such as " + ", ".join(_legal(path)[:3])
        elif came is not _ABSENT and not any(secret in step for step in path for secret in SECRET_KEYS):
            what = f"{what}, not {_shown(came)}"
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return ConfigurationError(f"{place}: {key + ': ' if key else ''}{what}{more}", key=key)


def _place(path: tuple[str, ...], where: str, lines: dict[tuple[str, ...], int]) -> str:
    """Return where the value of a key was written."""
    wanted = (ENV_PREFIX + "__".join(path)).upper()
    for name in os.environ:
        if name.upper() == wanted:
            return f"environment variable {name}"
    line = next((lines[path[:k]] for k in range(len(path), 0, -1) if path[:k] in lines), None)
    return f"{where}, line {line}" if line else where


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


_ABSENT = object()


def _value_at(content: object, path: tuple[str, ...]) -> object:
    for step in path:
        if isinstance(content, dict) and step in content:
            content = content[step]
        elif isinstance(content, list) and step.isdigit() and int(step) < len(content):
            content = content[int(step)]
        else:
            return _ABSENT
    return content


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"  # noqa: PLR2004 - a line's rest


def _legal(path: tuple[str, ...]) -> list[str]:
    """Return the keys that may stand at a path."""
    model: Any = Settings
    for step in path:
        field = model.model_fields.get(step) if hasattr(model, "model_fields") else None
        if field is None:
            continue  # a name of the user's, such as a stream's
        model = field.annotation
        for inner in getattr(model, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(getattr(model, "model_fields", {}))
