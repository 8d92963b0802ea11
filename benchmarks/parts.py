"""``python -m benchmarks.parts``: where the time of a message goes, in CPU µs, without a broker.

The same code as in the service, part by part, in one thread. Small batches show what a batch costs
by itself: at low load it is one or two messages, in a flood a thousand and more.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from benchmarks.workload import DEVICES, HISTORY, Messages, configuration, messages
from stream_detector.mqtt.frames import Framer, Received, puback_frames
from stream_detector.service.decision import Decision
from stream_detector.service.engine import offline
from stream_detector.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (1, 10, 100, 1500)
WARM_UP = 120
PASSES = 40
"""Readings of each device for one size of batch."""
ONE_BY_ONE = 4
"""Likewise for batches of one, which take long."""

T = TypeVar("T")


class Parts:
    """The parts of the hot loop, each with the CPU time that it has used."""

    def __init__(self) -> None:
        settings = Settings(**json.loads(configuration(1883, 0, ".")))
        self.used: Counter[str] = Counter()
        self._engine = offline(settings, _now)
        self._framer = Framer(max_payload=65_536, mqtt5=False)

    def take(self, made: Messages, size: int) -> None:
        """Take messages in, `size` at a time."""
        packets = made.packets(qos=1)
        for first in range(0, len(packets), size):
            self._batch(b"".join(packets[first : first + size]))

    def _batch(self, data: bytes) -> None:
        received = Received()
        self._timed("frames", lambda: self._framer.feed(data, received))
        arrival = _now()
        intake, core = self._engine.intake, self._engine.memory.pipeline
        taken = self._timed(
            "intake", lambda: intake.take(received.topics, received.payloads, received.flags, arrival)
        )
        self._timed("counts", lambda: self._engine.metrics.messages(taken.tallies, arrival))
        for readings in taken.readings:
            outcome = self._timed("core", lambda: core.process(readings)[readings.stream])  # noqa: B023
            self._timed(
                "counts",
                lambda: self._engine.metrics.batch(
                    readings.stream,  # noqa: B023
                    "light",
                    outcome.counts,  # noqa: B023
                    outcome.scores,  # noqa: B023
                    0.0,
                ),
            )
            self._timed("events", lambda: self._engine.processing.events(Decision(), outcome.events))  # noqa: B023
        self._timed("acknowledgements", lambda: puback_frames(received.packet_ids))

    def _timed(self, part: str, work: Callable[[], T]) -> T:
        began = time.thread_time_ns()
        result = work()
        self.used[part] += time.thread_time_ns() - began
        return result


def _now() -> int:
    return time.time_ns() // 1000


def main() -> None:
    """Print a table: a row a part, a column a size of batch."""
    start = datetime.now(UTC).replace(microsecond=0) - HISTORY
    parts = Parts()
    parts.take(messages(0, WARM_UP, start=start), 1000)
    number, columns = WARM_UP, []
    for size in BATCHES:
        passes = ONE_BY_ONE if size == 1 else PASSES
        parts.used.clear()
        parts.take(messages(number, passes, start=start), size)
        number += passes
        columns.append({part: used / 1000 / (passes * DEVICES) for part, used in parts.used.items()})
    print(f"{'µs a message, in batches of':28}" + "".join(f"{size:>8}" for size in BATCHES))
    for part in columns[0]:
        print(f"{part:28}" + "".join(f"{column[part]:>8.2f}" for column in columns))
    print(f"{'all':28}" + "".join(f"{sum(column.values()):>8.2f}" for column in columns))


if __name__ == "__main__":
    main()
