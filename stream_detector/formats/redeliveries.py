"""Which deliveries of readings without time and number were taken, so that a second one is known.

Such a reading has no identity of its own: its time is its arrival. What tells a redelivery from the
same value measured again is the broker's word: the DUP flag, with the packet id of the first try.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

GONE = 0
"""Instead of a digest: the packet id was used again for something else."""


def digest_of(topic: bytes, payload: bytes) -> int:
    """Return 63 bits that stand for a message."""
    found = blake2b(payload, digest_size=8, key=topic[-64:]).digest()
    return (int.from_bytes(found, "little") >> 1) or 1


class Redeliveries:
    """The last deliveries at QoS 1 of one session, by packet id.

    Args:
        keep: So many are remembered; more than the broker may have open.

    Example:
        >>> deliveries = Redeliveries(keep=2)
        >>> deliveries.took(7, b"t", b"1"), deliveries.known(7, b"t", b"1"), deliveries.known(7, b"t", b"2")
        (None, True, False)
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._digests: OrderedDict[int, int] = OrderedDict()
        self._changes: list[tuple[int, int]] = []

    def known(self, packet_id: int, topic: bytes, payload: bytes) -> bool:
        """Return whether a message that is delivered again was taken already."""
        found = self._digests.get(packet_id)
        return found is not None and found == digest_of(topic, payload)

    def took(self, packet_id: int, topic: bytes, payload: bytes) -> None:
        """Remember a message that was taken."""
        self._note(packet_id, digest_of(topic, payload))

    def reused(self, packet_id: int) -> None:
        """Note that the broker uses a packet id for another message."""
        if packet_id in self._digests:
            self._note(packet_id, GONE)

    def changes(self) -> list[tuple[int, int]]:
        """Return packet ids and digests (or `GONE`) since the last call, for who stores them."""
        changes, self._changes = self._changes, []
        return changes

    def restore(self, stored: Iterable[tuple[int, int]]) -> None:
        """Take over what was stored, oldest first."""
        self._digests.clear()
        for packet_id, digest in stored:
            self._note(packet_id, digest)
        self._changes.clear()

    def forget(self) -> None:
        """Forget everything: the session is a new one, and so are its packet ids."""
        for packet_id in list(self._digests):
            self._note(packet_id, GONE)

    def _note(self, packet_id: int, digest: int) -> None:
        self._changes.append((packet_id, digest))
        self._digests.pop(packet_id, None)
        if digest != GONE:
            self._digests[packet_id] = digest
            if len(self._digests) > self.keep:
                self._digests.popitem(last=False)
