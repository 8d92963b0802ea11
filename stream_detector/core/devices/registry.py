"""Devices: names <-> slots, and who may change a window.

A slot is a device's row in the stream-wide arrays. Acceptance decides for each reading, in arrival
order, whether it is new, a duplicate or late, so that a reading changes its window exactly once,
however often the broker delivers it. A device remembers its last 32 identities, and what is not
newer than a forgotten one counts as late: it may have been here before. A number above all those of
the newest time proves that it was not, so a device with a coarse clock that numbers its readings may
report any number of them at one time; one that does not, 33.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.table import Column, Table
from stream_detector.core.kernel import kernel
from stream_detector.core.records import NO_SEQ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.records import Readings

ACCEPTED, LATE, DUPLICATE = 0, 1, 2
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
    "heard": Column(np.int64, fill=NEVER),  # arrival of the last reading, µs
    "unheard": Column(np.int64),  # for so much of the time since then we could hear nobody, µs
    "cadence": Column(np.float64),  # slowly decaying maximum of the time between arrivals, µs
    "arrivals": Column(np.int64),  # how many of those were learned
    "layout": Column(np.int32, fill=-1),
    "row": Column(np.int32),
    "state": Column(np.int8, fill=-1),  # an index into events.STATES; -1: not told yet
    "warm": Column(np.bool_),  # has had a score
    "open": Column(np.bool_),  # the alert machine holds something about this device
}

CADENCE_DECAY = 0.99
CADENCE_GROWTH = 2.0
"""One gap can at most double a known cadence, so that an outage is not learned as usual."""
CADENCE_KNOWN = 20
RENUMBERED = 1_000_000
"""A sequence that leaps by more has been numbered anew; nothing was lost."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of the readings of a batch, (n,) each unless said.

    Attributes:
        verdict: `ACCEPTED`, `LATE` or `DUPLICATE`.
        cadence: The device's cadence just after each reading, µs.
        arrivals: How many times between arrivals it was learned from.
        missing: How many numbers are missing in the devices' sequences, one for all.
    """

    verdict: NDArray[np.int8]
    cadence: NDArray[np.float64]
    arrivals: NDArray[np.int64]
    missing: int


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

    def accept(
        self,
        slots: NDArray[np.int32],
        readings: Readings,
        identity: NDArray[np.uint64],
        lateness: int,
    ) -> Acceptance:
        """Judge a batch in arrival order.

        Args:
            slots: Slot of each reading, (n,).
            readings: The batch.
            identity: What tells one reading from another, (n,).
            lateness: How much older than the newest a reading may be, µs.
        """
        verdict = np.empty(len(slots), dtype=np.int8)
        cadence = np.empty(len(slots))
        arrivals = np.empty(len(slots), dtype=np.int64)
        missing = _accept(
            slots,
            readings.ts,
            readings.arrival,
            readings.seq,
            identity,
            lateness,
            self.table["newest"],
            self.table["identities"],
            self.table["identity_ts"],
            self.table["accepted"],
            self.table["forgotten"],
            self.table["seq"],
            self.table["highest"],
            self.table["heard"],
            self.table["unheard"],
            self.table["cadence"],
            self.table["arrivals"],
            verdict,
            cadence,
            arrivals,
        )
        return Acceptance(verdict, cadence, arrivals, int(missing))

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


def identities(
    readings: Readings,
    offsets: NDArray[np.int64],
    channel_hash: NDArray[np.uint64],
    starts: NDArray[np.int64],
) -> NDArray[np.uint64]:
    """Return 64 bits that tell a device's readings apart, (n,).

    They come from the event time and the device's own number where it gives one, else the values
    (each with its channel, in any order); plus the place in a list.

    Args:
        readings: The batch.
        offsets: Its `Readings.offsets`.
        channel_hash: Hash of each channel name, for the column sets of the batch one after another.
        starts: Where each column set begins in `channel_hash`, (sets,).
    """
    out = np.empty(len(readings), dtype=np.uint64)
    _identify(
        readings.ts,
        readings.seq,
        readings.index,
        readings.values.view(np.uint64),
        offsets,
        readings.shapes,
        channel_hash,
        starts,
        out,
    )
    return out


@kernel
def _mix(x: np.uint64) -> np.uint64:
    """Scatter 64 bits (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@kernel
def _identify(
    ts: NDArray[np.int64],
    seq: NDArray[np.int64],
    index: NDArray[np.int32],
    values: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    shapes: NDArray[np.int32],
    channel_hash: NDArray[np.uint64],
    starts: NDArray[np.int64],
    out: NDArray[np.uint64],
) -> None:
    not_a_number = np.uint64(0x7FF8000000000000)
    for i in range(ts.shape[0]):
        if seq[i] != NO_SEQ:
            what = _mix(np.uint64(seq[i]) ^ np.uint64(0x9E3779B97F4A7C15))
        else:
            what = np.uint64(0)
            for k in range(offsets[i + 1] - offsets[i]):
                bits = values[offsets[i] + k]
                if bits & np.uint64(0x7FFFFFFFFFFFFFFF) < not_a_number:
                    # A sum, so that the order of the channels does not matter.
                    what += _mix(channel_hash[starts[shapes[i]] + k] ^ _mix(bits))
        out[i] = _mix(_mix(np.uint64(ts[i])) ^ what ^ (np.uint64(index[i]) << np.uint64(1)))


@kernel
def _accept(  # noqa: C901 - each reading is judged by all that came before it
    slots: NDArray[np.int32],
    ts: NDArray[np.int64],
    arrival: NDArray[np.int64],
    seq: NDArray[np.int64],
    identity: NDArray[np.uint64],
    lateness: int,
    newest: NDArray[np.int64],
    identities: NDArray[np.uint64],
    identity_ts: NDArray[np.int64],
    accepted: NDArray[np.int64],
    forgotten: NDArray[np.int64],
    last_seq: NDArray[np.int64],
    highest: NDArray[np.int64],
    heard: NDArray[np.int64],
    unheard: NDArray[np.int64],
    cadence: NDArray[np.float64],
    arrivals: NDArray[np.int64],
    verdict: NDArray[np.int8],
    cadence_then: NDArray[np.float64],
    arrivals_then: NDArray[np.int64],
) -> int:
    missing = 0
    for i in range(slots.shape[0]):
        s = slots[i]
        before = newest[s]
        deaf = unheard[s]
        quiet = 0 if heard[s] == NEVER else arrival[i] - heard[s] - deaf
        heard[s] = max(heard[s], arrival[i])
        unheard[s] = 0
        cadence_then[i] = cadence[s]
        arrivals_then[i] = arrivals[s]
        # Known already, or too old?
        known = False
        if ts[i] <= before:
            for k in range(min(accepted[s], REMEMBERED)):
                known = known or identities[s, k] == identity[i]
        if known:
            verdict[i] = DUPLICATE
            continue
        surely_new = ts[i] > before or (ts[i] == before and seq[i] > highest[s])
        if not surely_new and (ts[i] < before - lateness or ts[i] <= forgotten[s]):
            verdict[i] = LATE
            continue
        # Accepted.
        verdict[i] = ACCEPTED
        place = accepted[s] % REMEMBERED
        if accepted[s] >= REMEMBERED:
            forgotten[s] = max(forgotten[s], identity_ts[s, place])
        identities[s, place] = identity[i]
        identity_ts[s, place] = ts[i]
        accepted[s] += 1
        if surely_new:
            newest[s], highest[s] = ts[i], seq[i]
        if seq[i] != NO_SEQ:
            ahead = seq[i] - last_seq[s] - 1  # wraps around for numbers at both ends of int64
            if last_seq[s] != NO_SEQ and seq[i] > last_seq[s] and 0 <= ahead < RENUMBERED:
                missing += ahead
            last_seq[s] = seq[i]
        # How often the device speaks: elements of one list share an arrival and do not count; a
        # backlog arrives in no time, but its event times keep the true pace.
        if before != NEVER and quiet > 0:
            gap = float(max(quiet, ts[i] - before - deaf))
            if arrivals[s] >= CADENCE_KNOWN:
                gap = min(gap, CADENCE_GROWTH * cadence[s])
            cadence[s] = max(gap, CADENCE_DECAY * cadence[s])
            arrivals[s] += 1
            cadence_then[i] = cadence[s]
            arrivals_then[i] = arrivals[s]
    return missing
