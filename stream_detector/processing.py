"""From messages to publications: intake, core and readers of the events, put together once.

The live service, `replay` and the tests all go through here, so they cannot differ. Nothing in this
module knows a socket.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.events import AlertChanged, ModelRefused, Rejected
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import NO_SEQ, ModelSet, Readings, Started
from stream_detector.core.stream import StreamSpec
from stream_detector.detectors.baseline import Light
from stream_detector.errors import BundleError, ConfigurationError
from stream_detector.formats.intake import Intake, Taken, Tally, rejection
from stream_detector.models.reload import ModelWatcher
from stream_detector.publications import ModelMessage, Publication, Publications
from stream_detector.settings import BUILT_IN_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream_detector.core.detector import Detector
    from stream_detector.core.events import Event, Outcome
    from stream_detector.core.records import Record
    from stream_detector.detectors.pyod import FittedModel
    from stream_detector.formats.intake import Oversized
    from stream_detector.settings import Settings, StreamSettings
    from stream_detector.telemetry import Telemetry

BUILT_AT = 1_767_225_600_000_000
"""2026-01-01 UTC in µs: no clock is believed to be before this code."""
DEADLETTERS_A_SECOND = 20.0
DEADLETTER_BURST = 200.0


class Processing:
    """The service without its sockets.

    Args:
        settings: The configuration.
        telemetry: Gets every event and count.
        clock: Service clock, µs; only for what is said about time spent.
        readers: Further readers of the events, such as the demo's screen.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        clock: Callable[[], int],
        readers: Sequence[Callable[[Event], None]] = (),
    ) -> None:
        self.settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._readers = (telemetry.event, *readers)
        self._loaded: dict[tuple[str, str, str], Detector] = {}
        self.pipeline = Pipeline(
            [stream.spec(name) for name, stream in settings.streams.items()],
            initial=Light,
            model=lambda wanted: self._loaded[wanted.name, wanted.version, wanted.sha256],
        )
        self.intake = Intake(
            settings.streams,
            base=settings.topics.base,
            max_devices=settings.max_devices,
            channels_of=lambda stream, device: self.pipeline.streams[stream].channels_of(device),
            built_at=BUILT_AT,
        )
        self.publications = Publications(
            settings.topics.base, {name: stream.labels for name, stream in settings.streams.items()}
        )
        self._deadletters = DEADLETTER_BURST
        self._deadletters_at = 0.0
        for name, stream in self.pipeline.streams.items():
            telemetry.model(name, stream.detector.name, stream.detector.version)

    def start(self, at: int) -> None:
        """Say under which configuration what follows is judged."""
        text = self.settings.model_dump_json(include={"streams"})
        self.pipeline.process(Started(at, hashlib.sha256(text.encode()).hexdigest()))

    def messages(
        self,
        topics: Sequence[bytes],
        payloads: Sequence[bytes],
        flags: Sequence[int],
        arrival: int,
        oversized: Mapping[int, Oversized] | None = None,
    ) -> tuple[list[Publication], Taken]:
        """Take messages in, in arrival order; see `Intake.take`.

        Returns:
            What is to be published, and what the intake made of the messages.
        """
        taken = self.intake.take(topics, payloads, flags, arrival, oversized)
        publications = []
        for readings in taken.readings:
            publications += self.readings(readings, taken)
        publications += self._published(taken.rejected)
        self._telemetry.messages(taken.tallies, arrival)
        for stream, device in self.intake.devices_with_other_captures():
            self._telemetry.complain(
                f"captures {stream}",
                "%s/%s is seen under different captures of its topic; name both in streams.%s.device"
                " if these are different devices",
                stream,
                device,
                stream,
            )
        return publications, taken

    def readings(self, readings: Readings, taken: Taken | None = None) -> list[Publication]:
        """Take checked readings in, in arrival order.

        What the core cannot take is accounted for in `taken`; without one its error is raised.
        """
        begin = time.perf_counter()
        try:
            outcome = self.pipeline.process(readings)[readings.stream]
        except Exception as error:  # no reading can stop the next one
            if taken is None:
                raise
            self._internal_error(readings, taken, error)
            return []
        seconds = time.perf_counter() - begin
        self._telemetry.batch(readings.stream, outcome.counts, outcome.scores, seconds)
        publications = self._published(outcome.events)
        if self.settings.streams[readings.stream].publish_scores:
            publications += self._scores(readings, outcome)
        return publications

    def record(self, record: Record) -> list[Publication]:
        """Take in a record that brings no readings."""
        publications = []
        for outcome in self.pipeline.process(record).values():
            publications += self._published(outcome.events)
        return publications

    def use(self, at: int, stream: str, model: FittedModel) -> list[Publication]:
        """Score a stream with a bundle from now on; refuse one that does not fit it."""
        problem = misfit(stream, self.settings.streams[stream], model)
        if problem:
            return self.refuse(ModelRefused(at, stream, model.name, model.version, "features", problem))
        self._loaded[model.name, model.version, model.sha256] = model
        return self.record(ModelSet(at, stream, "live", model.name, model.version, model.sha256))

    def refuse(self, refused: ModelRefused) -> list[Publication]:
        """Note a model that is not used."""
        return self._published([refused])

    def model_of(self, stream: str) -> ModelMessage:
        """Return what scores a stream."""
        detector = self.pipeline.streams[stream].detector
        return ModelMessage(detector.name, detector.version, "live")

    def _published(self, events: Sequence[Event]) -> list[Publication]:
        publications = []
        for event in events:
            for read in self._readers:
                read(event)
            if isinstance(event, Rejected) and not self._may_send_deadletter():
                self._telemetry.deadletter_suppressed()
                continue
            now = self._clock()
            publication = self.publications.of(event, now)
            if publication is not None:
                publications.append(publication)
            if isinstance(event, AlertChanged):
                self._telemetry.handed_over(event, now)
        return publications

    def _scores(self, readings: Readings, outcome: Outcome) -> list[Publication]:
        model = self.model_of(readings.stream)
        return [
            self.publications.score(
                readings.stream, readings.devices[i], int(readings.ts[i]), float(score), model
            )
            for i, score in zip(outcome.scored.tolist(), outcome.scores, strict=True)
        ]

    def _internal_error(self, readings: Readings, taken: Taken, error: Exception) -> None:
        """Count a batch that the core could not take; it is not tried again."""
        self._telemetry.complain(
            "internal error",
            "%d readings of %s could not be processed (%s); please report this",
            len(readings),
            readings.stream,
            type(error).__name__,
        )
        tally = taken.tallies.setdefault(readings.stream, Tally())
        tally.refused_readings["internal_error"] += len(readings)
        taken.rejected.append(
            rejection(
                readings.stream,
                "internal_error",
                f"{len(readings)} readings could not be processed ({type(error).__name__});"
                " please report this",
                self.settings.streams[readings.stream].topic,
                b"",
                int(readings.arrival[0]),
            )
        )

    def _may_send_deadletter(self) -> bool:
        """Take a token: so many a second, with a burst, so that garbage does not flood the broker."""
        now = time.monotonic()
        earned = (now - self._deadletters_at) * DEADLETTERS_A_SECOND
        self._deadletters = min(DEADLETTER_BURST, self._deadletters + earned)
        self._deadletters_at = now
        if self._deadletters < 1.0:
            return False
        self._deadletters -= 1.0
        return True


