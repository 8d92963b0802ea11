"""A recording as records, with only those ticks that can change something.

Between two rows a second or more apart time passes, so there could be a tick: `Recording.records` makes
each of them. In a sparse recording that is one for nearly every row, and a batch of one reading each. Most
change nothing: a tick only finds silence. Here two things are known beforehand: from the rows alone, where
a device would be found silent for the first time; and from the stream, when a silence that was found can be
news again. All other ticks are left out, and the events are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.devices.acceptance import ACCEPTED, Identities, accept
from stream_detector.core.devices.pauses import KNOWN
from stream_detector.core.devices.registry import Devices
from stream_detector.core.records import Tick
from stream_detector.core.scoring.rules import allowed_quiet
from stream_detector.sources.recordings import TICK_US

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stream_detector.core.records import Readings
    from stream_detector.core.stream import Stream
    from stream_detector.sources.recordings import Recording

BATCH = 20_000


def play(recording: Recording, stream: Stream) -> Iterator[Readings | Tick]:
    """Yield a recording as records of a stream, which must have taken each in before it asks for the next.

    Args:
        recording: In the order of time.
        stream: New: it has seen nothing.
    """
    rows = np.flatnonzero(np.diff(recording.ts) >= TICK_US) + 1  # before each of them a tick may be
    instants = recording.ts[rows] - 1
    first = _first_silences(recording, rows, instants, stream)
    start, n = 0, len(recording)
    while start < n:
        stop = _after(first, start, n)
        due = stream.next_tick()
        if due is not None:
            stop = min(stop, _after(rows[np.searchsorted(instants, due) :], start, n))
        for begin in range(start, stop, BATCH):
            yield recording.batch(stream.spec.name, begin, min(begin + BATCH, stop))
        if stop < n:
            yield Tick(int(recording.ts[stop]) - 1)
        start = stop


def _after(rows: NDArray[np.int64], start: int, otherwise: int) -> int:
    """Return the first of some rows, ascending, that comes after another one."""
    place = int(np.searchsorted(rows, start, side="right"))
    return int(rows[place]) if place < len(rows) else otherwise


def _first_silences(
    recording: Recording, rows: NDArray[np.int64], instants: NDArray[np.int64], stream: Stream
) -> NDArray[np.int64]:
    """Return the rows before which a device would be found silent for the first time, ascending.

    What a device is allowed follows from its readings alone, in their order: so they are accepted here, as
    the stream will accept them, and each is asked which tick would be the first to find its device silent.

    Args:
        recording: In the order of time.
        rows: Before which there may be a tick, (m,), ascending.
        instants: Of these ticks, µs, (m,).
        stream: Says how lateness and silence are configured.
    """
    at_least = stream.spec.silence_at_least
    if at_least is None or not len(rows):
        return np.empty(0, dtype=np.int64)
    n, devices = len(recording), Devices()
    slots = devices.slots(recording.devices, {})
    readings = recording.batch(stream.spec.name, 0, n)
    identity = Identities().of(readings, readings.offsets())
    seen = accept(devices.table, slots, readings, identity, stream.spec.lateness, at_least)

    order = np.argsort(slots, kind="stable")
    following = np.full(n, n)  # the row of the device's next reading
    same = slots[order[1:]] == slots[order[:-1]]
    following[order[:-1][same]] = order[1:][same]

    quiet = allowed_quiet(seen.allowed, at_least)
    found = np.searchsorted(instants, recording.ts + np.ceil(quiet).astype(np.int64))
    known = seen.arrivals >= KNOWN
    wanted = _reached(rows, found[known], following[known])
    # A late reading, or a duplicate, ends a silence only with the next tick.
    other = seen.verdict != ACCEPTED
    heard = np.searchsorted(instants, recording.ts[other], side="right")
    return np.unique(np.concatenate([wanted, _reached(rows, heard, following[other])]))


def _reached(
    rows: NDArray[np.int64], ticks: NDArray[np.int64], following: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rows of those ticks that come before the device's next reading."""
    there = ticks < len(rows)
    reached = rows[ticks[there]]
    return reached[reached <= following[there]]
