"""Reporting: a decision that is on disk, counted and shown to the readers of the events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.core.events import AlertChanged
from stream_detector.core.records import Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_detector.core.events import Event
    from stream_detector.outputs.log import Log
    from stream_detector.outputs.metrics import Metrics
    from stream_detector.service.decision import Decision
    from stream_detector.service.memory import Memory


class Reporting:
    """Reports decisions.

    Args:
        memory: The devices, for the series of single ones.
        metrics: Counts.
        log: Writes lines.
        readers: Called with each event, in order; `metrics` and `log` come before them.
        clock: Service clock, µs.
    """

    def __init__(
        self,
        memory: Memory,
        metrics: Metrics,
        log: Log,
        readers: Sequence[Callable[[Event], None]],
        clock: Callable[[], int],
    ) -> None:
        self._memory = memory
        self._metrics = metrics
        self._log = log
        self._readers = (metrics.event, log.event, *readers)
        self._clock = clock

    def report(self, decision: Decision) -> None:
        """Report a decision; it is on disk by now, where it has to be."""
        metrics = self._metrics
        for batch in decision.batches:
            metrics.batch(batch.stream, batch.model, batch.counts, batch.scores, batch.seconds)
            metrics.scored(batch.stream, batch.others)
        for record, outcomes in decision.records:
            if isinstance(record, Readings):
                name = record.stream
                metrics.devices.note(self._memory.streams[name], record, outcomes[name])
        now = self._clock()
        for event in decision.events:
            for read in self._readers:
                read(event)
            if isinstance(event, AlertChanged):
                metrics.handed_over(event, now)
        for tallies, arrival in decision.tallies:
            metrics.messages(tallies, arrival)
        metrics.deadletters_suppressed(decision.suppressed)
        for stream, device in decision.captures:
            self._log.warn(
                f"captures {stream}",
                "%s/%s is seen under different captures of its topic; name both in streams.%s.device"
                " if these are different devices",
                stream,
                device,
                stream,
            )
