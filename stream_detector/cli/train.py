"""`stream-detector train`: a recording into a model bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from stream_detector.cli import common
from stream_detector.errors import ConfigurationError, StreamDetectorError

if TYPE_CHECKING:
    from stream_detector.settings import StreamSettings
    from stream_detector.sources.recordings import Recording

DEFAULT_FEATURES = "value,z,difference"
DEFAULT_WINDOW = 64


def command(
    stream: str = typer.Argument(
        help="The stream that the model is for; also the bundle's name unless --name."
    ),
    data: list[Path] = typer.Option(
        [], "--data", help="CSV or JSON-lines recording, also .gz; may be repeated."
    ),
    source: str = common.FROM,
    since: str | None = common.SINCE,
    detector: str = typer.Option("iforest", help="iforest, hbos, knn, pca, lof, ocsvm or ecod."),
    contamination: float = typer.Option(0.05, help="Share of outliers assumed in the recording."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="models_dir; default: the configuration's."
    ),
    config: Path | None = typer.Option(
        None, "--config", "-c", help="Take channels and window from this file."
    ),
    features: str = typer.Option(
        DEFAULT_FEATURES, help="value, z, difference, mean, deviation, lag_<k>; separated by commas."
    ),
    ignore: str = typer.Option("", help="Columns that are no channels, such as labels: a,b."),
    name: str | None = typer.Option(None, help="Name of the bundle: [a-z0-9_-]."),
    seed: int = typer.Option(0, help="Makes training repeatable."),
) -> None:
    """Fit a detector to a recording and save it as a bundle that the service can load."""
    from stream_detector.core.windows import features as core_features
    from stream_detector.models import bundle, training

    wanted = tuple(part.strip() for part in features.split(",") if part.strip())
    declared, models_dir = _of_config(config, stream)
    window = declared.window if declared else DEFAULT_WINDOW
    bad = core_features.unknown(wanted, window)
    if bad is not None or not wanted:
        legal = ", ".join([*core_features.FEATURES, f"lag_1 … lag_{window}"])
        raise ConfigurationError(f"--features: {bad!r} is no feature; legal are {legal}")
    began = time.perf_counter()
    recording = _recording(stream, data, source, since, config, ignore)
    channels = (
        tuple(declared.channels) if declared and declared.channels else tuple(sorted(recording.channels))
    )
    numbers = {device: k for k, device in enumerate(dict.fromkeys(recording.devices))}
    common.note(f"{len(recording)} readings of {len(numbers)} devices; computing {', '.join(wanted)}")
    rows = core_features.of_history(
        wanted,
        np.array([numbers[device] for device in recording.devices], dtype=np.int32),
        np.ascontiguousarray(recording.columns(channels)),
        recording.ts,
        window,
    )
    common.note(f"training {detector} on {rows.shape[1]} columns")
    trained = training.train(
        rows,
        name=name or stream.lower(),
        channels=channels,
        features=wanted,
        window=window,
        detector=detector,
        contamination=contamination,
        seed=seed,
    )
    folder = bundle.save(trained, output or models_dir)
    summary = trained.summary
    print(f"{folder}: {detector} for stream {stream}, version {folder.name}")
    print(f"  channels   {', '.join(channels)}")
    print(f"  features   {', '.join(wanted)}; window {window}")
    print(f"  rows       {summary.used} used of {summary.rows}; {summary.dropped} incomplete")
    print(
        f"  threshold  raw score {summary.threshold:.6g} is 1.0; {summary.anomalous:.1%} of the rows reach it"
    )
    for note in summary.notes:
        print(f"  note       {note}")
    print(f"  took       {time.perf_counter() - began:.1f} s")
    print(f"Use it with streams.{stream}.model: {name or stream.lower()}")


def _recording(
    stream: str, data: list[Path], source: str, since: str | None, config: Path | None, ignore: str
) -> Recording:
    from stream_detector.settings import load
    from stream_detector.sources import recordings

    common.check_source(source, since, data, option="--data")
    if source == "journal":
        settings = load(config or Path("config.yaml"))
        name = common.stream_name(settings, stream)
        common.note(f"reading the journal in {settings.state_dir}")
        return recordings.of_records(common.journal_of(settings, name, since))
    common.note(f"reading {', '.join(map(str, data))}")
    return recordings.read(data, [column for column in ignore.split(",") if column])


def _of_config(config: Path | None, stream: str) -> tuple[StreamSettings | None, Path]:
    from stream_detector.settings import load

    if config is None and not Path("config.yaml").exists():
        return None, Path("models")
    try:
        settings = load(config or Path("config.yaml"))
        return settings.streams[common.stream_name(settings, stream)], settings.models_dir
    except StreamDetectorError:
        if config is not None:
            raise
        return None, Path("models")  # the config.yaml that happens to be here is about something else
