"""`stream-detector run`: the service."""

from __future__ import annotations

import gc
from pathlib import Path

import typer

from stream_detector.cli import common


def command(
    config: Path = common.CONFIG,
    allow_empty_state: bool = typer.Option(
        False, "--allow-empty-state", help="Begin with nothing where what was kept is damaged."
    ),
) -> None:
    """Run the service until SIGTERM or Ctrl-C."""
    from stream_detector.service.assembly import Service
    from stream_detector.settings import load

    settings = load(config)
    common.log_to_stderr(settings.log_level)
    service = Service(settings, allow_empty_state=allow_empty_state)
    service.stop_on_signals()
    # What stands now stays for ever: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    service.run()
