"""One connection to the broker, from the moment that its socket is open: its login, and its pings."""

from __future__ import annotations

import selectors
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .terms import Terms

if TYPE_CHECKING:
    from .client import Client

PINGREQ = b"\xc0\x00"


@dataclass(slots=True)
class Connection:
    """What we know of the connection that is open; times are monotonic."""

    client: Client
    sock: Any  # a socket, or paho's websocket around one
    opened_at: float
    heard_at: float
    keepalive_s: float
    next_ping: float
    pinged_at: float = 0.0
    logged_in_at: float | None = None
    refused: str | None = None  # the broker's word in CONNACK, when it refused us
    refused_code: int = 0
    terms: Terms = field(default_factory=Terms)
    events: int = selectors.EVENT_READ

    @property
    def hung_up(self) -> bool:
        """Whether the broker closed it, or reset it, without a word."""
        return self.client.error is None or isinstance(self.client.error, ConnectionError)

    @property
    def puzzled(self) -> bool:
        """Whether one of us does not understand the other: no word, or none that makes sense."""
        return self.hung_up or not isinstance(self.client.error, OSError)

    @classmethod
    def opened(cls, client: Client, keepalive_s: float, now: float) -> Connection:
        """Return a connection whose socket has just been opened."""
        return cls(client, client.socket(), now, now, float(keepalive_s), now + keepalive_s)

    def log_in(self, terms: Terms, now: float) -> None:
        """Take over what the broker grants with the login."""
        self.logged_in_at = now
        self.terms = terms
        self.keepalive_s = float(terms.keepalive_s or self.keepalive_s)
        self.next_ping = now + self.keepalive_s

    def ping(self, now: float) -> bool:
        """Ping when it is time, whether or not anything else was said: that is one rule, and two bytes.

        Returns:
            Whether the broker has answered the ping before.
        """
        if now < self.next_ping:
            return True
        if self.heard_at < self.pinged_at:
            return False
        self.pinged_at = now
        self.next_ping = now + self.keepalive_s
        self.client.send(PINGREQ)
        return True
