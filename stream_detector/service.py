"""The service: builds everything from Settings, owns the hot loop and the life of the other threads.

One thread does all the work: it reads the socket, decodes, scores, publishes and acknowledges, a
batch at a time; a batch is what one read brought. A broker that does not confirm what we publish is
still read, because its confirmations come on the same socket: input at QoS 1 is held back by not
acknowledging it, and input at QoS 0 is passed over once too much waits. Beside the hot thread stand the
web thread, the thread that looks for new models, and a watchdog that ends the process should the hot
thread ever hang.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CollectorRegistry

from stream_detector import __version__
from stream_detector.core.events import ModelRefused
from stream_detector.core.records import Gap, Tick
from stream_detector.errors import ConfigurationError
from stream_detector.formats.intake import Oversized, Tally
from stream_detector.models.reload import Loaded
from stream_detector.mqtt.broker import EmbeddedBroker
from stream_detector.mqtt.frames import Received
from stream_detector.mqtt.link import Link
from stream_detector.mqtt.publisher import Publisher
from stream_detector.processing import Processing, load_wanted, model_watcher, wanted_bundles, warm_up
from stream_detector.telemetry import Telemetry
from stream_detector.web.app import WebServer, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from stream_detector.core.events import Event
    from stream_detector.formats.intake import Taken
    from stream_detector.mqtt.settings import BrokerSettings
    from stream_detector.publications import Publication
    from stream_detector.settings import Settings

POLL_S = 0.2
TICK = 1_000_000
STUCK_S = 60.0
"""The watchdog ends a process whose hot thread has not moved for so long."""
COMPLAIN_S = 60.0
STOP_S = 1.5
NOTE_S = 0.1
"""The gauges of the outbox are at most so old."""
ANSWER_S = 0.5
"""So long the broker gets to tell of another service: retained messages come some time after the SUBACK."""


class Clock:
    """The service clock: wall time at start plus monotonic time, so it never runs backwards.

    Example:
        >>> clock = Clock()
        >>> clock() <= clock()
        True
    """

    def __init__(self) -> None:
        self._wall = time.time_ns() // 1000
        self._monotonic = time.monotonic_ns() // 1000

    def __call__(self) -> int:
        """Return µs since 1970 UTC."""
        return self._wall + time.monotonic_ns() // 1000 - self._monotonic


class Service:
    """One running stream_detector.

    Args:
        settings: The configuration.
        readers: Further readers of the events; called in the hot thread.

    Raises:
        ConfigurationError: A port is taken, a folder cannot be used, a model is broken, not there or does
            not fit.
    """

    def __init__(self, settings: Settings, readers: Sequence[Callable[[Event], None]] = ()) -> None:
        warm_up()
        self.settings = settings
        self.clock = Clock()
        self.telemetry = Telemetry(settings.streams, CollectorRegistry())
        self.processing = Processing(settings, self.telemetry, self.clock, readers)
        self._stopping = threading.Event()
        self._beat = time.monotonic()
        self._fatal: Exception | None = None
        instance = _instance(settings)
        self.telemetry.disk(settings.state_dir)
        self.client_id = settings.broker.client_id or f"stream-detector-{instance}"
        self._watcher = model_watcher(settings)
        self._load_models()
        self._web = WebServer(
            build(self.telemetry.registry, self._alive, self.not_ready),
            settings.http.host,
            settings.http.port,
        )
        self.url = self._web.url
        self.broker: EmbeddedBroker | None = None
        broker = settings.broker
        if broker.address.scheme == "embedded":
            self.broker = EmbeddedBroker(broker.address.host, broker.address.port)
            self.broker.start()
            broker = broker.model_copy(update={"url": self.broker.url(broker.protocol)})
        self._link = self._dial(broker)
        self._publisher = Publisher(self._link)
        self._unacknowledged: list[Received] = []  # without their messages
        self._foreign_online = False
        self._announced = 0
        self._deaf_since: int | None = self.clock()
        self._drains = False
        self._standing = (False, 0)
        self._noted = 0.0
        self._ticked = 0
        self._complained = time.monotonic() - COMPLAIN_S + 1.0  # a broker answers within a second
        self._foreign: str | None = None
        self._listening_since: float | None = None
        self.processing.start(self.clock())

    @property
    def ready(self) -> bool:
        """Whether the service does its job now."""
        return not self.not_ready()

    def run(self) -> None:
        """Work until `stop` is called, or a signal that `stop_on_signals` waits for.

        Raises:
            ConfigurationError: Another service lives under the same base topic.
        """
        self._web.start()
        self._watcher.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        self.telemetry.say("metrics and health on %s", self.url)
        try:
            while not self._stopping.is_set():
                self._turn()
            self._goodbye()
        finally:
            self._watcher.stop()
            self._web.stop()
            if self.broker is not None:
                self.broker.stop()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """End `run` in order; may be called from any thread and from a signal handler."""
        self._stopping.set()
        self._link.wake()

    def stop_on_signals(self) -> None:
        """End in order on SIGTERM and SIGINT."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)

    # -- the hot loop ---------------------------------------------------------------------------

    def _turn(self) -> None:
        self._beat = time.monotonic()
        received = self._link.poll(POLL_S)
        self._follow_gaps()
        if received is not None:
            self._batch(self._spared(received) if self._publisher.overfull else received)
        self._acknowledge()
        self._reload()
        self._follow_connection()
        self._tick()
        self._publisher.pump()

    def _batch(self, received: Received) -> None:
        """Score what one read brought, publish what it gave, and note what is to be acknowledged."""
        oversized = {place: Oversized(cut.size, cut.sha256) for place, cut in received.truncated.items()}
        publications, taken = self.processing.messages(
            received.topics, received.payloads, received.flags, received.arrival, oversized
        )
        self._publish(publications)
        if any(received.packet_ids):
            self._unacknowledged.append(Received(packet_ids=received.packet_ids, epoch=received.epoch))
        if taken.own:
            self._look_for_others(taken)

    def _spared(self, received: Received) -> Received:
        """Count the messages at QoS 0 as ignored, and return the others."""
        kept = received.without_qos0()
        if ignored := len(received) - len(kept):
            tally = Tally(received=ignored, ignored=Counter(overload=ignored))
            self.telemetry.messages({"": tally}, received.arrival)
        return kept

    def _acknowledge(self) -> None:
        """Acknowledge in order, but nothing while the broker owes us: it stops at what it may have open."""
        if self._publisher.full:
            epoch = self._link.epoch  # what came on an earlier connection comes again
            self._unacknowledged = [batch for batch in self._unacknowledged if batch.epoch == epoch]
            return
        for batch in self._unacknowledged:
            self._link.acknowledge(batch)
        self._unacknowledged.clear()

    def _publish(self, publications: list[Publication]) -> None:
        deadletters = f"{self.settings.topics.base}/deadletter/"
        for publication in publications:
            if self._publisher.full and publication.topic.startswith(deadletters):
                self.telemetry.deadletter_suppressed()
                continue
            self._publisher.put(
                publication.topic, publication.payload, qos=publication.qos, retain=publication.retain
            )

    def _reload(self) -> None:
        for report in self._watcher.take():
            now = self.clock()
            if isinstance(report, Loaded):
                self._publish(self.processing.use(now, report.stream, report.model))
                self._publish([self._info()])
            else:
                self._publish(
                    self.processing.refuse(
                        ModelRefused(
                            now, report.stream, report.name, report.version, report.reason, report.message
                        )
                    )
                )

    def _tick(self) -> None:
        """Let time pass: only while we would have heard, once a second."""
        now = self.clock()
        if self._link.drained and self._deaf_since is None and now - self._ticked >= TICK:
            self._ticked = now
            self._publish(self.processing.record(Tick(now)))

    def _follow_gaps(self) -> None:
        """Record when we could not hear: without a connection or held back, then draining what piled up."""
        link, now = self._link, self.clock()
        if not link.ready or self._publisher.full:
            self._drains = False
            if self._deaf_since is None:
                self._deaf_since = now
            return
        if self._deaf_since is None or (self._drains and not link.drained):
            return
        self.processing.record(Gap(self._deaf_since, now))
        self._drains = not link.drained
        self._deaf_since = now if self._drains else None

    def _follow_connection(self) -> None:
        """Complain while there is no connection, and announce ourselves on every new one."""
        link = self._link
        if not link.ready and time.monotonic() - self._complained >= COMPLAIN_S and link.problem:
            self._complained = time.monotonic()
            self.telemetry.complain("connection", "not connected: %s", link.problem)
        if link.drained and self._announced != link.epoch and self._sees_nobody_else():
            self._announced = link.epoch
            self._complained = -COMPLAIN_S
            self._publish([self._info(), self.processing.publications.status("online")])
            self.telemetry.say(
                "connected to %s with MQTT %s, subscribed to %s",
                self._where(),
                link.protocol,
                ", ".join(self.processing.intake.filters),
            )
            if link.protocol_note:
                self.telemetry.say("%s", link.protocol_note)
        standing = (link.ready, link.epoch)
        if standing == self._standing and time.monotonic() - self._noted < NOTE_S:
            return
        self._standing, self._noted = standing, time.monotonic()
        self.telemetry.connection(
            ready=link.ready,
            reconnects=link.reconnects,
            results=self._publisher.results,
            waiting=len(self._publisher),
            oldest_at=self._publisher.oldest_at,
        )

    def _goodbye(self) -> None:
        """Publish what is left and leave in order."""
        deadline = time.monotonic() + STOP_S
        if self._link.connected:
            if self._announced:  # else the status is another one's
                self._publish([self.processing.publications.status("stopped")])
            while len(self._publisher) and self._link.connected and time.monotonic() < deadline:
                self._publisher.pump()
                self._link.poll(0.01)
        self._link.close(max(0.1, deadline - time.monotonic()))
        self.telemetry.say("stopped")

    # -- its place among others -----------------------------------------------------------------

    def _info(self) -> Publication:
        streams = {
            name: {
                "topic": stream.topic,
                "format": stream.format,
                "channels": {channel: said.unit for channel, said in stream.channels.items()},
                "window": stream.window,
                "model": self.processing.model_of(name),
            }
            for name, stream in self.settings.streams.items()
        }
        return self.processing.publications.info(
            {"instance": self.client_id, "version": __version__, "streams": streams}
        )

    def _sees_nobody_else(self) -> bool:
        """Return whether we are alone under our base topic; asked once subscribed, until it is.

        What counts is what was said last: a session that the broker kept may begin with old news.
        """
        if self._listening_since is None:
            self._listening_since = time.monotonic()
        if self._announced:
            return True
        if time.monotonic() - self._listening_since < ANSWER_S:
            return False
        if self._foreign is None or not self._foreign_online:
            return True
        base = self.settings.topics.base
        self._fatal = ConfigurationError(
            f"another stream_detector ({self._foreign}) is online under topics.base: {base};"
            " give this one another topics.base, or stop the other",
            key="topics.base",
        )
        self._stopping.set()
        return False

    def _look_for_others(self, taken: Taken) -> None:
        """Note who else is, or was, under our base topic and whether it lives, whichever comes first."""
        base = self.settings.topics.base
        for topic, payload in taken.own:
            if topic == f"{base}/info":
                try:
                    instance = msgspec.json.decode(payload)["instance"]
                except (msgspec.DecodeError, KeyError, TypeError):
                    continue
                self._foreign = instance if instance != self.client_id else None
            if topic == f"{base}/status":
                self._foreign_online = payload == b"online"

    def _dial(self, broker: BrokerSettings) -> Link:
        base = self.settings.topics.base
        own = [(f"{base}/info", 1), (f"{base}/status", 1)]
        qos = [stream.qos for stream in self.settings.streams.values()]
        return Link(
            broker,
            client_id=self.client_id,
            subscriptions=[*own, *zip(self.processing.intake.filters, qos, strict=True)],
            will=(self.processing.publications.status_topic, b"offline"),
            clock=self.clock,
            replayed=[topic for topic, _ in own],  # one that was there before must be heard of, too
        )

    def _where(self) -> str:
        if self.broker is not None:
            return (
                f"the embedded broker on {self.broker.host} port {self.broker.port} (MQTT 3.1.1) and"
                f" {self.broker.port_v5} (MQTT 5)"
            )
        return str(self.settings.broker.address)

    def _load_models(self) -> None:
        now = self.clock()
        for stream, name in wanted_bundles(self.settings).items():
            model = load_wanted(self._watcher, stream, name)
            self.processing.use(now, stream, model)
            for warning in model.warnings:
                self.telemetry.say("%s", warning)

    # -- health ---------------------------------------------------------------------------------

    def _alive(self) -> str | None:
        quiet = self._quiet_s()
        return f"the hot thread has not moved for {quiet:.0f} s" if quiet > STUCK_S / 2 else None

    def _quiet_s(self) -> float:
        """Return for how long the hot thread has not moved; waiting for a slow dial is no standstill."""
        return time.monotonic() - max(self._beat, self._link.excused_until)

    def not_ready(self) -> list[str]:
        """Return why the service does not do its job now; empty: it does."""
        reasons = []
        if not self._link.ready:
            reasons.append(self._link.problem or "not connected to the broker yet")
        if self._publisher.full:
            reasons.append(self._held_back())
        stuck = self._alive()
        return [*reasons, stuck] if stuck else reasons

    def _held_back(self) -> str:
        so_far = "input at QoS 0 is ignored" if self._publisher.overfull else "input at QoS 1 waits"
        return f"the broker does not confirm what is published; {so_far}"

    def _watch(self) -> None:
        while not self._stopping.wait(1.0):
            if self._quiet_s() > STUCK_S:
                self.telemetry.complain(
                    "watchdog", "the hot thread hangs; ending, so that it is started anew"
                )
                os._exit(1)


def _instance(settings: Settings) -> str:
    """Return 8 hex digits that stay the same over restarts, kept in state_dir.

    Raises:
        ConfigurationError: The folder cannot be used.
    """
    path = settings.state_dir / "instance"
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            text = path.read_text(encoding="ascii").strip()
            if len(text) == 8 and set(text) <= set("0123456789abcdef"):  # noqa: PLR2004 - 8 hex digits
                return text
        text = secrets.token_hex(4)
        path.write_text(text + "\n", encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"state_dir: {settings.state_dir} cannot be used ({getattr(error, 'strerror', None) or error});"
            " name a folder that this user may write to",
            key="state_dir",
        ) from None
    return text
