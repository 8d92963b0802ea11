"""The whole memory of one device as a value: what a checkpoint stores and a start restores.

A device's numbers are one row across the tables of its stream. They travel as the bytes of those
cells, one after another in the order of a `RowLayout`, which many devices share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.core.alerts.track import Track
    from stream_detector.core.events import Kind, Severity
    from stream_detector.core.records import Role


DEVICE, OBSERVED = "device", "layout"
"""The names of tables: what is known of every device, and what was observed of its channels."""


def learned_name(role: Role) -> str:
    """Return the name that a snapshot gives the cells that the detector of a role has learned.

    Those of the live one stand with what was observed, as they did when there was no other.
    """
    return OBSERVED if role == "live" else f"{OBSERVED}.{role}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One array's part of a row.

    Attributes:
        table: `DEVICE` (one row a device of the stream), `OBSERVED` (one row a device of its layout: what was
            observed, and what the live detector has learned), or that of another detector.
        name: Of the array.
        dtype: As numpy writes it, with the byte order: ``<f8``.
        shape: Of the cell, channels included.
    """

    table: str
    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RowLayout:
    """What the bytes of a row mean; equal for all devices with the same channels and detectors.

    Attributes:
        channels: Of the device, in the order of the arrays; empty where it has no window yet.
        detector: Name and version of the live detector, which cells learned by it belong to.
        cells: In the order of the bytes.
        in_use_since: When that detector took over (`ModelSet.at`, µs), 0 where it was there first: a
            detector that is set anew learns anew.
        others: Role, name, version and the time it took over of each further detector.
    """

    channels: tuple[str, ...]
    detector: tuple[str, str]
    cells: tuple[Cell, ...]
    in_use_since: int = 0
    others: tuple[tuple[str, str, str, int], ...] = ()

    def __hash__(self) -> int:
        """Leave the cells out: the rest nearly always settles them, and they are many."""
        return hash((self.channels, self.detector, self.in_use_since))


PublishedAlerts: TypeAlias = "tuple[tuple[str, Severity, bool], ...]"
"""Id and severity of a device's open alerts as last published, and whether they are acknowledged."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Everything that a stream knows of one device.

    Attributes:
        device: Its name.
        tags: Other captures of its topic.
        layout: What `row` means.
        row: The cells, one after another.
        tracks: The alert machines that hold something, by kind.
        published: The open alerts as they were last published.
    """

    device: str
    tags: Mapping[str, str]
    layout: RowLayout
    row: bytes
    tracks: Mapping[Kind, Track] = field(default_factory=dict)
    published: PublishedAlerts = ()


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert as it was last published: what outlives a change of the code that would compute it anew."""

    stream: str
    device: str
    kind: Kind
    id: str
    seq: int
    started_at: int
    severity: Severity
    peak: float
    published_at: int
    acknowledged: bool = False
    channels: tuple[str, ...] = ()
