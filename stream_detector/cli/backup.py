"""`stream-detector backup`: a copy of state_dir that a service can start from, made while one runs."""

from __future__ import annotations

from pathlib import Path

import typer

from stream_detector.cli import common


def command(
    target: Path = typer.Argument(help="A folder that is not there yet, or is empty."),
    config: Path = common.CONFIG,
) -> None:
    """Copy what is kept in state_dir; the service may go on running."""
    from stream_detector.settings import load
    from stream_detector.storage.backup import backup

    settings = load(config)
    result = backup(settings.state_dir, target)
    print(f"{target}: {result}")
    print(f"Use it with state_dir: {target}")
