"""Acceptance: for each reading, in arrival order, whether it is new, a duplicate or late.

A reading changes its window exactly once, however often the broker delivers it. A device remembers its
last 32 identities, and what is not newer than a forgotten one counts as late: it may have been here
before. A number above all those of the newest time proves that it was not, so a device with a coarse
clock that numbers its readings may report any number of them at one time; one that does not, 33.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.devices.pauses import (
    CLASSES,
    FADES_EVERY,
    LASTING,
    LOOKED_AT,
    SHORTEST,
    Pauses,
    learn,
)
from stream_detector.core.devices.registry import NEVER, REMEMBERED
from stream_detector.core.habits import size_class
from stream_detector.core.kernel import kernel
from stream_detector.core.records import NO_SEQ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.devices.table import Table
    from stream_detector.core.records import Readings

ACCEPTED, LATE, DUPLICATE = 0, 1, 2
LATELY = 32
"""How many of its last readings were late is known of each device."""
AGAIN = 10
"""After so many accepted in a row, the late ones before are forgotten."""
RENUMBERED = 1_000_000
"""A sequence that leaps by more has been numbered anew; nothing was lost."""


class Seen(NamedTuple):
    """The arrays of `registry.COLUMNS` that acceptance owns, (devices,) unless said."""

    newest: NDArray[np.int64]
    identities: NDArray[np.uint64]  # (devices, REMEMBERED)
    identity_ts: NDArray[np.int64]  # (devices, REMEMBERED)
    accepted: NDArray[np.int64]
    forgotten: NDArray[np.int64]
    seq: NDArray[np.int64]
    highest: NDArray[np.int64]
    heard: NDArray[np.int64]
    unheard: NDArray[np.int64]
    lates: NDArray[np.uint32]


class Given(NamedTuple):
    """What the readings of a batch say of themselves, (n,)."""

    ts: NDArray[np.int64]
    arrival: NDArray[np.int64]
    seq: NDArray[np.int64]
    identity: NDArray[np.uint64]


class Acceptance(NamedTuple):
    """What became of the readings of a batch, (n,) each unless said.

    Attributes:
        verdict: `ACCEPTED`, `LATE` or `DUPLICATE`.
        cadence: The longest usual time between arrivals just after each reading, µs.
        allowed: How long the device may say nothing then, µs.
        arrivals: How many times between arrivals they were learned from.
        late: How many of the device's last `LATELY` readings were late, where this one is; else 0.
        behind: How much older than the device's newest a late one is, µs; else 0.
        missing: How many numbers are missing in the devices' sequences, (1,): one for all.
    """

    verdict: NDArray[np.int8]
    cadence: NDArray[np.float64]
    allowed: NDArray[np.float64]
    arrivals: NDArray[np.int64]
    late: NDArray[np.int8]
    behind: NDArray[np.int64]
    missing: NDArray[np.int64]


def accept(
    devices: Table,
    slots: NDArray[np.int32],
    readings: Readings,
    identity: NDArray[np.uint64],
    lateness: int,
    at_least: int,
) -> Acceptance:
    """Judge a batch in arrival order.

    Args:
        devices: Has the arrays of `Seen`, changed in place.
        slots: Slot of each reading, (n,).
        readings: The batch.
        identity: What tells one reading from another, (n,).
        lateness: How much older than the newest a reading may be, µs.
        at_least: Quiet time that is always allowed, µs.
    """
    n = len(slots)
    out = Acceptance(
        np.empty(n, dtype=np.int8),
        np.empty(n),
        np.empty(n),
        np.empty(n, dtype=np.int64),
        np.zeros(n, dtype=np.int8),
        np.zeros(n, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
    )
    given = Given(readings.ts, readings.arrival, readings.seq, identity)
    _accept(slots, given, lateness, float(at_least), devices.record(Seen), devices.record(Pauses), out)
    return out


class Identities:
    """Tells readings apart by 64 bits; remembers the hashes of channel names.

    They come from the event time and the device's own number where it gives one, else the values
    (each with its channel, in any order); plus the place in a list.
    """

    def __init__(self) -> None:
        self._hash_of: dict[str, int] = {}
        self._columns: tuple[tuple[str, ...], ...] = ()
        self._hashes = np.empty(0, np.uint64)
        self._starts = np.empty(0, np.int64)

    def of(self, readings: Readings, offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the identities of readings, (n,).

        Args:
            readings: A batch.
            offsets: Its `Readings.offsets`.
        """
        if readings.columns != self._columns:  # in most batches they are the same
            self._look_up(readings.columns)
        out = np.empty(len(readings), dtype=np.uint64)
        _identify(
            readings.ts,
            readings.seq,
            readings.index,
            readings.values.view(np.uint64),
            offsets,
            readings.shapes,
            self._hashes,
            self._starts,
            out,
        )
        return out

    def _look_up(self, columns: tuple[tuple[str, ...], ...]) -> None:
        """Hash the channels of these column sets, one set after another."""
        hash_of = self._hash_of
        for names in columns:
            for name in names:
                if name not in hash_of:
                    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
                    hash_of[name] = int.from_bytes(digest, "little")
        self._hashes = np.array([hash_of[name] for names in columns for name in names], dtype=np.uint64)
        widths = [len(names) for names in columns]
        self._starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64)
        self._columns = columns


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
def _accept(  # noqa: C901, PLR0912, PLR0915 - each reading is judged by all that came before it
    slots: NDArray[np.int32],
    given: Given,
    lateness: int,
    at_least: float,
    seen: Seen,
    pauses: Pauses,
    out: Acceptance,
) -> None:
    newest, highest, forgotten = seen.newest, seen.highest, seen.forgotten
    identities, identity_ts, accepted = seen.identities, seen.identity_ts, seen.accepted
    heard, unheard = seen.heard, seen.unheard
    cadence, allowed, arrivals = pauses.cadence, pauses.allowed, pauses.arrivals
    last_seq = seen.seq
    given_ts, given_seq, given_identity, arrival = given.ts, given.seq, given.identity, given.arrival
    verdict, cadence_then, allowed_then, arrivals_then = out.verdict, out.cadence, out.allowed, out.arrivals
    missing = 0
    for i in range(slots.shape[0]):
        s, ts, seq, identity = slots[i], given_ts[i], given_seq[i], given_identity[i]
        before = newest[s]
        deaf = unheard[s]
        quiet = 0 if heard[s] == NEVER else arrival[i] - heard[s] - deaf
        heard[s] = max(heard[s], arrival[i])
        unheard[s] = 0
        cadence_then[i], allowed_then[i], arrivals_then[i] = cadence[s], allowed[s], arrivals[s]
        # Known already, or too old?
        known = False
        if ts <= before:
            for k in range(min(accepted[s], REMEMBERED)):
                known = known or identities[s, k] == identity
        if known:
            verdict[i] = DUPLICATE
            continue
        surely_new = ts > before or (ts == before and seq > highest[s])
        if not surely_new and (ts < before - lateness or ts <= forgotten[s]):
            verdict[i] = LATE
            seen.lates[s] = (seen.lates[s] << 1) | 1
            for k in range(LATELY):
                out.late[i] += (seen.lates[s] >> k) & 1
            out.behind[i] = before - ts
            continue
        # Accepted.
        verdict[i] = ACCEPTED
        seen.lates[s] <<= 1
        if seen.lates[s] & ((1 << AGAIN) - 1) == 0:
            seen.lates[s] = 0
        place = accepted[s] % REMEMBERED
        if accepted[s] >= REMEMBERED:
            forgotten[s] = max(forgotten[s], identity_ts[s, place])
        identities[s, place] = identity
        identity_ts[s, place] = ts
        accepted[s] += 1
        if surely_new:
            newest[s], highest[s] = ts, seq
        if seq != NO_SEQ:
            ahead = seq - last_seq[s] - 1  # wraps around for numbers at both ends of int64
            if last_seq[s] != NO_SEQ and seq > last_seq[s] and 0 <= ahead < RENUMBERED:
                missing += ahead
            last_seq[s] = seq
        # How often the device speaks: elements of one list share an arrival and do not count; a
        # backlog arrives in no time, but its event times keep the true pace.
        if before != NEVER and quiet > 0:
            pause = float(max(quiet, ts - before - deaf))
            if pause <= cadence[s] and arrivals[s] % LOOKED_AT > 0 and pauses.aged[s] + pause < FADES_EVERY:
                # As usual: nothing but its weight changes. `learn` does the same, in five times the time.
                pauses.weights[s, size_class(pause, SHORTEST, CLASSES)] += 1.0
                pauses.recent[s] = max(pause, LASTING * pauses.recent[s])
                pauses.aged[s] += pause
                arrivals[s] += 1
            else:
                learn(pauses, s, pause, at_least)
            cadence_then[i], allowed_then[i], arrivals_then[i] = cadence[s], allowed[s], arrivals[s]
    out.missing[0] = missing
