"""The engine: all that decides and reports, put together in one order; no socket and no file.

The live service, `replay` and the tests run the same engine. A part gets what it uses and nothing that
is made after it, so the order is the order of dependence:

    models -> memory -> (recovery) -> admission -> intake -> processing, reporting
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from stream_detector.formats.intake import Intake
from stream_detector.outputs.log import Log
from stream_detector.outputs.messages import Publications
from stream_detector.outputs.metrics import Metrics
from stream_detector.service.admission import Admission, AdmitAll
from stream_detector.service.fleet_view import FleetView
from stream_detector.service.memory import Memory
from stream_detector.service.processing import Processing
from stream_detector.service.reporting import Reporting
from stream_detector.service.scoring_models import ScoringModels
from stream_detector.settings import BUILT_IN_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_detector.core.events import Event
    from stream_detector.outputs.device_series import DeviceSeries
    from stream_detector.outputs.home_assistant import HomeAssistant
    from stream_detector.service.admission import OnDisk
    from stream_detector.settings import Settings

BUILT_AT = 1_767_225_600_000_000
"""2026-01-01 UTC in µs: no clock is believed to be before this code."""


class Engine:
    """Messages in, decisions out, decisions reported.

    Args:
        settings: The configuration.
        clock: Service clock, µs.
        models: The models that records name.
        memory: The devices.
        metrics: Counts what is reported.
        log: Writes lines.
        fleet: Shows the devices to other threads.
        on_disk: The devices that are only on disk; None: there is no disk, and every device is admitted.
        home_assistant: Adds what Home Assistant gets; None: it gets nothing.
        readers: Further readers of the events, such as the demo's screen.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], int],
        *,
        models: ScoringModels,
        memory: Memory,
        metrics: Metrics,
        log: Log,
        fleet: FleetView,
        on_disk: OnDisk | None = None,
        home_assistant: HomeAssistant | None = None,
        readers: Sequence[Callable[[Event], None]] = (),
    ) -> None:
        streams, base = settings.streams, settings.topics.base
        self.clock = clock
        self.models = models
        self.memory = memory
        self.metrics = metrics
        self.log = log
        self.fleet = fleet
        self.intake = Intake(
            streams,
            base=base,
            also_own=settings.home_assistant.owns,
            admission=AdmitAll(memory)
            if on_disk is None
            else Admission(
                memory,
                on_disk,
                clock,
                max_devices=settings.max_devices,
                new_a_minute=settings.new_devices_per_minute,
            ),
            built_at=BUILT_AT,
            keep_deliveries=settings.broker.redeliveries,
        )
        self.messages = Publications(base, {name: stream.labels for name, stream in streams.items()})
        self.processing = Processing(
            memory,
            self.intake,
            self.messages,
            clock,
            scores=[name for name, stream in streams.items() if stream.publish_scores],
            home_assistant=home_assistant,
        )
        self.reporting = Reporting(memory, metrics, log, [*readers, fleet.event], clock)
        self.bundle_roles = {
            name: role
            for name, stream in streams.items()
            for role, model in stream.detectors.items()
            if model not in BUILT_IN_MODELS
        }
        for name in streams:
            detector = memory.detector(name)
            metrics.model(name, detector.name, detector.version)


def offline(
    settings: Settings,
    clock: Callable[[], int],
    *,
    readers: Sequence[Callable[[Event], None]] = (),
    on_disk: OnDisk | None = None,
    registry: CollectorRegistry | None = None,
    series: DeviceSeries | None = None,
) -> Engine:
    """Return an engine that keeps nothing: for recordings and tests.

    Args:
        settings: The configuration.
        clock: Service clock, µs.
        readers: Readers of the events.
        on_disk: Makes the limits on devices hold; None: every device is admitted.
        registry: Where the metrics are registered; None: one of its own.
        series: The series of single devices; None: there are none.
    """
    models = ScoringModels()
    return Engine(
        settings,
        clock,
        models=models,
        memory=Memory([stream.spec(name) for name, stream in settings.streams.items()], models),
        metrics=Metrics(settings.streams, registry or CollectorRegistry(), series),
        log=Log(),
        fleet=FleetView(),
        on_disk=on_disk,
        readers=readers,
    )
