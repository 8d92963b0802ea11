"""A decision: everything that follows from some input, before any of it takes effect.

It is written to disk first, then reported and published, so nothing is counted, logged or sent that
a crash could take back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from stream_detector.core.events import Counts, Event, Outcome
    from stream_detector.core.records import Record
    from stream_detector.formats.taken import Tally
    from stream_detector.outputs.messages import Publication


@dataclass(frozen=True, slots=True)
class ScoredReadings:
    """How a batch of readings ended, for the metrics.

    Attributes:
        stream: Its name.
        model: Name of the model that scored it.
        counts: How the readings ended.
        scores: Of those that were scored, (scored,).
        seconds: Time in the core.
        others: How many readings each further model has scored, by its name.
    """

    stream: str
    model: str
    counts: Counts
    scores: NDArray[np.float64]
    seconds: float
    others: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Decision:
    """What follows from some input.

    Attributes:
        records: What the core took in, with what it gave, by stream.
        events: Of the core and the shell, in order.
        publications: What is to be published, each with the stream that it is about ('' for none).
        batches: How readings ended.
        tallies: How messages ended, by stream, each with their arrival.
        suppressed: Dead letters that are not sent, to spare the broker.
        captures: (stream, device) of devices that were seen under other captures than before.
        replies: Answers to commands, to be stored: service clock (µs) and reply, by command and the key
            of its request.
    """

    records: list[tuple[Record, Mapping[str, Outcome]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    publications: list[tuple[str, Publication]] = field(default_factory=list)
    batches: list[ScoredReadings] = field(default_factory=list)
    tallies: list[tuple[Mapping[str, Tally], int]] = field(default_factory=list)
    suppressed: int = 0
    captures: list[tuple[str, str]] = field(default_factory=list)
    replies: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
