"""`stream-detector check`: will this configuration work? A line each, with the remedy where it will not."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stream_detector.cli import common
from stream_detector.errors import StreamDetectorError
from stream_detector.formats.topics import TopicPattern
from stream_detector.mqtt.broker import EmbeddedBroker
from stream_detector.mqtt.link import Link
from stream_detector.processing import load_wanted, model_watcher, wanted_bundles
from stream_detector.service import Clock
from stream_detector.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream_detector.models.reload import Refused
    from stream_detector.settings import Settings

ANSWER_S = 10.0
FAILURE = 0x80
"""Reason codes from here on are failures (MQTT 5, section 2.4)."""


def command(config: Path = common.CONFIG) -> None:
    """Say whether the configuration will work; exit code 1 where it will not."""
    settings = load(config)  # exit code 2 with its own sentence
    streams = ", ".join(f"{name} ({stream.topic})" for name, stream in settings.streams.items())
    _line("configuration", None, f"{config} is valid; streams: {streams}")
    failed = False
    for checks in (_folders, _models, _http, _broker):
        for what, problem, fine in checks(settings):
            _line(what, problem, fine)
            failed = failed or problem is not None
    raise typer.Exit(1 if failed else 0)


def _line(what: str, problem: str | None, fine: str) -> None:
    print(f"{'FAIL' if problem else 'ok':<5} {what:<14} {problem or fine}", flush=True)


def _folders(settings: Settings) -> Iterator[tuple[str, str | None, str]]:
    folder = settings.state_dir
    probe = folder / f".check-{secrets.token_hex(4)}"
    problem = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror}); name another, or let this user write to it"
    yield "state_dir", problem, f"{folder} can be written"


def _models(settings: Settings) -> Iterator[tuple[str, str | None, str]]:
    wanted = wanted_bundles(settings)
    if not wanted:
        yield "models", None, "all streams use the built-in detector"
    watcher = model_watcher(settings)
    passed_over: list[Refused] = []
    for stream, name in wanted.items():
        try:
            model = load_wanted(watcher, stream, name)
        except StreamDetectorError as error:
            yield "models", str(error), ""
            continue
        passed_over += common.refusals(watcher)
        refused = [
            f"version {one.version} is not used: {one.message}" for one in passed_over if one.stream == stream
        ]
        notes = "; ".join([*refused, *model.warnings])
        fine = f"{name} version {model.version} loads and fits stream {stream}"
        yield "models", None, f"{fine} ({notes})" if notes else fine


def _http(settings: Settings) -> Iterator[tuple[str, str | None, str]]:
    host, port = settings.http.host, settings.http.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            why = f"{settings.http.listen} cannot be used ({error.strerror})"
            yield "http", f"{why}; set http.listen to another port, or end what uses this one", ""
            return
    yield "http", None, f"{settings.http.listen} is free"


def _broker(settings: Settings) -> Iterator[tuple[str, str | None, str]]:

    broker = settings.broker
    if broker.address.scheme != "embedded":
        yield from _round_trip(settings)
        return
    try:
        with EmbeddedBroker(broker.address.host, broker.address.port) as embedded:
            reach = broker.model_copy(update={"url": embedded.url(broker.protocol)})
            yield from _round_trip(settings.model_copy(update={"broker": reach}))
    except StreamDetectorError as error:
        yield "broker", str(error), ""


def _round_trip(settings: Settings) -> Iterator[tuple[str, str | None, str]]:
    """Log in and subscribe as the service does, and send a canary from one connection to another."""
    address = settings.broker.address
    base = settings.topics.base
    canary = f"{base}/canary/{secrets.token_hex(4)}"
    filters = [(TopicPattern.parse(stream.topic).filter, stream.qos) for stream in settings.streams.values()]
    listener = _link(settings, [*filters, (canary, 1)])
    try:
        if not _until(listener, lambda: listener.connected):
            yield (
                "broker",
                listener.problem or f"the broker at {address} does not answer; check broker.url",
                "",
            )
            return
        note = f"; {listener.protocol_note}" if listener.protocol_note else ""
        yield "broker", None, f"{address} accepts the login, MQTT {listener.protocol}{note}"
        granted = _until(listener, lambda: listener.ready)
        refused = listener.problem or "the broker does not answer the subscription"
        yield "subscribe", None if granted else refused, f"{', '.join(name for name, _ in filters)} granted"
        if granted:
            yield from _canary(settings, listener, canary)
    finally:
        listener.close(1.0)


def _canary(settings: Settings, listener: Link, topic: str) -> Iterator[tuple[str, str | None, str]]:
    """Publish a message and wait for it: a denied one looks like any other until it does not arrive."""
    base = settings.topics.base
    speaker = _link(settings, [])
    try:
        if not _until(speaker, lambda: speaker.connected):
            yield "publish", speaker.problem or "a second connection is not accepted", ""
            return
        speaker.publish(topic.encode(), b"canary", 1, retain=False)
        speaker.flush()
        reasons: list[int] = []
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline and not any(reason >= FAILURE for reason in reasons):
            speaker.poll(0.01)
            reasons += [reason for _, reason in speaker.confirmed()]
            received = listener.poll(0.01)
            if received is not None and topic.encode() in received.topics:
                yield "publish", None, f"a message on {topic} came back"
                return
        if any(reason >= FAILURE for reason in reasons):
            yield (
                "publish",
                f"the broker refuses what we publish (0x{reasons[0]:02X}); allow writing {base}/#",
                "",
            )
        else:
            yield (
                "publish",
                f"a message on {topic} does not come back; allow writing and reading {base}/#",
                "",
            )
    finally:
        speaker.close(1.0)


def _link(settings: Settings, subscriptions: list[tuple[str, int]]) -> Link:
    """Return a connection with a session of its own: taking over the live service's would disturb it."""
    return Link(
        settings.broker.model_copy(update={"session_expiry_s": 0}),
        client_id=f"stream-detector-check-{secrets.token_hex(4)}",
        subscriptions=subscriptions,
        will=(f"{settings.topics.base}/canary/will", b""),
        clock=Clock(),
    )


def _until(link: Link, done: Callable[[], bool]) -> bool:
    """Poll until something holds, the broker refuses, or it takes too long."""
    deadline = time.monotonic() + ANSWER_S
    while not done():
        link.poll(0.05)
        if link.last_error or time.monotonic() > deadline:
            return done()
    return True