def warm_up() -> None:
    """Load the compiled kernels (compile them, the first time ever) before anything waits for them."""
    pipeline = Pipeline([StreamSpec("warm-up")], initial=Light, model=lambda _wanted: Light())
    for device in ("a", "b"):
        pipeline.process(
            Readings(
                stream="warm-up",
                devices=[device],
                columns=(("x",),),
                shapes=np.zeros(1, dtype=np.int32),
                values=np.zeros(1),
                ts=np.ones(1, dtype=np.int64),
                arrival=np.ones(1, dtype=np.int64),
                seq=np.full(1, NO_SEQ, dtype=np.int64),
                index=np.zeros(1, dtype=np.int32),
            )
        )


def misfit(name: str, stream: StreamSettings, model: FittedModel) -> str | None:
    """Return why a bundle cannot score a stream, or None where it can."""
    declared = tuple(stream.channels)
    missing = [channel for channel in model.channels if declared and channel not in declared]
    if missing:
        return (
            f"model '{model.name}' was trained on {len(model.channels)} channels, but stream '{name}' has"
            f" {len(declared)}; missing: {', '.join(map(repr, missing))}. Add it under"
            f" streams.{name}.channels, or retrain with `stream-detector train {name}`."
        )
    if model.window != stream.window:
        return (
            f"model '{model.name}' was trained with a window of {model.window} readings, but stream"
            f" '{name}' has {stream.window}. Set streams.{name}.window: {model.window}, or retrain with"
            f" `stream-detector train {name}`."
        )
    return None


def wanted_bundles(settings: Settings) -> dict[str, str]:
    """Return stream -> bundle name, for the streams that want one."""
    return {
        name: stream.model for name, stream in settings.streams.items() if stream.model not in BUILT_IN_MODELS
    }


def model_watcher(settings: Settings) -> ModelWatcher:
    """Return what loads the bundles that the streams want; a bundle that does not fit is refused."""
    return ModelWatcher(
        settings.models_dir,
        wanted_bundles(settings),
        fits=lambda stream, model: misfit(stream, settings.streams[stream], model),
    )


def load_wanted(watcher: ModelWatcher, stream: str, name: str) -> FittedModel:
    """Return the newest bundle of a name that can be used for the stream that wants it.

    Raises:
        ConfigurationError: There is none; the message says what to do.
    """
    try:
        return watcher.load_now(name)
    except BundleError as error:
        key = f"streams.{stream}.model"
        raise ConfigurationError(f"{key}: {error}", key=key) from None
