"""Markdown: pages, tables, fenced blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTE = "<!-- Made by docs/generate.py from the code; change the code, then run `make docs`. -->"


def page(parts: Sequence[str]) -> str:
    """Return a page: its title, where it comes from, and its other parts."""
    return "\n\n".join([parts[0], NOTE, *parts[1:]]) + "\n"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def fenced(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{text}\n```"


def pretty(message: msgspec.Struct) -> str:
    """Return a message as JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(message), indent=2).decode()


def code(words: Sequence[str]) -> str:
    """Return words as code, separated by commas."""
    return ", ".join(f"`{word}`" for word in words)


def text(words: str) -> str:
    """Return words that are no code as Markdown: what stands in backticks stays, `<` is no tag."""
    parts = words.split("`")
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


def _cell(words: str) -> str:
    return text(words).replace("|", "\\|")
