"""`stream-detector check`: will this configuration work? A line each, with the remedy where it will not.

`CHECKS` is the list: each takes the settings and yields findings. What a broker is asked stands in
`stream_detector.mqtt.broker_check`.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stream_detector.cli import common
from stream_detector.errors import StreamDetectorError
from stream_detector.formats.topics import TopicPattern
from stream_detector.mqtt.broker import EmbeddedBroker
from stream_detector.mqtt.broker_check.check import BrokerCheck
from stream_detector.mqtt.broker_check.finding import Finding
from stream_detector.service.scoring_models import load_wanted, model_watcher, wanted_bundles
from stream_detector.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.models.reload import Refused
    from stream_detector.settings import Settings

LEAST_FREE = 500 << 20
ANSWER_S = 2.0
OTHERS_MAY_READ = 0o044


def command(
    config: Path = common.CONFIG,
    verbose: bool = typer.Option(
        False, "--verbose", "-v", help="Show all that was found, not only what counts."
    ),
) -> None:
    """Say whether the configuration will work; exit code 1 where it will not."""
    settings = load(config)  # exit code 2 with its own sentence
    streams = ", ".join(f"{name} ({stream.topic})" for name, stream in settings.streams.items())
    _show(Finding("ok", "configuration", f"{config} is valid; streams: {streams}"))
    failed = False
    for check in CHECKS:
        for finding in check(settings):
            if verbose or finding.level != "fact":
                _show(finding)
            failed = failed or finding.level == "FAIL"
    raise typer.Exit(1 if failed else 0)


def _show(finding: Finding) -> None:
    print(f"{finding.level:<5} {finding.what:<14} {finding.sentence}", flush=True)


def _state_dir(settings: Settings) -> Iterator[Finding]:
    """Check that what has to survive a restart can be written, and that there is room for it."""
    folder = settings.state_dir
    probe = folder / f".check-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror}); name another, or let this user write to it"
        yield Finding("FAIL", "state_dir", problem)
        return
    room = f"{free / 1e9:.1f} GB are free"
    if free < LEAST_FREE:
        yield Finding("warn", "state_dir", f"{folder} can be written, but only {room}; make more room")
    else:
        yield Finding("ok", "state_dir", f"{folder} can be written; {room}")


def _secrets(settings: Settings) -> Iterator[Finding]:
    """Check that files with secrets are not open to every user of this machine."""
    broker = settings.broker
    files = {
        "broker.password_file": broker.password_file,
        "broker.key_file": broker.key_file,
        "http.token_file": settings.http.token_file,
    }
    for key, file in files.items():
        if file is None:
            continue
        try:
            mode = file.stat().st_mode
        except OSError as error:
            problem = f"{key}: {file} cannot be read ({error.strerror}); name a file that this user can read"
            yield Finding("FAIL", "secrets", problem)
            continue
        if mode & OTHERS_MAY_READ:
            yield Finding("warn", "secrets", f"{key}: others may read {file}; run chmod 600 {file}")
        else:
            yield Finding("fact", "secrets", f"{key}: only its owner may read {file}")


def _models(settings: Settings) -> Iterator[Finding]:
    """Check that the bundles that the streams want load and fit."""
    wanted = wanted_bundles(settings.streams)
    if not wanted:
        yield Finding("ok", "models", "all streams use the built-in detector")
    watcher = model_watcher(settings.streams, settings.models_dir)
    passed_over: list[Refused] = []
    for stream, name in wanted.items():
        try:
            model = load_wanted(watcher, stream, name)
        except StreamDetectorError as error:
            yield Finding("FAIL", "models", str(error))
            continue
        passed_over += common.refusals(watcher)
        refused = [
            f"version {one.version} is not used: {one.message}" for one in passed_over if one.stream == stream
        ]
        notes = "; ".join([*refused, *model.warnings])
        fine = f"{name} version {model.version} loads and fits stream {stream}"
        yield Finding("ok", "models", f"{fine} ({notes})" if notes else fine)


def _http(settings: Settings) -> Iterator[Finding]:
    """Check that the address is free, or used by a service of ours."""
    host, port = settings.http.host, settings.http.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            reason = error.strerror
        else:
            yield Finding("ok", "http", f"{settings.http.listen} is free")
            return
    reasons = _why_not_ready(host, port)
    if reasons is None:
        why = f"{settings.http.listen} cannot be used ({reason})"
        yield Finding("FAIL", "http", f"{why}; set http.listen to another port, or end what uses this one")
    elif reasons:
        running = f"a stream_detector that runs on {settings.http.listen} is not ready"
        yield Finding("warn", "http", f"{running}: {'; '.join(reasons)}")
    else:
        yield Finding("ok", "http", f"a stream_detector runs on {settings.http.listen} and is ready")


def _why_not_ready(host: str, port: int) -> list[str] | None:
    """Ask the service on a port why it is not ready; None where no stream_detector answers."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked, not listened on
    url = f"http://{f'[{here}]' if ':' in here else here}:{port}/readyz"
    try:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                said = json.loads(answer.read(65_536))
        except urllib.error.HTTPError as error:
            with error:
                said = json.loads(error.read(65_536))
        return [str(reason) for reason in said["reasons"]]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):  # somebody else's answer, or none
        return None


def _broker(settings: Settings) -> Iterator[Finding]:
    """Check what the broker allows, keeps and drops."""
    broker = settings.broker
    streams = {
        name: (TopicPattern.parse(stream.topic), stream.qos) for name, stream in settings.streams.items()
    }
    if broker.address.scheme != "embedded":
        yield from BrokerCheck(broker, settings.topics.base, streams).examine()
        return
    try:
        with EmbeddedBroker(broker.address.host, broker.address.port) as embedded:
            reach = broker.model_copy(update={"url": embedded.url(broker.protocol)})
            yield from BrokerCheck(reach, settings.topics.base, streams, embedded=True).examine()
    except StreamDetectorError as error:
        yield Finding("FAIL", "broker", str(error))


CHECKS = (_state_dir, _secrets, _models, _http, _broker)
