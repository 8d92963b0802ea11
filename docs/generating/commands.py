"""All commands: what typer knows of them."""

from __future__ import annotations

from typer.testing import CliRunner

from generating import markdown
from stream_detector.cli import app

WIDTH = 100


def make() -> str:
    """Return the page of all commands: what each says with --help."""
    names = [command.name or "" for command in app.registered_commands]
    text = [
        "# Commands",
        (
            "Exit codes: 0 done, 1 failed while running, 2 usage or configuration, 3 state on disk refused."
            " An error is one sentence on stderr that says what, where, and what to do."
        ),
        markdown.fenced(_help()),
    ]
    for name in names:
        text += [f"## {name}", markdown.fenced(_help(name))]
    return markdown.page(text)


def _help(*command: str) -> str:
    result = CliRunner().invoke(
        app, [*command, "--help"], prog_name="stream-detector", terminal_width=WIDTH, color=False
    )
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())
