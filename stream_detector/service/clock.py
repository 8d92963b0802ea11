"""The one clock of the service: what is stamped, ticked and journalled comes from it."""

from __future__ import annotations

import time
from typing import Final


class Clock:
    """The service clock: wall time at start plus time passed, so it never runs backwards.

    Args:
        at_least: µs; what was journalled before is not later than now.

    Example:
        >>> clock = Clock()
        >>> clock() <= clock()
        True
    """

    # Unlike the monotonic clock it goes on while the machine is suspended, as the devices do.
    _PASSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def __init__(self, at_least: int = 0) -> None:
        self._begin = max(time.time_ns() // 1000, at_least) - self._passed()

    def __call__(self) -> int:
        """Return µs since 1970 UTC."""
        return self._begin + self._passed()

    def _passed(self) -> int:
        return time.clock_gettime_ns(self._PASSED) // 1000
