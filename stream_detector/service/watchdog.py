"""The watchdog: ends the process when the hot thread hangs, so that a supervisor starts it anew."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.outputs.log import Log

HANGS_S = 60.0
"""The process ends when its hot thread has not moved for so long."""
LOOK_EVERY_S = 1.0


class Watchdog:
    """Watches a thread that says now and then that it moves.

    Args:
        excused_until: Returns until when, monotonic, the thread may stand still: a slow dial is no hang.
        log: Gets the reason before the end.
    """

    def __init__(self, excused_until: Callable[[], float], log: Log) -> None:
        self._excused_until = excused_until
        self._log = log
        self._moved_at = time.monotonic()

    def moved(self) -> None:
        """Note that the thread moves; called by it."""
        self._moved_at = time.monotonic()

    def problem(self) -> str | None:
        """Return why the thread is not alive, or None."""
        still_s = self._still_s()
        return f"the hot thread has not moved for {still_s:.0f} s" if still_s > HANGS_S / 2 else None

    def start(self, stopping: threading.Event) -> None:
        """Watch from a thread of its own, until the event is set."""
        threading.Thread(target=self._watch, args=(stopping,), name="watchdog", daemon=True).start()

    def _still_s(self) -> float:
        return time.monotonic() - max(self._moved_at, self._excused_until())

    def _watch(self, stopping: threading.Event) -> None:
        while not stopping.wait(LOOK_EVERY_S):
            if self._still_s() > HANGS_S:
                self._log.warn("watchdog", "the hot thread hangs; ending, so that it is started anew")
                os._exit(1)
