"""Connections end; this decides why one did, and when and with which protocol the next is opened.

A broker that is unreachable is tried again after 10 s at most, one that refuses us after a minute at most.
One that ends several connections soon after their login has another client of our name.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from . import sentences
from .backoff import Backoff

if TYPE_CHECKING:
    from .connection import Connection
    from .settings import BrokerSettings

SHORT_LIFE_S = 5.0  # a connection that ends sooner after its login ...
SHORT_LIVES = 3  # ... as often as this in a row was taken from us
LONGEST_PAUSE_S = 10.0
LONGEST_PAUSE_REFUSED_S = 60.0
REFUSED_VERSION = {0x01, 0x81, 0x82, 0x84}
"""Codes in CONNACK: by name in 3.1.1 and 5, and how a broker calls what it cannot read."""
SESSION_TAKEN_OVER = 0x8E


class Reconnection:
    """What is learned from the connections that have ended.

    Args:
        settings: Where and how.
        client_id: Our name, for sentences.

    Attributes:
        protocol: ``5`` or ``3.1.1``: what is spoken, or tried next.
        next_attempt: When the next connection may be opened, monotonic.
    """

    def __init__(self, settings: BrokerSettings, client_id: str) -> None:
        self.protocol = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self.next_attempt = 0.0
        self._settings = settings
        self._broker = settings.address
        self._client_id = client_id
        self._backoff = Backoff(LONGEST_PAUSE_REFUSED_S)
        self._short_lives = 0
        self._logged_in = False

    @property
    def flapping(self) -> bool:
        """Whether several connections in a row were taken from us soon after their login."""
        return self._short_lives >= SHORT_LIVES

    def logged_in(self) -> None:
        """Know that a login has worked: its protocol stays."""
        self._logged_in = True

    def lasted(self, connection: Connection, now: float) -> bool:
        """Return whether a connection has, just now, lasted longer than those before it."""
        logged_in_at = connection.logged_in_at
        if not self._short_lives or logged_in_at is None or now - logged_in_at <= SHORT_LIFE_S:
            return False
        self._short_lives = 0
        return True

    def after(self, connection: Connection, problem: str | None = None) -> str | None:
        """Decide when, and how, to open the next connection.

        Args:
            connection: The one that has ended.
            problem: Why, where we gave it up; else the broker, or the network, has ended it.

        Returns:
            Why, as a sentence; None where another protocol is tried at once.
        """
        now = monotonic()
        if self._fall_back(connection):
            self.next_attempt = now
            return None
        if connection.logged_in_at is not None:
            if now - connection.logged_in_at > SHORT_LIFE_S:
                self._short_lives = 0
                self._backoff.reset()
            else:
                self._short_lives += 1
        problem = problem or self._why(connection)
        self.pause(refused=connection.refused is not None)
        return problem

    def pause(self, *, refused: bool = False) -> None:
        """Wait before the next connection, longer each time.

        An unreachable broker costs nobody anything; a refused login costs the broker a line of log.
        """
        long = refused or self._short_lives
        self._backoff.longest_s = LONGEST_PAUSE_REFUSED_S if long else LONGEST_PAUSE_S
        self.next_attempt = monotonic() + self._backoff.pause()

    def _fall_back(self, connection: Connection) -> bool:
        """Change the protocol where that may be what the broker dislikes; return whether to try at once.

        Some brokers refuse MQTT 5 by name, some just hang up, some answer in the words of 3.1.1, some never.
        """
        if self._settings.protocol != "auto" or self._logged_in:
            return False
        disliked = connection.refused_code in REFUSED_VERSION if connection.refused else connection.puzzled
        if self.protocol == "5" and disliked:
            self.protocol = "3.1.1"
            return True
        self.protocol = "5"
        return False

    def _why(self, connection: Connection) -> str:
        """Return the sentence for a connection that the broker, or the network, has ended."""
        error = connection.client.error
        if connection.refused is not None:
            return sentences.refused(
                self._broker, connection.refused_code, connection.refused, self._client_id
            )
        if connection.logged_in_at is None:
            if connection.hung_up or error is None:
                return sentences.hung_up(self._broker)
            return sentences.unreachable(self._broker, error)
        if connection.client.goodbye == SESSION_TAKEN_OVER:
            return sentences.taken_over(self._broker, self._client_id)
        if self.flapping and not isinstance(error, ValueError):
            return sentences.flapping(self._broker, self._client_id)
        return sentences.lost(self._broker, error)
