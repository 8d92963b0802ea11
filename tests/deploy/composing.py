"""The compose files as data, with what a container engine would make of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = ("compose.yaml", "compose.minimal.yaml")


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    """Return a compose file; its variables have their defaults."""
    content: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return content


def filled_in(text: str) -> str:
    """Return a value as it is without an environment: ``${NAME:-default}`` is its default."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: f"<{found[1]}>", text)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")


def instructions(name: str) -> list[str]:
    """Return what the Dockerfile says under an instruction, in order, its lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"(?m)^\s*{name}\s+(.*)$", text)


def image_environment() -> dict[str, str]:
    """Return the variables of the finished image."""
    pairs = re.findall(r"(\w+)=(\S+)", instructions("ENV")[-1])
    return {name: value.replace("$PATH", "/usr/local/bin:/usr/bin:/bin") for name, value in pairs}


IS_ROOT = os.geteuid() == 0
