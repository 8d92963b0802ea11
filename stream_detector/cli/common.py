"""What several commands share: options, and how logs look."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stream_detector.errors import ConfigurationError

if TYPE_CHECKING:
    from stream_detector.models.reload import ModelWatcher, Refused
    from stream_detector.processing import Processing
    from stream_detector.settings import Settings

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


def note(text: str) -> None:
    """Say on stderr what goes on."""
    print(text, file=sys.stderr, flush=True)


def stream_name(settings: Settings, wanted: str | None) -> str:
    """Return the stream that a command is about.

    Raises:
        ConfigurationError: There is no such stream, or it is not named although there are several.
    """
    names = list(settings.streams)
    if wanted is None and len(names) > 1:
        raise ConfigurationError(f"name the stream with --stream; the configuration has {', '.join(names)}")
    if wanted is not None and wanted not in names:
        raise ConfigurationError(f"there is no stream {wanted!r}; the configuration has {', '.join(names)}")
    return wanted or names[0]


def load_bundles(settings: Settings, processing: Processing) -> None:
    """Load the models that the streams want, at the time 0 of a recording; say which are passed over.

    Raises:
        ConfigurationError: One is broken, not there or does not fit its stream.
    """
    from stream_detector.processing import load_wanted, model_watcher, wanted_bundles

    watcher = model_watcher(settings)
    for stream, name in wanted_bundles(settings).items():
        processing.use(0, stream, load_wanted(watcher, stream, name))
    for refused in refusals(watcher):
        note(f"{refused.stream}: version {refused.version} is not used: {refused.message}")


def refusals(watcher: ModelWatcher) -> list[Refused]:
    """Return the bundles that were passed over since the last call."""
    from stream_detector.models.reload import Refused

    return [report for report in watcher.take() if isinstance(report, Refused)]
