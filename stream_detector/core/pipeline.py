"""The core as one function: records in, events out.

    pipeline = Pipeline(specs, models)
    for record in journal:
        outcome = pipeline.process(record)

It reads no clock, socket or file, so the same records give the same events, however the readings
among them are cut into batches, today and in a replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from stream_detector.core.events import ModelReplaced, Outcome
from stream_detector.core.records import (
    Acknowledged,
    Feedback,
    Forgotten,
    Gap,
    ModelSet,
    Readings,
    Started,
    Tick,
    TopicState,
)
from stream_detector.core.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stream_detector.core.records import Record
    from stream_detector.core.scoring.detector import Detector
    from stream_detector.core.spec import StreamSpec


class Pipeline:
    """All streams of a service.

    Args:
        specs: The streams.
        initial: What scores a stream until a `ModelSet` says otherwise.
        model: Gives the detector that a `ModelSet` names.
    """

    def __init__(
        self,
        specs: Iterable[StreamSpec],
        initial: Callable[[], Detector],
        model: Callable[[ModelSet], Detector],
    ) -> None:
        self.streams = {spec.name: Stream(spec, initial()) for spec in specs}
        self._model = model

    def process(self, record: Record) -> dict[str, Outcome]:  # noqa: PLR0911 - one a kind of record
        """Take one record in and return what it gave, by stream.

        Raises:
            KeyError: The record names a stream that there is not.
            ValueError: The live detector of a stream is taken away.
        """
        match record:
            case Readings():
                return {record.stream: self.streams[record.stream].process(record)}
            case Tick():
                return {name: stream.tick(record.at) for name, stream in self.streams.items()}
            case Gap():
                for stream in self.streams.values():
                    stream.miss(record.start, record.stop)
                return {}
            case ModelSet():
                detector = self._model(record) if record.name else None
                self.streams[record.stream].use(record.role, detector, since=record.at)
                model = (detector.name, detector.version) if detector else ("", "")
                replaced = ModelReplaced(record.at, record.stream, record.role, *model)
                return {record.stream: Outcome(events=[replaced])}
            case Acknowledged():
                return {record.stream: self.streams[record.stream].acknowledge(record)}
            case Forgotten():
                return {record.stream: self.streams[record.stream].leave(record)}
            case Started() | Feedback() | TopicState():
                return {}
            case _:
                assert_never(record)
