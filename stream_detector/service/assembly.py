"""The running service: what it is made of, put together in the order of dependence, and its threads.

One thread does all the work (`loop`). Beside it stand the web thread, the thread that looks for new
models, the one that moves the journal to history, and a watchdog that ends the process should the hot
thread ever hang.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

from stream_detector.errors import ConfigurationError, StreamDetectorError
from stream_detector.mqtt.broker import EmbeddedBroker
from stream_detector.outputs.device_series import DeviceSeries
from stream_detector.outputs.home_assistant import HomeAssistant
from stream_detector.outputs.log import Log
from stream_detector.outputs.metrics import Metrics
from stream_detector.service.announcements import DROPPED, Announcements
from stream_detector.service.broker_requests import BrokerRequests
from stream_detector.service.clock import Clock
from stream_detector.service.commands import Commands
from stream_detector.service.connection import Connector, Subscriptions
from stream_detector.service.engine import Engine
from stream_detector.service.fleet_view import FleetView
from stream_detector.service.instance import instance_name
from stream_detector.service.loop import Loop
from stream_detector.service.memory import Memory, warm_up
from stream_detector.service.other_instances import OtherInstances
from stream_detector.service.persistence import Persistence
from stream_detector.service.recovery import Recovery
from stream_detector.service.scoring_models import ScoringModels, model_watcher
from stream_detector.service.start_records import StartRecords
from stream_detector.service.watchdog import Watchdog
from stream_detector.storage.history import Historian
from stream_detector.storage.store import Store
from stream_detector.web.app import WebServer, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from stream_detector.core.events import Event
    from stream_detector.settings import Settings


class Service:
    """One running stream_detector.

    Args:
        settings: The configuration.
        readers: Further readers of the events; called in the hot thread.
        clock: Service clock, µs; None: the machine's.
        allow_empty_state: Begin with nothing where what was kept is damaged.

    Attributes:
        settings: The configuration.
        metrics: What is counted.
        fleet: The devices and their alerts, for other threads to read.
        broker: The embedded broker, if there is one.
        url: Where HTTP is served.

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
        self._stopping = threading.Event()
        self._fatal: StreamDetectorError | None = None
        self._store = Store(settings.state_dir, allow_empty=allow_empty_state)
        try:
            self._assemble(settings, readers, clock or Clock(at_least=self._store.alive_at))
        except BaseException:
            self._store.close()
            raise

    def _assemble(
        self, settings: Settings, readers: Sequence[Callable[[Event], None]], clock: Callable[[], int]
    ) -> None:
        streams, base, store = settings.streams, settings.topics.base, self._store
        durability = {name: stream.kept for name, stream in streams.items()}

        # What is reported.
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, CPU, open files, start time
        series = DeviceSeries(settings.metrics.device_series, settings.metrics.device_series_ttl_s)
        self.metrics = metrics = Metrics(streams, registry, series)
        metrics.disk(settings.state_dir, lambda: store.journal_bytes)
        log = Log()

        # What decides.
        models = ScoringModels(settings.models_dir)
        memory = Memory([stream.spec(name) for name, stream in streams.items()], models)
        self.fleet = fleet = FleetView()
        recovery = Recovery(memory, store, durability, metrics, log, fleet)
        home_assistant = HomeAssistant(settings.home_assistant, base, streams, known=recovery.devices)
        engine = Engine(
            settings,
            clock,
            models=models,
            memory=memory,
            metrics=metrics,
            log=log,
            fleet=fleet,
            on_disk=recovery,
            home_assistant=home_assistant,
            readers=[*readers, home_assistant.event],
        )

        # What is kept.
        self._historian = Historian(
            settings.state_dir,
            keep_us=round(settings.history.days * 86_400e6),
            keep_bytes=settings.history.max_mb << 20,
        )
        persistence = Persistence(
            engine, recovery, store, self._historian, durability, max_devices=settings.max_devices
        )
        persistence.restore()

        # Where we listen and connect.
        self.client_id = settings.broker.client_id or f"stream-detector-{instance_name(settings.state_dir)}"
        self._web = WebServer(
            build(registry, self._problem, self.not_ready), settings.http.host, settings.http.port
        )
        self.url = self._web.url
        self.broker: EmbeddedBroker | None = None
        if settings.broker.address.scheme == "embedded":
            self.broker = EmbeddedBroker(settings.broker.address.host, settings.broker.address.port)
            self.broker.start()

        # What we are asked, and how we appear.
        self._watcher = model_watcher(streams, settings.models_dir)
        commands = Commands(
            memory,
            engine.processing,
            stored_reply=store.reply,
            recovery=recovery,
            look_for_models=self._watcher.look_now,
        )
        requests = BrokerRequests(base, commands, engine.processing, reads=engine.intake.reads)
        other_instances = OtherInstances(base, self.client_id)
        connector = Connector(
            settings.broker,
            self.broker,
            client_id=self.client_id,
            subscriptions=Subscriptions(
                service=[(topic, 1) for topic in other_instances.topics],
                streams=list(
                    zip(engine.intake.filters, [stream.qos for stream in streams.values()], strict=True)
                ),
                optional=[
                    (requests.filter, 1),
                    *((topic, 1) for topic in settings.home_assistant.filters),
                    *([(DROPPED, 0)] if self.broker is None else []),
                ],
                requests=requests.filter.removesuffix("+"),
            ),
            engine=engine,
            persistence=persistence,
            store=store,
            base=base,
            home_assistant_prefix=settings.home_assistant.prefix,
        )
        announcements = Announcements(
            engine,
            persistence,
            connector,
            home_assistant,
            other_instances,
            streams={name: stream.about for name, stream in streams.items()},
            commands=requests.filter,
            client_id=self.client_id,
        )

        # What runs.
        start = StartRecords(
            streams,
            settings.model_dump_json(include={"streams"}),
            models,
            self._watcher,
            recovery,
            log,
        )
        self._log = log
        self._loop = Loop(
            engine,
            persistence,
            connector,
            announcements,
            requests,
            self._watcher,
            start,
            deaf_since=store.alive_at or clock(),
        )
        self._watchdog = Watchdog(lambda: self._loop.excused_until, log)

    @property
    def ready(self) -> bool:
        """Whether the service does its job now."""
        return not self.not_ready()

    def not_ready(self) -> list[str]:
        """Return why the service does not do its job now; empty: it does."""
        hangs = self._watchdog.problem()
        return [*self._loop.not_ready(), *([hangs] if hangs else [])]

    def _problem(self) -> str | None:
        return self._watchdog.problem()

    def run(self) -> None:
        """Work until `stop` is called, or a signal that `stop_on_signals` waits for.

        Raises:
            ConfigurationError: Another service lives under the same base topic.
            StreamDetectorError: Unexpected errors came too often.
        """
        self._web.start()
        self._watcher.start()
        self._historian.start()
        self._watchdog.start(self._stopping)
        self._log.info("metrics and health on %s", self.url)
        try:
            while not self._stopping.is_set():
                self._watchdog.moved()
                self._turn()
            self._loop.finish()
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
        self._loop.connection.link.wake()

    def stop_on_signals(self) -> None:
        """End in order on SIGTERM and SIGINT."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)

    def _turn(self) -> None:
        """Do one turn; after an unexpected error begin anew from disk."""
        try:
            try:
                self._loop.turn()
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, what was acknowledged is on disk
                self._loop.start_over(error)
        except StreamDetectorError as error:
            self._fatal = error
            self._stopping.set()
