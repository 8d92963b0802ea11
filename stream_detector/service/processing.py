"""From messages to what follows from them: intake, core and readers of the events, put together once.

    decide:  messages, records  ->  Decision: records, events, publications, counts
    tell:    Decision           ->  metrics, log lines, the demo's screen

Between the two the service writes the decision to disk, so nothing is counted, logged or published that
a crash could take back. The live service, `replay` and the tests all go through here, so they cannot
differ. Nothing in this module knows a socket or a file.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stream_detector import failpoints
from stream_detector.core.events import AlertChanged, ModelRefused, Rejected
from stream_detector.core.pipeline import Pipeline
from stream_detector.core.records import NO_SEQ, Forgotten, ModelSet, Readings
from stream_detector.core.spec import StreamSpec
from stream_detector.detectors.light import Light
from stream_detector.errors import BundleError, ConfigurationError
from stream_detector.formats.intake import Intake, Tally, rejection
from stream_detector.models import bundle
from stream_detector.models.reload import ModelWatcher
from stream_detector.outputs.messages import ModelMessage, Publication, Publications
from stream_detector.settings import BUILT_IN_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.events import Counts, Event, Outcome, StreamEvent
    from stream_detector.core.records import Record
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.detectors.pyod import FittedModel
    from stream_detector.formats.columns import Admission
    from stream_detector.formats.intake import Oversized, Taken
    from stream_detector.outputs.home_assistant import HomeAssistant
    from stream_detector.outputs.telemetry import Telemetry
    from stream_detector.settings import Settings, StreamSettings

BUILT_AT = 1_767_225_600_000_000
"""2026-01-01 UTC in µs: no clock is believed to be before this code."""
DEADLETTERS_A_SECOND = 20.0
DEADLETTER_BURST = 200.0


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch of readings ended, for the metrics."""

    stream: str
    model: str
    counts: Counts
    scores: NDArray[np.float64]
    seconds: float


