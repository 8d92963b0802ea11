"""What the broker says with its answer to our login: the properties of CONNACK.

With 3.1.1 a broker says nothing of this; its limits show only in what it drops or cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from . import sentences

LAST_ID = 65535
"""Packet ids have two bytes, so no more messages can be on their way."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one login (MQTT 5, section 3.2.2); each default is what silence means.

    Attributes:
        session_expiry_s: How long it keeps the session when we leave; None: as long as we asked for.
        receive_maximum: How many unconfirmed QoS 1 messages it takes from us.
        max_packet: Bytes of the largest packet it takes; None: it names no limit.
        max_qos: 0, 1 or 2.
        keepalive_s: The keepalive that holds instead of ours; 0: ours.
    """

    session_expiry_s: int | None = None
    receive_maximum: int = LAST_ID
    max_packet: int | None = None
    max_qos: int = 2
    keepalive_s: int = 0

    @classmethod
    def read(cls, properties: Any) -> Self:
        """Return what paho's properties of a CONNACK say; None with 3.1.1."""
        return cls(
            session_expiry_s=getattr(properties, "SessionExpiryInterval", None),
            receive_maximum=max(1, getattr(properties, "ReceiveMaximum", LAST_ID)),
            max_packet=getattr(properties, "MaximumPacketSize", None),
            max_qos=getattr(properties, "MaximumQoS", 2),
            keepalive_s=getattr(properties, "ServerKeepAlive", 0),
        )

    def session_notes(self, wish_s: int, *, forgotten: bool) -> list[str]:
        """Return what is not as we wish of our session, as sentences.

        Args:
            wish_s: For how long the broker should keep it, s; 0: not at all.
            forgotten: It had one of ours, and has it no more.
        """
        notes = [sentences.SESSION_GONE] if wish_s and forgotten else []
        if self.session_expiry_s is not None and self.session_expiry_s < wish_s:
            notes.append(sentences.session_shortened(self.session_expiry_s, wish_s))
        return notes
