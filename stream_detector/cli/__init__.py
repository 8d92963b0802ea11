"""The command line: one small file a command.

A command reads its arguments, calls one function and prints the result. Errors are one sentence on
stderr; exit codes: 0 done, 1 failed while running, 2 usage or configuration, 3 state on disk refused.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import typer

from stream_detector import __version__
from stream_detector.cli import backup, check, demo, replay, run, simulate, train
from stream_detector.errors import StreamDetectorError

app = typer.Typer(
    name="stream-detector",
    help="Real-time anomaly detection for MQTT telemetry.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.command)
app.command("demo")(demo.command)
app.command("check")(check.command)
app.command("replay")(replay.command)
app.command("train")(train.command)
app.command("backup")(backup.command)
app.command("simulate")(simulate.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"stream_detector {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and end."
    ),
) -> None:
    del version


def main() -> None:
    """Run the command line."""
    try:
        app()
    except StreamDetectorError as error:
        print(f"stream-detector: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - nobody shall see a traceback
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        print(
            f"stream-detector: this should not happen ({what}, at {place}); please report it", file=sys.stderr
        )
        sys.exit(1)
