"""A machine whose readings were recorded, and which says them when a test wants it to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.recorded.replaying import nab

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.brokers import Peer
    from tests.service.running import RunningService

NAB = Path(__file__).parents[1] / "data" / "nab"
NAME = "speed_7578"
"""The device, and its login where it needs one: a sensor beside a road, of the Numenta Anomaly Benchmark."""
STREAM = "roads"
STREAMS = {
    STREAM: {
        "topic": "plant/{site}/{device}/telemetry",
        "silence": False,
        "alerts": {"critical_from": 1.0},  # so that people are told of its fault
    }
}
"""Silence compares arrivals, and here days arrive within a second."""


class Machine:
    """Says its readings one by one; the first labelled fault is where the built-in detector finds one.

    Args:
        sensors: Connection that publishes.
        service: Who listens; it has scored a reading before the next one is published.
    """

    def __init__(self, sensors: Peer, service: RunningService) -> None:
        self._sensors = sensors
        self._service = service
        self._recording = next(one for one in nab(NAB) if one.device == NAME)
        self._said = 0

    def run_until_the_fault(self) -> None:
        """Say all readings before the first labelled fault."""
        fault, _ = self._recording.events[0]
        while self._recording.rows[self._said][0] < fault:
            self._say()
        self._wait()

    def run_until(self, happened: Callable[[], object], what: str, at_most: int = 40) -> None:
        """Say one reading after another until something has happened; fail where so many do not do it."""
        for _ in range(at_most):
            self._say()
            self._wait()
            if happened():
                return
        raise AssertionError(f"{at_most} more readings, and not yet: {what}")

    def _say(self) -> None:
        at, values = self._recording.rows[self._said]
        payload = json.dumps({"ts": at.isoformat(), "values": values})
        self._sensors.publish(f"plant/north/{NAME}/telemetry", payload)
        self._said += 1

    def _wait(self) -> None:
        self._service.wait_for_count("messages_received_total", self._said, stream=STREAM)
