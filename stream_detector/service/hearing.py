"""When we could hear devices: what silence is measured by.

    connected   ####........####            # we hear, . we do not
    draining            ++                  + what piled up meanwhile still comes
    Gap              |------|               from the last moment that we heard to the first that we do

A device is not silent while nobody listens. So time that passes without a connection, held back, or
while old messages are still coming, is recorded as a gap before the next tick.
"""

from __future__ import annotations

from stream_detector.core.records import Gap, Tick

TICK = 1_000_000
"""Time between two ticks, µs."""


class Hearing:
    """Turns what the connection is like into gaps and ticks; all times are of the service clock, µs.

    Args:
        deaf_since: When the service was last alive.
    """

    def __init__(self, deaf_since: int) -> None:
        self._deaf_since: int | None = deaf_since
        self._draining = False
        self._ticked_at = 0

    def reconnect(self) -> None:
        """Begin with a new connection."""
        self._draining = False

    def interrupt(self, now: int) -> None:
        """Note that from now on we do not hear."""
        self._draining = False
        self.pause(now)

    def pause(self, now: int) -> None:
        """Note that what comes from now on waits."""
        if self._deaf_since is None:
            self._deaf_since = now

    def resume(self, now: int, *, drained: bool) -> Gap | None:
        """Return the gap that ends now, where one does.

        Args:
            now: The connection stands.
            drained: Whether nothing is left of what piled up.
        """
        if self._deaf_since is None or (self._draining and not drained):
            return None
        gap = Gap(self._deaf_since, now)
        self._draining = not drained
        self._deaf_since = now if self._draining else None
        return gap

    def tick(self, now: int) -> Tick | None:
        """Return the tick that is due, at most one a second and only while we hear."""
        if self._deaf_since is not None or now - self._ticked_at < TICK:
            return None
        self._ticked_at = now
        return Tick(now)
