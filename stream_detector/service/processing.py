"""From messages and records to decisions: the intake, the core, and what their events are published as.

The live service, `replay` and the tests all decide here, so they cannot differ. Nothing in this module
knows a socket or a file. An error of the core is raised: memory is then worth nothing any more.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from stream_detector import failpoints
from stream_detector.core.events import Rejected
from stream_detector.core.records import Forgotten
from stream_detector.formats.taken import Tally, rejection
from stream_detector.outputs.messages import ModelMessage
from stream_detector.service.decision import ScoredReadings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from stream_detector.core.events import ModelRefused, Outcome, StreamEvent
    from stream_detector.core.records import Readings, Record
    from stream_detector.formats.intake import Intake
    from stream_detector.formats.taken import Oversized, Taken
    from stream_detector.outputs.home_assistant import HomeAssistant
    from stream_detector.outputs.messages import Publication, Publications
    from stream_detector.service.decision import Decision
    from stream_detector.service.memory import Memory

DEADLETTERS_A_SECOND = 20.0
DEADLETTER_BURST = 200.0


class Processing:
    """Adds to a decision what follows from messages and records.

    Args:
        memory: The devices.
        intake: Turns messages into readings.
        messages: Turns events into publications.
        clock: Service clock, µs; only for the time spent that alerts carry.
        scores: Streams whose scores are all published.
        home_assistant: Adds what Home Assistant gets; None: it gets nothing.
    """

    def __init__(
        self,
        memory: Memory,
        intake: Intake,
        messages: Publications,
        clock: Callable[[], int],
        *,
        scores: Collection[str] = (),
        home_assistant: HomeAssistant | None = None,
    ) -> None:
        self._memory = memory
        self._intake = intake
        self._messages = messages
        self._clock = clock
        self._scores = frozenset(scores)
        self._home_assistant = home_assistant
        self._deadletters = DEADLETTER_BURST
        self._deadletters_at = 0.0

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
        """Take messages in, in arrival order; see `Intake.take`."""
        taken = self._intake.take(topics, payloads, flags, arrival, oversized, packet_ids, wall)
        failpoints.reach("after receive")
        for state in taken.states:
            self.record(decision, state)
        for readings in taken.readings:
            self.readings(decision, readings)
        self.events(decision, taken.rejected)
        decision.tallies.append((taken.tallies, arrival))
        decision.captures += self._intake.devices_with_other_captures()
        failpoints.reach("after score")
        return taken

    def refuse_message(
        self, decision: Decision, topic: bytes, payload: bytes, arrival: int, error: Exception
    ) -> None:
        """Reject a message that the core cannot process; it is not tried again."""
        stream = self._intake.stream_of(topic)
        reason = f"the message could not be processed ({type(error).__name__}); please report this"
        rejected = rejection(
            stream, "internal_error", reason, topic.decode("utf-8", "backslashreplace"), payload, arrival
        )
        self.events(decision, [rejected])
        decision.tallies.append(
            ({stream: Tally(received=1, rejected=Counter(internal_error=1))}, arrival),
        )

    def readings(self, decision: Decision, readings: Readings) -> None:
        """Take checked readings in, in arrival order."""
        begin = time.perf_counter()
        outcomes = self._memory.pipeline.process(readings)
        seconds = time.perf_counter() - begin
        name = readings.stream
        outcome = outcomes[name]
        decision.records.append((readings, outcomes))
        decision.batches.append(
            ScoredReadings(
                name,
                self._memory.detector(name).name,
                outcome.counts,
                outcome.scores,
                seconds,
                self._scored_by_others(name, outcome),
            )
        )
        self.events(decision, outcome.events)
        if name in self._scores:
            chosen = list(zip(outcome.scored.tolist(), outcome.scores.tolist(), strict=True))
        else:
            chosen = self._home_assistant.sampled(readings, outcome) if self._home_assistant else []
        if chosen:
            decision.publications += [(name, score) for score in self._score_messages(readings, chosen)]

    def _scored_by_others(self, stream: str, outcome: Outcome) -> dict[str, int]:
        """Return how many readings each detector beside the live one has scored."""
        detectors = self._memory.streams[stream].detectors
        return {
            detectors[role][0].name: int(np.count_nonzero(~np.isnan(scores)))
            for role, scores in outcome.others.items()
        }

    def record(self, decision: Decision, record: Record) -> None:
        """Take in a record that brings no readings."""
        outcomes = self._memory.pipeline.process(record)
        decision.records.append((record, outcomes))
        for outcome in outcomes.values():
            self.events(decision, outcome.events)
        if isinstance(record, Forgotten):
            self._intake.forget(record.stream, record.device)

    def events(self, decision: Decision, events: Sequence[StreamEvent | ModelRefused]) -> None:
        """Add events, of the core or of the shell, and what they are published as."""
        now = self._clock()
        decision.events += events
        for event in events:
            if isinstance(event, Rejected) and not self._may_send_deadletter():
                decision.suppressed += 1
                continue
            if self._home_assistant is not None:
                removals = self._home_assistant.removals(event)
                decision.publications += [(event.stream, removal) for removal in removals]
            publication = self._messages.of(event, now)
            if publication is not None:
                decision.publications.append((event.stream, publication))

    def _score_messages(self, readings: Readings, chosen: Sequence[tuple[int, float]]) -> list[Publication]:
        detector = self._memory.detector(readings.stream)
        model = ModelMessage(detector.name, detector.version, "live")
        return [
            self._messages.score(readings.stream, readings.devices[i], int(readings.ts[i]), score, model)
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
