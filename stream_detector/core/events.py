"""What comes out of the core (and of the shell, where it refuses something): one list of events.

Alerts on MQTT, log lines, metrics and the page are all readers of this list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream_detector.core.records import Role

# Closed lists. The types are the lists: the tuples come from them, and the type checker names every
# `match` that does not know a new word.
Kind: TypeAlias = Literal["point", "range", "stuck", "silence", "data_quality"]
Severity: TypeAlias = Literal["warning", "critical"]
AlertEvent: TypeAlias = Literal["raise", "update", "clear", "ack"]
State: TypeAlias = Literal["warming_up", "ok", "alerting", "silent"]
Ending: TypeAlias = Literal["returned", "new_normal", "forgotten", "device_silent", "model_replaced"]
SuppressedReason: TypeAlias = Literal["min_severity", "storm"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the worst last
ALERT_EVENTS: tuple[AlertEvent, ...] = get_args(AlertEvent)
STATES: tuple[State, ...] = get_args(State)
ENDINGS: tuple[Ending, ...] = get_args(Ending)

REJECTIONS = (
    "channel_limit",
    "channel_name",
    "device_limit",
    "device_mismatch",
    "device_missing",
    "device_name",
    "empty",
    "encoding",
    "internal_error",
    "malformed",
    "no_values",
    "not_finite",
    "seq",
    "time_bounds",
    "timestamp",
    "too_large",
    "topic",
    "wrong_type",
)
"""Why a message or a reading is refused."""

IGNORED = ("no_stream", "overload", "own_topic", "retained")
"""Why a message is passed over without being wrong."""

COMMAND_RESULTS = (
    "bad_request",
    "dead_letter",
    "ignored",
    "not_found",
    "not_supported",
    "ok",
    "repeated",
    "unknown_command",
)
"""How a command is answered: ok, from memory (repeated), with an error, or not at all."""

SUPPRESSED: tuple[SuppressedReason, ...] = get_args(SuppressedReason)
"""Why an alert is not raised although its readings are anomalous."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """How much of a score is one channel's doing; the shares of an alert sum to 1."""

    channel: str
    share: float


@dataclass(frozen=True, slots=True)
class Expected:
    """Where a channel's value was expected; None: no bound on that side."""

    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class AlertChanged:
    """An alert is raised, updated, cleared or acknowledged; the fields are those of the contract.

    Times are µs since 1970 UTC. `started_at`, `updated_at` and `ended_at` are event times (of the
    service clock for silence), `received_at` is the arrival of the reading that changed the alert.
    `channels` are those that hold it (at its end: that held it); empty where the device as a whole does.
    `ended_because` is None but at its end.
    """

    event: AlertEvent
    id: str
    seq: int
    kind: Kind
    stream: str
    device: str
    tags: Mapping[str, str]
    severity: Severity
    score: float
    peak_score: float
    raw_score: float
    threshold: float
    confidence: float
    started_at: int
    updated_at: int
    ended_at: int | None
    received_at: int
    values: Mapping[str, float]
    expected: Mapping[str, Expected]
    contributions: tuple[Contribution, ...]
    reason: str
    model_name: str
    model_version: str
    acknowledged: bool = False
    channels: tuple[str, ...] = ()
    ended_because: Ending | None = None


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An open alert, as the device's state lists it."""

    id: str
    kind: Kind
    severity: Severity
    started_at: int
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class DeviceStateChanged:
    """A device warms up, is ok, alerts, or is silent; or its open alerts changed."""

    stream: str
    device: str
    tags: Mapping[str, str]
    state: State
    previous: State | None
    severity: Severity | None
    score: float | None
    active: tuple[ActiveAlert, ...]
    updated_at: int


@dataclass(frozen=True, slots=True)
class DeviceForgotten:
    """A device is gone for good; `state` is the last that was published of it, None where none was."""

    stream: str
    device: str
    state: State | None


@dataclass(frozen=True, slots=True)
class ChannelAdded:
    """A device reports a channel that it did not have before."""

    stream: str
    device: str
    channel: str
    at: int


@dataclass(frozen=True, slots=True)
class AlertSuppressed:
    """Readings are anomalous, but the policy holds the alert back."""

    stream: str
    device: str
    kind: Kind
    reason: SuppressedReason


@dataclass(frozen=True, slots=True)
class ModelReplaced:
    """From here on a stream is scored by another model in this role; without a name, by none."""

    at: int
    stream: str
    role: Role
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ModelRefused:
    """A new version of a model was found but fails its checks; the old one goes on."""

    at: int
    stream: str
    name: str
    version: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message, or one element of a list, is refused.

    Attributes:
        stream: The stream it was meant for, empty where it is unknown.
        reason: A word from `REJECTIONS`; ``command`` for a request that cannot be answered.
        message: One sentence for the person who has to mend the sender.
        topic: Where it came from.
        size: Bytes of the whole payload.
        sha256: Of the whole payload.
        head: Its first kilobyte.
        received_at: Arrival, µs.
        whole: The whole message is refused, not just one reading in it.
    """

    stream: str
    reason: str
    message: str
    topic: str
    size: int
    sha256: str
    head: bytes
    received_at: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class CommandAnswered:
    """A request came over MQTT.

    Attributes:
        command: One that there is, or ``other``.
        result: A word from `COMMAND_RESULTS`.
    """

    command: str
    result: str


CoreEvent: TypeAlias = (
    AlertChanged | DeviceStateChanged | DeviceForgotten | ChannelAdded | AlertSuppressed | ModelReplaced
)
StreamEvent: TypeAlias = CoreEvent | ModelRefused | Rejected
Event: TypeAlias = StreamEvent | CommandAnswered


@dataclass(slots=True)
class Counts:
    """How the readings of a batch ended: they sum to the readings that went in."""

    scored: int = 0
    warming_up: int = 0
    late: int = 0
    duplicate: int = 0
    missing_seq: int = 0  # numbers that never came, not readings


@dataclass(slots=True)
class Outcome:
    """What processing one record gave.

    Attributes:
        events: In the order of the readings that caused them.
        counts: How the readings ended.
        scored: Places of the scored readings in the batch.
        scores: Their scores: those of the detector that leads.
        others: Scores of each further detector, by role, NaN where it cannot say, (n,).
        touched: Slots of the devices whose memory it changed, each once, (k,); empty for records
            that concern all devices (`Gap`, `ModelSet`).
    """

    events: list[CoreEvent] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    scored: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    others: dict[Role, NDArray[np.float64]] = field(default_factory=dict)
    touched: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
