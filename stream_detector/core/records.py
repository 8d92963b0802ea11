"""What goes into the core: one ordered list of records.

What is not a record cannot change an event. A batch of readings is columns, not objects: a list
of device names and arrays for the rest, so that nothing is done per reading that can be done per
batch. Times are integers: microseconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Role: TypeAlias = Literal["live", "beside", "shadow"]
ROLES: Mapping[Role, bool] = {"live": True, "beside": True, "shadow": False}
"""What a stream's detectors are there for, in the order in which they score: may it raise alerts?

Every stream has a live one. One beside it raises alerts, too; a shadow only shows what it would do.
"""

NO_SEQ = int(np.iinfo(np.int64).min)
"""In the `seq` column: the reading came without a number."""


@dataclass(frozen=True, slots=True)
class Started:
    """The service (or a replay) begins with this configuration.

    Attributes:
        at: Service clock.
        config_hash: Says which configuration the records after it were judged by.
    """

    at: int
    config_hash: str


@dataclass(frozen=True, slots=True)
class Readings:
    """A batch of checked readings of one stream, in arrival order.

    Different devices report different channels, so values stand in one flat array: reading i owns
    the next ``len(columns[shapes[i]])`` of them, in that order. NaN means "not reported".

    Attributes:
        stream: Name of the stream.
        devices: Device of each reading, length n.
        columns: The sets of channel names that occur in this batch, in the order of the values.
        shapes: Index into `columns`, (n,) int32.
        values: All values, flat, float64.
        ts: Event time in µs, (n,) int64.
        arrival: Arrival time in µs by the service clock, (n,) int64; the same for one list.
        seq: The device's own number or `NO_SEQ`, (n,) int64.
        index: Place inside the list that the reading came in, else 0, (n,) int32.
        tags: Other captures of the topic, for devices that the decoder meets for the first time.
    """

    stream: str
    devices: list[str]
    columns: tuple[tuple[str, ...], ...]
    shapes: NDArray[np.int32]
    values: NDArray[np.float64]
    ts: NDArray[np.int64]
    arrival: NDArray[np.int64]
    seq: NDArray[np.int64]
    index: NDArray[np.int32]
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of readings."""
        return len(self.devices)

    def offsets(self) -> NDArray[np.int64]:
        """Return where each reading's values begin, and the end of the last: (n + 1,)."""
        if len(self.columns) == 1:  # as in most batches
            return np.arange(len(self) + 1, dtype=np.int64) * len(self.columns[0])
        widths = np.array([len(names) for names in self.columns], dtype=np.int64)
        out = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(widths[self.shapes], out=out[1:])
        return out

    def select(self, mask: NDArray[np.bool_]) -> Readings:
        """Return the readings where a mask, (n,), is true, as a batch of their own."""
        return Readings(
            stream=self.stream,
            devices=list(compress(self.devices, mask)),
            columns=self.columns,
            shapes=self.shapes[mask],
            values=self.values[np.repeat(mask, np.diff(self.offsets()))],
            ts=self.ts[mask],
            arrival=self.arrival[mask],
            seq=self.seq[mask],
            index=self.index[mask],
            tags=self.tags,
        )


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes although nothing arrives: what silence is measured by.

    Attributes:
        at: Service clock.
    """

    at: int


@dataclass(frozen=True, slots=True)
class Gap:
    """We could not hear: down, disconnected, or draining what piled up meanwhile.

    Attributes:
        start: From, service clock.
        stop: To, service clock.
    """

    start: int
    stop: int

    @property
    def at(self) -> int:
        """Return when it is known."""
        return self.stop


@dataclass(frozen=True, slots=True)
class ModelSet:
    """From here on a stream is scored by this model in this role.

    Attributes:
        at: Service clock.
        stream: Name of the stream.
        role: One of `ROLES`.
        name: A built-in detector, or a folder under ``models_dir``; empty: nobody has this role any more,
            which cannot be ``live``.
        version: Version of a bundle; empty for a built-in detector.
        sha256: Content of a bundle; empty for a built-in detector.
    """

    at: int
    stream: str
    role: Role
    name: str
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A person has seen an alert.

    Attributes:
        at: Service clock.
        stream: Name of the stream.
        device: Whose alert it is.
        id: Of the alert; where it is not open any more nothing happens.
        by: Who; may be empty.
        comment: What they say; may be empty.
    """

    at: int
    stream: str
    device: str
    id: str
    by: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """A person says whether an alert was right; kept for whoever trains or compares, it changes no event.

    Attributes:
        at: Service clock.
        id: Of the alert, open or not.
        verdict: ``true_alert`` or ``false_alert``.
        by: Who; may be empty.
        comment: What they say; may be empty.
    """

    at: int
    id: str
    verdict: str
    by: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A device is gone for good: all that is known of it goes, and its alerts end.

    Attributes:
        at: Service clock.
        stream: Name of the stream.
        device: Its name; one that nobody knows is nothing to forget.
    """

    at: int
    stream: str
    device: str


@dataclass(frozen=True, slots=True)
class TopicState:
    """What a format has to remember of a topic to read its next messages, such as what a birth declared.

    It changes no event, as readings are journalled decoded; the newest of each topic comes back at a start.

    Attributes:
        at: Service clock.
        stream: Name of the stream.
        topic: The topic, or what of it is common to those that share the state.
        content: Bytes that the format understands; empty: there is nothing to remember any more.
    """

    at: int
    stream: str
    topic: str
    content: bytes


Record: TypeAlias = (
    Started | Readings | Tick | Gap | ModelSet | Acknowledged | Feedback | Forgotten | TopicState
)

RECORDS: Mapping[str, type[Record]] = {
    "started": Started,
    "readings": Readings,
    "tick": Tick,
    "gap": Gap,
    "model": ModelSet,
    "acknowledged": Acknowledged,
    "feedback": Feedback,
    "forgotten": Forgotten,
    "topic_state": TopicState,
}
"""Every type of record by the name that it has in a journal."""
STANDING = (Started, Gap, ModelSet)
"""Records that concern devices which are only on disk, too: they outlive the trimming of the journal."""
