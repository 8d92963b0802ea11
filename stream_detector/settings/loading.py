"""A file and the environment -> settings; every mistake is refused before anything connects.

Environment variables (``STREAM_DETECTOR__BROKER__URL``) win over the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import yaml
from pydantic import ValidationError

from stream_detector.errors import ConfigurationError
from stream_detector.settings.mistakes import first_mistake
from stream_detector.settings.root import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> Settings:
    """Return the configuration of a file and the environment.

    Raises:
        ConfigurationError: It cannot be read, or cannot be meant like that.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such file; name your configuration with --config, or copy config.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {_reason(error)}") from None
    content, lines = _parse(path, text)
    return validate(content, where=str(path), lines=lines)


def validate(
    content: dict[str, Any], *, where: str, lines: dict[tuple[str, ...], int] | None = None
) -> Settings:
    """Return the settings that a mapping and the environment mean; see `load`."""
    for name in os.environ:
        first = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
        if name.startswith(ENV_PREFIX) and first not in Settings.model_fields:
            raise ConfigurationError(
                f"environment variable {name}: there is no setting {first!r};"
                f" legal are {', '.join(Settings.model_fields)}",
                key=first,
            )
    try:
        return Settings(**content)
    except ValidationError as error:
        raise first_mistake(error, where, lines or {}, content) from None
    except Exception as error:  # pydantic-settings' own, for JSON in variables
        if type(error).__name__ != "SettingsError":
            raise
        raise ConfigurationError(
            f"environment: {error}; write a value as JSON or one key a variable"
        ) from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = str(key_node.value)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return cast("dict[str, Any]", loader.construct_mapping(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path}{line}: this is no YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(f"{path}: this is no YAML: {_reason(error)}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(
            f"{path}: the configuration must be a mapping of settings, such as 'broker:'"
        )
    return content, _lines(node)


def _lines(node: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Return the line of each key path."""
    found: dict[tuple[str, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            found[here] = key.start_mark.line + 1
            found.update(_lines(value, here))
    return found


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]
