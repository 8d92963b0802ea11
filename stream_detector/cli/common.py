"""What several commands share: options, and how logs look."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import typer

CONFIG = typer.Option(Path("config.yaml"), "--config", "-c", help="The configuration file.")


def log_to_stderr(level: str) -> None:
    """Log to stderr, a line an event; the times are UTC."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger("stream_detector")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
