"""What several commands share: options, and how logs look."""

from __future__ import annotations

import logging
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stream_detector.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stream_detector.core.records import Record
    from stream_detector.models.reload import ModelWatcher, Refused
    from stream_detector.service.engine import Engine
    from stream_detector.settings import Settings

SOURCES = ("files", "journal")
FROM = typer.Option("files", "--from", help="files, or journal: what the service has kept in state_dir.")
SINCE = typer.Option(None, "--since", help="With --from journal: 2d, 36h, 90m, or an RFC 3339 time.")
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


def load_bundles(settings: Settings, engine: Engine) -> None:
    """Load the models that the streams want, at the time 0 of a recording; say which are passed over.

    Raises:
        ConfigurationError: One is broken, not there or does not fit its stream.
    """
    from stream_detector.detectors.builtin import BUILT_IN
    from stream_detector.service.decision import Decision
    from stream_detector.service.scoring_models import load_wanted, model_watcher

    watcher, decision = model_watcher(settings.streams, settings.models_dir), Decision()
    for stream, said in settings.streams.items():
        for role, name in said.detectors.items():
            model = name if name in BUILT_IN else load_wanted(watcher, stream, name)
            engine.processing.record(decision, engine.models.record(0, stream, role, model))
    engine.reporting.report(decision)
    for refused in refusals(watcher):
        note(f"{refused.stream}: version {refused.version} is not used: {refused.message}")


def since_when(text: str | None) -> int | None:
    """Return µs since 1970 of ``2d``, ``36h``, ``90m``, ``45s`` ago, or of an RFC 3339 time.

    Raises:
        ConfigurationError: It is none of these.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found:
        seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
        return round((time.time() - seconds) * 1e6)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(
            f"--since: {text!r} is no time; write 2d, 36h, 90m or 2026-01-31T12:00:00Z"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)


def check_source(source: str, since: str | None, files: Sequence[Path], option: str) -> None:
    """Refuse options that cannot be meant together.

    Raises:
        ConfigurationError: They cannot.
    """
    if source not in SOURCES:
        raise ConfigurationError(f"--from: {source!r} is no source; legal are {', '.join(SOURCES)}")
    if source == "journal" and files:
        raise ConfigurationError(f"--from journal reads no files; leave out {option}, or --from")
    if source == "files" and since:
        raise ConfigurationError("--since belongs to --from journal")
    if source == "files" and not files:
        raise ConfigurationError(f"name a recording with {option}, or take --from journal")


def journal_of(settings: Settings, stream: str, since: str | None) -> Iterator[Record]:
    """Yield the records of a stream, and those that concern all, from the journal of the service.

    Raises:
        StateError: There is none.
    """
    from stream_detector.storage.journal import read_journal

    for _, record in read_journal(settings.state_dir, since=since_when(since), stream=stream):
        yield record


def refusals(watcher: ModelWatcher) -> list[Refused]:
    """Return the bundles that were passed over since the last call."""
    from stream_detector.models.reload import Refused

    return [report for report in watcher.take() if isinstance(report, Refused)]
