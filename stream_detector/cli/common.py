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
    """Load the models that the streams want, at the time 0 of a recording.

    Raises:
        BundleError: One is broken or not there.
        ConfigurationError: One does not fit its stream.
    """
    from stream_detector.models import bundle
    from stream_detector.processing import checked, wanted_bundles

    for stream, name in wanted_bundles(settings).items():
        model = bundle.load(bundle.latest(settings.models_dir, name))
        processing.use(0, stream, checked(stream, settings.streams[stream], model))
