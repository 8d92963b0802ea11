"""Messages a second of the whole service beside a bare paho client: same broker, same messages, in turns.

The ratio is taken round by round, because the machine's speed changes from minute to minute; the
median of the rounds is what is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import bare
from benchmarks.workload import BARE_SITE, DEVICES, SITE

if TYPE_CHECKING:
    from benchmarks.bare import Drained
    from benchmarks.detector import Running
    from benchmarks.flood import Flood

WARM_UP = 120
"""Readings of each device before anything is measured: from the hundredth on, it is scored."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Medians over the rounds.

    Attributes:
        qos: Of the messages and the stream.
        durability: Of the stream; None: the usual one.
        ratio: The service's rate / the bare client's, of one round.
        ratios: Of all rounds, ascending.
        service: Rate and CPU time.
        bare: Likewise.
    """

    qos: int
    durability: str | None
    ratio: float
    ratios: list[float]
    service: Drained
    bare: Drained


class Rounds:
    """The rounds of one run; each one's readings are newer than those before.

    Args:
        port: Of the broker.
        service: Subscribed at it.
        flood: Sends.
        passes: Readings of each device in a round.
        first: Number of the first reading.
    """

    def __init__(self, port: int, service: Running, flood: Flood, passes: int, first: int) -> None:
        self._port = port
        self._service = service
        self._flood = flood
        self._passes = passes
        self.next_reading = first

    def warm_up(self) -> None:
        """Let every device learn what is normal."""
        self._drain_service(WARM_UP, 0)

    def measure(self, qos: int, durability: str | None, rounds: int) -> Throughput:
        """Let both drain in turns."""
        pairs = [(self._drain_service(self._passes, qos), self._drain_bare(qos)) for _ in range(rounds)]
        ratios = sorted(service.rate / yardstick.rate for service, yardstick in pairs)
        return Throughput(
            qos,
            durability,
            median(ratios),
            ratios,
            service=_median([service for service, _ in pairs]),
            bare=_median([yardstick for _, yardstick in pairs]),
        )

    def _drain_service(self, passes: int, qos: int) -> Drained:
        self._flood.prepare(self.next_reading, passes, qos, SITE)
        self.next_reading += passes
        return self._service.drain(passes * DEVICES, self._flood.send)

    def _drain_bare(self, qos: int) -> Drained:
        self._flood.prepare(self.next_reading - self._passes, self._passes, qos, BARE_SITE)
        return bare.drain(self._port, self._passes * DEVICES, qos, self._flood.send)


def _median(drained: list[Drained]) -> Drained:
    return bare.Drained(median(each.rate for each in drained), median(each.cpu_us for each in drained))
