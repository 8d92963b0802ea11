"""Whether the books balance: what was received has ended somewhere, and only once (definitions.md, 9).

    messages:  received = accepted + rejected + ignored
    readings:  those in accepted messages = scored + warming_up + late + duplicate + rejected

The metrics are read as an operator reads them. How many readings an accepted message holds, they do
not say: that is counted here, by another JSON decoder.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MESSAGES = ("messages_accepted_total", "messages_rejected_total", "messages_ignored_total")
READINGS = (
    "readings_scored_total",
    "readings_warming_up_total",
    "readings_late_total",
    "readings_duplicate_total",
    "readings_rejected_total",
)
PREFIX = "stream_detector_"

Samples: TypeAlias = "Iterable[tuple[str, Mapping[str, str], float]]"
"""Name, labels and value of each sample."""


class Books:
    """What the metrics say, summed over all labels but `stream`.

    Args:
        samples: All of them.
    """

    def __init__(self, samples: Samples) -> None:
        self._sums: dict[tuple[str, str], float] = defaultdict(float)
        self.errors = 0.0
        for name, labels, value in samples:
            short = name.removeprefix(PREFIX)
            if "stream" in labels:
                self._sums[short, labels["stream"]] += value
            if labels.get("reason") == "internal_error":
                self.errors += value

    def of(self, name: str, stream: str) -> int:
        """Return one sum."""
        return round(self._sums[name, stream])

    def received(self) -> int:
        """Return all messages."""
        return round(
            sum(value for (name, _), value in self._sums.items() if name == "messages_received_total")
        )

    def readings(self, stream: str) -> int:
        """Return the readings of a stream, whatever became of them."""
        return sum(self.of(name, stream) for name in READINGS)

    def problems(self, received: int, readings: Mapping[str, int] | None = None) -> list[str]:
        """Return what does not balance.

        Args:
            received: Messages that were sent.
            readings: Those in accepted messages, by stream, where somebody has counted them.
        """
        found = []
        if self.errors:
            found.append(f"{self.errors:.0f} internal errors")
        if self.received() != received:
            found.append(f"{received} messages were sent, {self.received()} were received")
        for stream in sorted({stream for _, stream in self._sums}):
            came = self.of("messages_received_total", stream)
            ended = [self.of(name, stream) for name in MESSAGES]
            if came != sum(ended):
                found.append(
                    f"{stream or 'no stream'}: {came} received, but {ended} accepted, rejected, ignored"
                )
        for stream, count in (readings or {}).items():
            if count != self.readings(stream):
                each = {name: self.of(name, stream) for name in READINGS}
                found.append(f"{stream}: {count} readings in accepted messages, but {each}")
        return found


def readings_in(payload: bytes) -> int:
    """Return how many readings an accepted payload holds: the elements of a list, else one."""
    if payload.lstrip()[:1] != b"[":
        return 1
    # Numbers of any length, and text in fields that nobody reads need not be UTF-8.
    return len(json.loads(payload.decode("utf-8", "replace"), parse_int=len))