@dataclass(slots=True)
class Decision:
    """What follows from some input, before anybody is told.

    Attributes:
        records: What the core took in, with what it gave, by stream.
        events: Of the core and the shell, in order.
        publications: What is to be published, each with the stream that it is about ('' for none).
        batches: How readings ended.
        tallies: How messages ended, by stream, each with their arrival.
        suppressed: Dead letters that are not sent, to spare the broker.
        captures: (stream, device) of devices that were met under other captures than before.
        replies: What commands are answered, to be remembered: service clock (µs) and reply, by command and
            what tells its request from others.
    """

    records: list[tuple[Record, Mapping[str, Outcome]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    publications: list[tuple[str, Publication]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    tallies: list[tuple[Mapping[str, Tally], int]] = field(default_factory=list)
    suppressed: int = 0
    captures: list[tuple[str, str]] = field(default_factory=list)
    replies: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)


class AdmitAll:
    """Admits every device, for who keeps all devices in memory: a replay, a test."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def channels_of(self, stream: str, device: str) -> tuple[str, ...] | None:
        """Return the channels known of a device; None: it was never heard of."""
        return self._pipeline.streams[stream].channels_of(device) or None

    def refusal(self, stream: str, joining: int) -> str | None:
        """Return why a stream can have no further device: never."""
        del stream, joining
        return None


class Processing:
    """The service without its sockets and files.

    Args:
        settings: The configuration.
        telemetry: Is told every event and count.
        clock: Service clock, µs; only for what is said about time spent.
        readers: Further readers of the events, such as the demo's screen.
        admission: Makes what knows all devices, from the pipeline.
        past_model: Gives the model that a record of the past names; None where it is not there any more.
        home_assistant: Is told what happens to devices; None: nobody is.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        clock: Callable[[], int],
        readers: Sequence[Callable[[Event], None]] = (),
        admission: Callable[[Pipeline], Admission] = AdmitAll,
        past_model: Callable[[ModelSet], Detector | None] = lambda _wanted: None,
        home_assistant: HomeAssistant | None = None,
    ) -> None:
        self.settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._home_assistant = home_assistant
        self._readers = (telemetry.event, *readers, *([home_assistant.event] if home_assistant else []))
        self._loaded: dict[tuple[str, str, str], Detector] = {}
        self._past_model = past_model
        self._admission = admission
        self.publications = Publications(
            settings.topics.base, {name: stream.labels for name, stream in settings.streams.items()}
        )
        self._deadletters = DEADLETTER_BURST
        self._deadletters_at = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin with empty memory."""
        self.pipeline = Pipeline(
            [stream.spec(name) for name, stream in self.settings.streams.items()],
            initial=Light,
            model=self._model,
        )
        before = getattr(self, "intake", None)
        self.intake = Intake(
            self.settings.streams,
            base=self.settings.topics.base,
            also_own=self.settings.home_assistant.owns,
            admission=self._admission(self.pipeline),
            built_at=BUILT_AT,
            keep_deliveries=max(4096, 4 * self.settings.broker.receive_maximum),
        )
        if before is not None:  # no instant is given out twice
            self.intake.next_instant = before.next_instant
        for name, stream in self.pipeline.streams.items():
            self._telemetry.model(name, stream.detector.name, stream.detector.version)

    def messages(
        self,
        decision: Decision,
        topics: Sequence[bytes],
        payloads: Sequence[bytes],
        flags: Sequence[int],
        arrival: int,
        oversized: Mapping[int, Oversized] | None = None,
        packet_ids: Sequence[int] | None = None,
        wall: int = 0,
    ) -> Taken:
        """Take messages in, in arrival order; see `Intake.take`.

        An error of the core is raised: then memory is worth nothing any more, see `begin`.
        """
        taken = self.intake.take(topics, payloads, flags, arrival, oversized, packet_ids, wall)
        failpoints.reach("after receive")
        for readings in taken.readings:
            self.readings(decision, readings)
        self._follow(decision, taken.rejected)
        decision.tallies.append((taken.tallies, arrival))
        decision.captures += self.intake.devices_with_other_captures()
        failpoints.reach("after score")
        return taken

    def refuse_message(
        self, decision: Decision, topic: bytes, payload: bytes, arrival: int, error: Exception
    ) -> None:
        """Count and tell a message that the core cannot take; it is not tried again."""
        stream = self.intake.stream_of(topic)
        said = f"the message could not be processed ({type(error).__name__}); please report this"
        rejected = rejection(
            stream, "internal_error", said, topic.decode("utf-8", "backslashreplace"), payload, arrival
        )
        self._follow(decision, [rejected])
        decision.tallies.append(
            ({stream: Tally(received=1, rejected=Counter(internal_error=1))}, arrival),
        )

    def refuse_command(self, decision: Decision, refused: Rejected) -> None:
        """Tell of a request that cannot be answered; it is no telemetry, so it is in no tally."""
        self._follow(decision, [refused])

    def readings(self, decision: Decision, readings: Readings) -> None:
        """Take checked readings in, in arrival order."""
        begin = time.perf_counter()
        outcomes = self.pipeline.process(readings)
        outcome = outcomes[readings.stream]
        seconds = time.perf_counter() - begin
        name = readings.stream
        model = self.pipeline.streams[name].detector.name
        decision.records.append((readings, outcomes))
        decision.batches.append(Batch(name, model, outcome.counts, outcome.scores, seconds))
        self._follow(decision, outcome.events)
        if self.settings.streams[name].publish_scores:
            chosen = list(zip(outcome.scored.tolist(), outcome.scores.tolist(), strict=True))
        else:
            chosen = self._home_assistant.sampled(readings, outcome) if self._home_assistant else []
        if chosen:
            decision.publications += [(name, score) for score in self._scores(readings, chosen)]

    def record(self, decision: Decision, record: Record) -> None:
        """Take in a record that brings no readings."""
        outcomes = self.pipeline.process(record)
        decision.records.append((record, outcomes))
        for outcome in outcomes.values():
            self._follow(decision, outcome.events)
        if isinstance(record, Forgotten):
            self.intake.forget(record.stream, record.device)

    def model_set(self, at: int, stream: str, model: FittedModel | None) -> ModelSet:
        """Return the record by which this bundle, or the built-in detector, scores a stream."""
        failpoints.reach("during model swap")
        if model is None:
            return ModelSet(at, stream, "live", Light.name, Light.version)
        self._loaded[model.name, model.version, model.sha256] = model
        return ModelSet(at, stream, "live", model.name, model.version, model.sha256)

    def refuse(self, decision: Decision, refused: ModelRefused) -> None:
        """Note a model that is not used."""
        self._follow(decision, [refused])

    def tell(self, decision: Decision) -> None:
        """Tell the readers what was decided; it is on disk by now, where it has to be."""
        telemetry = self._telemetry
        for batch in decision.batches:
            telemetry.batch(batch.stream, batch.model, batch.counts, batch.scores, batch.seconds)
        for record, outcomes in decision.records:
            if isinstance(record, Readings):
                name = record.stream
                telemetry.devices.note(self.pipeline.streams[name], record, outcomes[name])
        now = self._clock()
        for event in decision.events:
            for read in self._readers:
                read(event)
            if isinstance(event, AlertChanged):
                telemetry.handed_over(event, now)
        for tallies, arrival in decision.tallies:
            telemetry.messages(tallies, arrival)
        telemetry.deadletters_suppressed(decision.suppressed)
        for stream, device in decision.captures:
            telemetry.complain(
                f"captures {stream}",
                "%s/%s is seen under different captures of its topic; name both in streams.%s.device"
                " if these are different devices",
                stream,
                device,
                stream,
            )

    def model_of(self, stream: str) -> ModelMessage:
        """Return what scores a stream."""
        detector = self.pipeline.streams[stream].detector
        return ModelMessage(detector.name, detector.version, "live")

    def _model(self, wanted: ModelSet) -> Detector:
        if (wanted.name, wanted.version, wanted.sha256) == (Light.name, Light.version, ""):
            return Light()
        key = (wanted.name, wanted.version, wanted.sha256)
        if key not in self._loaded:
            found = self._past_model(wanted)
            if found is None:
                raise BundleError(
                    f"model '{wanted.name}' version {wanted.version}, which scored {wanted.stream}, is not"
                    " there any more",
                    reason="missing",
                )
            self._loaded[key] = found
        return self._loaded[key]

    def _follow(self, decision: Decision, events: Sequence[StreamEvent]) -> None:
        """Note events, and what they are published as."""
        now = self._clock()
        decision.events += events
        for event in events:
            if isinstance(event, Rejected) and not self._may_send_deadletter():
                decision.suppressed += 1
                continue
            if self._home_assistant is not None:
                removals = self._home_assistant.removals(event)
                decision.publications += [(event.stream, removal) for removal in removals]
            publication = self.publications.of(event, now)
            if publication is not None:
                decision.publications.append((event.stream, publication))

    def _scores(self, readings: Readings, chosen: Sequence[tuple[int, float]]) -> list[Publication]:
        model = self.model_of(readings.stream)
        return [
            self.publications.score(readings.stream, readings.devices[i], int(readings.ts[i]), score, model)
            for i, score in chosen
        ]

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


def model_of_the_past(settings: Settings, wanted: ModelSet) -> FittedModel | None:
    """Return the bundle that a record of the past names; None where it is not there any more."""
    try:
        files = bundle.read(settings.models_dir / wanted.name / wanted.version)
        return bundle.verify(files) if files.sha256 == wanted.sha256 else None
    except BundleError:
        return None
