"""The embedded broker as others reach it: one of its two ports, with the same life as the other peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from stream_detector.mqtt.broker import EmbeddedBroker

if TYPE_CHECKING:
    from pathlib import Path


class Embedded:
    """An embedded broker that stands alone.

    Args:
        folder: Not needed: it keeps nothing.
        protocol: ``3.1.1`` or ``5``: the port that is used.
    """

    def __init__(self, folder: Path, protocol: str) -> None:
        del folder
        self._broker = EmbeddedBroker()
        self._protocol = protocol

    @property
    def port(self) -> int:
        """Where it speaks the protocol."""
        return self._broker.port if self._protocol == "3.1.1" else self._broker.port_v5

    @property
    def url(self) -> str:
        """Where it speaks the protocol."""
        return self._broker.url(self._protocol)

    def log(self) -> str:
        """It says nothing."""
        return ""

    def start(self) -> Self:
        """Start; a second start takes the same ports."""
        self._broker.start()
        return self

    def stop(self) -> None:
        """End it."""
        self._broker.stop()

    def restart(self) -> None:
        """Stop and start on the same ports."""
        self.stop()
        self.start()
