"""The registry of devices: names <-> slots, and what is known of every device, whatever its channels.

A slot is a device's row in the stream-wide arrays. The slot of a device that was removed is given to the
next new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.pauses import CLASSES
from stream_detector.core.devices.table import Column, Table
from stream_detector.core.records import NO_SEQ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


REMEMBERED = 32  # one topic a channel, at most 32 channels: 32 readings may share a time
NEVER = int(np.iinfo(np.int64).min)

COLUMNS: Mapping[str, Column] = {
    "newest": Column(np.int64, fill=NEVER),  # event time of the newest accepted reading, µs
    "identities": Column(np.uint64, (REMEMBERED,)),
    "identity_ts": Column(np.int64, (REMEMBERED,)),
    "accepted": Column(np.int64),
    "forgotten": Column(np.int64, fill=NEVER),  # newest event time among forgotten identities
    "seq": Column(np.int64, fill=NO_SEQ),
    "highest": Column(np.int64, fill=NO_SEQ),  # the highest number among those of the newest time
    "lates": Column(np.uint32),  # which of the last 32 readings were late, a bit each, the last one lowest
    "late_beyond": Column(np.int64, fill=NEVER),  # event time of the late reading that holds a range alert
    "heard": Column(np.int64, fill=NEVER),  # arrival of the last reading, µs
    "unheard": Column(np.int64),  # for so much of the time since then we could hear nobody, µs
    "cadence": Column(np.float64),  # the longest usual time between arrivals, µs
    "arrivals": Column(np.int64),  # how many such times were learned
    "allowed": Column(np.float64),  # how long it may say nothing, µs; see `devices.pauses` for these four
    "recent": Column(np.float64),
    "aged": Column(np.float64),
    "weights": Column(np.float32, (CLASSES,)),
    "layout": Column(np.int32, fill=-1),
    "row": Column(np.int32),
    "state": Column(np.int8, fill=-1),  # an index into events.STATES; -1: none was published yet
    "warm": Column(np.bool_),  # has had a score
    "open": Column(np.bool_),  # the alert machine holds something about this device
    "events_since": Column(np.int64),  # the minute of arrival in which its readings' events are counted, µs
    "events": Column(np.int32),  # how many there were
}


class Devices:
    """The devices of one stream.

    Example:
        >>> devices = Devices()
        >>> devices.slots(["a", "b", "a"], {}).tolist()
        [0, 1, 0]
    """

    def __init__(self) -> None:
        self.table = Table(COLUMNS)
        self.slot_of: dict[str, int] = {}
        self.names: list[str] = []
        self.tags: dict[int, Mapping[str, str]] = {}

    def __len__(self) -> int:
        """Return the number of devices."""
        return len(self.slot_of)

    def slots(self, names: list[str], tags: Mapping[str, Mapping[str, str]]) -> NDArray[np.int32]:
        """Return each name's slot, (n,); names met for the first time get one."""
        slot_of = self.slot_of
        try:
            return np.array([slot_of[name] for name in names], dtype=np.int32)
        except KeyError:
            for name in names:
                if name not in slot_of:
                    self.add(name, tags.get(name, {}))
            return np.array([slot_of[name] for name in names], dtype=np.int32)

    def add(self, name: str, tags: Mapping[str, str]) -> int:
        """Give a device that there is not yet a blank slot."""
        slot = self.table.add()
        self.slot_of[name] = slot
        if slot == len(self.names):
            self.names.append(name)
        else:
            self.names[slot] = name
        if tags:
            self.tags[slot] = tags
        return slot

    def remove(self, slot: int) -> None:
        """Forget a device; the next new one gets its slot."""
        del self.slot_of[self.names[slot]]
        self.names[slot] = ""
        self.tags.pop(slot, None)
        self.table.remove(slot)

    def miss(self, start: int, stop: int, slots: NDArray[np.int64] | None = None) -> None:
        """Note that devices could not be heard for a while; each only from its last arrival on.

        Args:
            start: From, service clock.
            stop: To, service clock.
            slots: Of the devices, (k,); None: all of them.
        """
        heard = self.table["heard"]
        who = np.flatnonzero(heard[: self.table.size] != NEVER) if slots is None else slots
        self.table["unheard"][who] += np.maximum(0, stop - np.maximum(heard[who], start))

    def last_identity(self, slot: int) -> tuple[int, int]:
        """Return event time and identity of a device's last accepted reading."""
        place = (int(self.table["accepted"][slot]) - 1) % REMEMBERED
        return int(self.table["identity_ts"][slot, place]), int(self.table["identities"][slot, place])
