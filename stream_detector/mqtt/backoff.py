"""Pauses between attempts."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double, with jitter, so that many clients do not come back at once.

    Args:
        longest_s: The pause never grows beyond this; may be changed any time.

    Example:
        >>> backoff = Backoff(longest_s=4.0)
        >>> [round(backoff.pause() / 1.25) <= limit for limit in (1, 2, 4, 4)]
        [True, True, True, True]
    """

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self._next_s = 1.0

    def pause(self) -> float:
        """Return the next pause in seconds."""
        pause_s = min(self._next_s, self.longest_s)
        self._next_s = 2 * pause_s
        return pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        """Begin again with the shortest."""
        self._next_s = 1.0
