"""The service: builds everything from Settings, owns the hot loop and the life of the other threads.

One thread does all the work, a batch at a time; a batch is what one read brought:

    read -> decode -> score -> write to disk -> tell, acknowledge, publish

Nothing leaves before it is on disk. While it cannot be written, nothing further is taken in. A broker
that does not confirm what we publish is still read, because its confirmations come on the same socket:
input at QoS 1 is held back by not acknowledging it, and input at QoS 0 is passed over once too much
waits. An error that nobody expected costs memory, never data: memory comes back from disk, and what was
not acknowledged comes again. Beside the hot thread stand the web thread, the thread that looks for new
models, the one that moves the journal to history, and a watchdog that ends the process should the hot
thread ever hang.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import signal
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

from stream_detector.core.events import ModelRefused
from stream_detector.core.records import Gap, Started, Tick
from stream_detector.errors import ConfigurationError, StateError, StorageError, StreamDetectorError
from stream_detector.formats.intake import RETAIN, Oversized, Tally
from stream_detector.models.reload import Loaded
from stream_detector.mqtt.broker import EmbeddedBroker
from stream_detector.outputs.device_series import DeviceSeries
from stream_detector.outputs.home_assistant import HomeAssistant
from stream_detector.outputs.telemetry import Telemetry
from stream_detector.service.admission import Admission
from stream_detector.service.announcements import Announcements
from stream_detector.service.clock import Clock
from stream_detector.service.commands import Commands, Message
from stream_detector.service.delivery import Delivery
from stream_detector.service.persistence import Persistence
from stream_detector.service.processing import (
    Decision,
    Processing,
    load_wanted,
    model_of_the_past,
    model_watcher,
    wanted_bundles,
    warm_up,
)
from stream_detector.storage.history import Historian
from stream_detector.storage.store import Store
from stream_detector.web.app import WebServer, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from stream_detector.core.events import Event
    from stream_detector.mqtt.frames import Received
    from stream_detector.settings import Settings

POLL_S = 0.2
TICK = 1_000_000
STUCK_S = 60.0
"""The watchdog ends a process whose hot thread has not moved for so long."""
STOP_S = 1.5
START_OVER = 5
"""So many errors that nobody expected in ten minutes, and the process ends."""
WAITING = 64
"""So many batches may wait while nothing can be written; what comes at QoS 0 then is ignored."""


class Service:
    """One running stream_detector.

    Args:
        settings: The configuration.
        readers: Further readers of the events; called in the hot thread.
        clock: Service clock, µs; None: the machine's.
        allow_empty_state: Begin with nothing where what was kept is damaged.

    Raises:
        ConfigurationError: A port is taken, a model is broken, not there or does not fit.
        StateError: What is kept in state_dir cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        readers: Sequence[Callable[[Event], None]] = (),
        *,
        clock: Callable[[], int] | None = None,
        allow_empty_state: bool = False,
    ) -> None:
        warm_up()
        self.settings = settings
        self._store = Store(settings.state_dir, allow_empty=allow_empty_state)
        try:
            self._assemble(readers, clock)
        except BaseException:
            self._store.close()
            raise

    def _assemble(self, readers: Sequence[Callable[[Event], None]], clock: Callable[[], int] | None) -> None:
        settings = self.settings
        self.clock = clock or Clock(at_least=self._store.alive_at)
        series = DeviceSeries(settings.metrics.device_series, settings.metrics.device_series_ttl_s)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, CPU, open files, start time
        self.telemetry = Telemetry(settings.streams, registry, series)
        self._watcher = model_watcher(settings)
        home_assistant = HomeAssistant(
            settings.home_assistant,
            settings.topics.base,
            settings.streams,
            known=lambda stream: self._persistence.recovery.devices(stream),  # noqa: PLW0108 - it comes later
        )
        self.processing = Processing(
            settings,
            self.telemetry,
            self.clock,
            readers,
            admission=lambda pipeline: Admission(
                settings, pipeline, lambda: self._persistence.recovery, self.clock
            ),
            past_model=lambda wanted: model_of_the_past(settings, wanted),
            home_assistant=home_assistant,
        )
        self._historian = Historian(
            settings.state_dir,
            keep_us=round(settings.history.days * 86_400e6),
            keep_bytes=settings.history.max_mb << 20,
        )
        self._persistence = Persistence(
            settings, self.processing, self._store, self._historian, self.telemetry, self.clock
        )
        self._persistence.restore()
        self._stopping = threading.Event()
        self._beat = time.monotonic()
        self._fatal: Exception | None = None
        self.telemetry.disk(settings.state_dir, lambda: self._store.journal_bytes)
        self.client_id = settings.broker.client_id or f"stream-detector-{_instance(settings)}"
        self._web = WebServer(
            build(self.telemetry.registry, self._alive, self.not_ready),
            settings.http.host,
            settings.http.port,
        )
        self.url = self._web.url
        self.broker: EmbeddedBroker | None = None
        if settings.broker.address.scheme == "embedded":
            self.broker = EmbeddedBroker(settings.broker.address.host, settings.broker.address.port)
            self.broker.start()
        self._errors: deque[float] = deque(maxlen=START_OVER)
        self._deaf_since: int | None = self._store.alive_at or self.clock()
        self._ticked = 0
        self._commands = Commands(
            settings.topics.base,
            self.processing,
            answered=self._store.reply,
            recovery=self._persistence.recovery,
            look=self._watcher.look_now,
        )
        self._announcements = Announcements(
            settings,
            self.processing,
            self._persistence,
            self.telemetry,
            home_assistant,
            commands=self._commands.filter,
            client_id=self.client_id,
            broker=self.broker,
            clock=self.clock,
        )
        self._connect()
        self._begin_records()

    def _connect(self) -> None:
        """Begin a connection, with nothing on its way but what the outbox holds."""
        self._link = self._announcements.dial(known=self._store.alive_at > 0)
        self._delivery = Delivery(
            self.settings, self.processing, self._persistence, self._store, self.telemetry, self._link
        )
        self._inbox: deque[tuple[Received, bool]] = deque()  # and whether it is one that failed with others
        self._drains = False
        self._session = 0

    def _begin_records(self) -> None:
        """Say under which configuration, and by which models, what follows is judged."""
        text = self.settings.model_dump_json(include={"streams"})
        decision, now = Decision(), self.clock()
        self.processing.record(
            decision, Started(now, hashlib.sha256(f"{text}\n{platform.machine()}".encode()).hexdigest())
        )
        wanted = wanted_bundles(self.settings)
        for stream in self.settings.streams:
            model = load_wanted(self._watcher, stream, wanted[stream]) if stream in wanted else None
            chosen = self.processing.model_set(now, stream, model)
            if not self._persistence.recovery.scores(chosen):
                self.processing.record(decision, chosen)
            for warning in model.warnings if model else ():
                self.telemetry.say("%s", warning)
        self._delivery.conclude(decision)

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
        self._historian.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        self.telemetry.say("metrics and health on %s", self.url)
        try:
            while not self._stopping.is_set():
                try:
                    self._turn()
                except ConfigurationError as error:
                    self._fatal = error
                    self._stopping.set()
                except Exception as error:  # noqa: BLE001 - whatever it is, what was acknowledged is on disk
                    self._start_over(error)
            self._goodbye()
        finally:
            self._watcher.stop()
            self._historian.stop()
            self._web.stop()
            if self.broker is not None:
                self.broker.stop()
            self._store.close()
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
        if received is not None:
            self._inbox.append((self._spared(received) if self._overfull else received, False))
        self._follow_session()
        if self._delivery.written():
            self._follow_gaps()
        while self._inbox and self._delivery.written():
            self._batch(*self._inbox.popleft())
        if self._delivery.written():
            self._reload()
        if self._delivery.written():
            self._tick()
        if self._delivery.written():
            self._delivery.write()
        elif self._deaf_since is None:  # what waits is not heard
            self._deaf_since = self.clock()
        self._delivery.acknowledge()
        self._announcements.follow(self._delivery)
        self._delivery.pump()

    def _batch(self, received: Received, alone: bool) -> None:  # noqa: FBT001 - as the inbox holds it
        """Decide about what one read brought; what the core cannot take is found message by message."""
        oversized = {place: Oversized(cut.size, cut.sha256) for place, cut in received.truncated.items()}
        decision = Decision()
        try:
            taken = self.processing.messages(
                decision,
                received.topics,
                received.payloads,
                received.flags,
                received.arrival,
                oversized,
                received.packet_ids,
                time.time_ns() // 1000,
            )
            for place in taken.commands:
                self._commands.take(decision, _request(received, place, oversized.get(place)))
        except Exception as error:  # noqa: BLE001 - no message can stop the next one
            self._isolate(received, error, alone=alone)
            return
        if taken.own:
            self._announcements.listen(taken)
        self._delivery.conclude(decision, received)

    def _isolate(self, received: Received, error: Exception, *, alone: bool) -> None:
        """Restore memory, and take a batch again, message by message: the one that fails again is refused."""
        self.telemetry.complain(
            "internal error",
            "a batch of %d messages could not be processed (%s); please report this",
            len(received),
            type(error).__name__,
        )
        self._persistence.restore()
        if not alone:
            self._inbox.extendleft((received.one(place), True) for place in reversed(range(len(received))))
            return
        decision = Decision()
        self.processing.refuse_message(
            decision, received.topics[0], received.payloads[0], received.arrival, error
        )
        self._delivery.conclude(decision, received)

    def _start_over(self, error: Exception) -> None:
        """Begin anew from what is on disk: what was not acknowledged comes again."""
        self.telemetry.complain(
            "start over",
            "something unexpected happened (%s: %s); starting over from state_dir, nothing acknowledged is"
            " lost; please report this",
            type(error).__name__,
            error,
        )
        self._errors.append(time.monotonic())
        if len(self._errors) == START_OVER and self._errors[-1] - self._errors[0] < 600:  # noqa: PLR2004 - s
            self._fatal = StreamDetectorError(
                f"the service failed {START_OVER} times within ten minutes ({type(error).__name__}: {error});"
                " nothing acknowledged is lost: start it again, and please report this"
            )
            self._stopping.set()
            return
        self._link.close(0.0)
        self._persistence.restore()
        self._connect()
        self._begin_records()  # a model that was about to be used is not forgotten

    @property
    def _overfull(self) -> bool:
        return self._delivery.publisher.overfull or len(self._inbox) >= WAITING

    def _spared(self, received: Received) -> Received:
        """Count the messages at QoS 0 as ignored, and return the others."""
        kept = received.without_qos0()
        if ignored := len(received) - len(kept):
            tally = Tally(received=ignored, ignored=Counter(overload=ignored))
            self.telemetry.messages({"": tally}, received.arrival)
        return kept

    def _reload(self) -> None:
        for report in self._watcher.take():
            now, decision = self.clock(), Decision()
            if isinstance(report, Loaded):
                self.processing.record(decision, self.processing.model_set(now, report.stream, report.model))
                decision.publications.append(("", self._announcements.info()))
            else:
                self.processing.refuse(
                    decision,
                    ModelRefused(
                        now, report.stream, report.name, report.version, report.reason, report.message
                    ),
                )
            self._delivery.conclude(decision)

    def _tick(self) -> None:
        """Let time pass: only while we would have heard, once a second."""
        now = self.clock()
        if self._link.drained and self._deaf_since is None and now - self._ticked >= TICK:
            self._ticked = now
            decision = Decision()
            self.processing.record(decision, Tick(now))
            self._delivery.conclude(decision)

    def _follow_gaps(self) -> None:
        """Record when we could not hear: without a connection or held back, then draining what piled up."""
        link, now = self._link, self.clock()
        if not link.ready or self._delivery.publisher.full:
            self._drains = False
            if self._deaf_since is None:
                self._deaf_since = now
            return
        if self._deaf_since is None or (self._drains and not link.drained):
            return
        decision = Decision()
        self.processing.record(decision, Gap(self._deaf_since, now))
        self._delivery.conclude(decision)
        self._drains = not link.drained
        self._deaf_since = now if self._drains else None

    def _follow_session(self) -> None:
        """A session that the broker did not keep begins with new packet ids: the old ones mean nothing."""
        if self._session != self._link.epoch:
            self._session = self._link.epoch
            if not self._link.session_present:
                self.processing.intake.deliveries.forget()

    def _goodbye(self) -> None:
        """Write and publish what is left, and leave in order."""
        deadline = time.monotonic() + STOP_S
        if self._link.connected:
            self._announcements.leave(self._delivery)
            while self._delivery.publisher.under_way and self._link.connected and time.monotonic() < deadline:
                self._delivery.pump()
                self._link.poll(0.01)
        self._link.close(max(0.1, deadline - time.monotonic()))
        try:
            self._persistence.finish(time.monotonic() + STOP_S)
        except StorageError as error:
            self.telemetry.complain("storage", "%s", error)
        self.telemetry.say("stopped")

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
        reasons += self._delivery.reasons()
        stuck = self._alive()
        return [*reasons, stuck] if stuck else reasons

    def _watch(self) -> None:
        while not self._stopping.wait(1.0):
            if self._quiet_s() > STUCK_S:
                self.telemetry.complain(
                    "watchdog", "the hot thread hangs; ending, so that it is started anew"
                )
                os._exit(1)


def _request(received: Received, place: int, oversized: Oversized | None) -> Message:
    return Message(
        topic=received.topics[place].decode(),
        payload=received.payloads[place],
        retained=bool(received.flags[place] & RETAIN),
        oversized=oversized,
        properties=received.properties.get(place, b""),
        arrival=received.arrival,
    )


def _instance(settings: Settings) -> str:
    """Return 8 hex digits that stay the same over restarts, kept in state_dir.

    Raises:
        StateError: The folder cannot be used.
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
        raise StateError(
            f"state_dir {settings.state_dir} cannot be used ({getattr(error, 'strerror', None) or error}):"
            " name a folder that this user may write to"
        ) from None
    return text
