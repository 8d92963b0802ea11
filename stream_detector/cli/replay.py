"""`stream-detector replay`: a recording through the same core, to the terminal or to a broker."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stream_detector.cli import common
from stream_detector.errors import BrokerError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stream_detector.core.events import Event
    from stream_detector.core.records import Record
    from stream_detector.mqtt.publisher import Publisher
    from stream_detector.outputs.messages import Publication
    from stream_detector.service.engine import Engine
    from stream_detector.settings import Settings

PATIENCE_S = 10.0
"""So long a broker may let us wait for its next answer."""
WORDS = {"raise": "raised", "update": "updated", "clear": "cleared"}


def command(
    files: list[Path] = typer.Argument(
        None, help="CSV or JSON-lines files, also .gz; read together, in order of time."
    ),
    source: str = common.FROM,
    since: str | None = common.SINCE,
    config: Path | None = typer.Option(
        None, "--config", "-c", help="Judge by a stream of this configuration."
    ),
    stream: str | None = typer.Option(None, help="Which stream; needed where the configuration has several."),
    speed: float = typer.Option(
        0.0, min=0, help="10: ten times as fast as recorded; 0: as fast as possible."
    ),
    broker: str | None = typer.Option(
        None, help="Publish the alerts there (mqtt://host:port) instead of printing."
    ),
    ignore: str = typer.Option("", help="Columns that are no channels, such as labels: a,b."),
    json: bool = typer.Option(False, "--json", help="Print alert events as JSON lines."),
) -> None:
    """Run recordings through the detector."""
    from stream_detector.core.records import Forgotten, Gap, Readings, Tick
    from stream_detector.service.engine import offline
    from stream_detector.sources import playing, recordings

    files = files or []
    common.check_source(source, since, files, option="files")
    if source == "journal":
        config = config or Path("config.yaml")
    settings, name = settings_for(config, stream, broker)
    recording = None
    if source == "journal":
        journal = common.journal_of(settings, name, since)
        what_happened = Readings | Tick | Gap | Forgotten  # not what was decided about it
        records: Iterable[Record] = [each for each in journal if isinstance(each, what_happened)]
        count = sum(len(record) for record in records if isinstance(record, Readings))
        common.note(f"{count} readings from the journal in {settings.state_dir}")
    else:
        recording = recordings.read(files, [column for column in ignore.split(",") if column])
        devices, count = len(set(recording.devices)), len(recording)
        common.note(f"{count} readings of {devices} devices, channels {', '.join(recording.channels)}")
        for reason, skipped in recording.skipped.most_common(3):
            common.note(f"{skipped} rows were left out: {reason}")
    counts: dict[str, int] = {}

    def read(event: Event) -> None:
        _show(event, counts, quiet=broker is not None, as_json=json, labels=settings.streams[name].labels)

    now = [0]
    engine = offline(settings, lambda: now[0], readers=[read])
    common.load_bundles(settings, engine)
    if recording is not None and speed:  # time passes as it did
        records = recording.records(name)
    elif recording is not None:
        records = playing.play(recording, engine.memory.streams[name])
    send = _sender(settings) if broker else None
    begin = time.perf_counter()
    _play(engine, records, count, speed, send, now)
    if send:
        send(None)
    seconds = time.perf_counter() - begin
    result = ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "no alerts"
    common.note(f"done in {seconds:.1f} s ({count / seconds:.0f} readings/s): {result}")


def settings_for(config: Path | None, stream: str | None, broker: str | None) -> tuple[Settings, str]:
    """Return the configuration and the stream to judge by.

    Raises:
        ConfigurationError: The stream is not there, or not named although there are several.
    """
    from stream_detector.settings import load, validate

    if config is None:
        name = stream or "replay"
        settings = validate({"streams": {name: {"topic": "replay/{device}"}}}, where="replay")
    else:
        settings = load(config)
        name = common.stream_name(settings, stream)
    if broker is not None:
        reach = settings.broker.model_dump(exclude={"url"}) | {"url": broker}
        settings = settings.model_copy(update={"broker": type(settings.broker).model_validate(reach)})
    return settings, name


def _play(
    engine: Engine,
    records: Iterable[Record],
    count: int,
    speed: float,
    send: Callable[[list[Publication] | None], None] | None,
    now: list[int],
) -> None:
    from stream_detector.core.records import Readings, Tick
    from stream_detector.service.decision import Decision

    start, begin = None, time.monotonic()
    with typer.progressbar(length=count, label="replay", file=sys.stderr) as bar:
        for record in records:
            decision = Decision()
            if isinstance(record, Readings):
                now[0] = int(record.arrival[-1])
                start = int(record.arrival[0]) if start is None else start
                if speed:
                    due = begin + (int(record.arrival[0]) - start) / 1e6 / speed
                    time.sleep(max(0.0, due - time.monotonic()))
                engine.processing.readings(decision, record)
                bar.update(len(record))
            else:
                if isinstance(record, Tick):
                    now[0] = record.at
                engine.processing.record(decision, record)
            engine.reporting.report(decision)
            if send and decision.publications:
                send([publication for _, publication in decision.publications])


def _show(
    event: Event, counts: dict[str, int], *, quiet: bool, as_json: bool, labels: tuple[str, str]
) -> None:
    import msgspec

    from stream_detector.core.events import AlertChanged
    from stream_detector.outputs.messages import alert_message, timestamp

    if not isinstance(event, AlertChanged):
        return
    what = f"{event.kind} {WORDS[event.event]}"
    counts[what] = counts.get(what, 0) + 1
    if quiet:
        return
    if as_json:
        print(msgspec.json.encode(alert_message(event, labels, 0.0)).decode())
        return
    at = timestamp(event.updated_at)[:19].replace("T", " ")
    word = f"{WORDS[event.event].upper():<7}"
    print(
        f"{at}  {word}  {event.device}  {event.kind} {event.severity} score {event.score:.2f}: {event.reason}"
    )


def _sender(settings: Settings) -> Callable[[list[Publication] | None], None]:
    """Return what publishes on the broker; called with None it waits until all is confirmed and leaves."""
    from stream_detector.mqtt.link import Link
    from stream_detector.mqtt.publisher import Publisher
    from stream_detector.service.clock import Clock

    if settings.broker.address.scheme == "embedded":
        raise ConfigurationError("--broker: name a broker that runs, such as mqtt://127.0.0.1:1883")
    link = Link(
        settings.broker.model_copy(update={"session_expiry_s": 0}),
        client_id=f"stream-detector-replay-{time.time_ns():x}",
        subscriptions=[],
        will=(f"{settings.topics.base}/replay/status", b""),  # an empty one is not retained
        clock=Clock(),
    )
    deadline = time.monotonic() + PATIENCE_S
    while not link.connected:
        link.poll(0.1)
        if time.monotonic() > deadline:
            raise BrokerError(link.problem or f"the broker at {settings.broker.address} does not answer")
    publisher = Publisher(link)

    def send(publications: list[Publication] | None) -> None:
        for publication in publications or ():
            publisher.put(
                publication.topic, publication.payload, qos=publication.qos, retain=publication.retain
            )
        publisher.pump()
        link.poll(0)
        progress = time.monotonic()
        while publisher.full or (publications is None and len(publisher)):
            link.poll(0.1)
            if publisher.pump():
                progress = time.monotonic()
            elif time.monotonic() - progress > PATIENCE_S:
                problem = link.problem or _not_taken(settings, publisher)
                link.close(1.0)
                raise BrokerError(problem)
        if publications is None:
            link.close(2.0)

    return send


def _not_taken(settings: Settings, publisher: Publisher) -> str:
    """Say what a broker does with our messages that is connected and yet confirms none."""
    base, address = settings.topics.base, settings.broker.address
    if publisher.results["refused"]:
        return f"the broker at {address} refuses what we publish; allow our login to write {base}/#"
    return f"the broker at {address} confirms none of {len(publisher)} messages; check its log"
