"""What leaves the service: events as topics and payloads, exactly as other programs rely on them.

`AlertMessage` and `StateMessage` are the contract in code: field by field, in order. The JSON schema
that the service announces is made from them.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping  # noqa: TC003 - msgspec reads annotations while running
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec

from stream_detector.core.events import AlertChanged, DeviceForgotten, DeviceStateChanged, Rejected

if TYPE_CHECKING:
    from stream_detector.core.events import Event

ALERT_SCHEMA = "stream_detector.alert/1"
STATE_SCHEMA = "stream_detector.state/1"
INFO_SCHEMA = "stream_detector.info/1"
DEADLETTER_SCHEMA = "stream_detector.deadletter/1"
REPLY_SCHEMA = "stream_detector.reply/1"
SCORE_SCHEMA = "stream_detector.score/1"
BROKER = "mqtt"
"""The target of what is published over MQTT."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - the same object as datetime.UTC


@dataclass(frozen=True, slots=True)
class Publication:
    """A message on its way out.

    Attributes:
        topic: UTF-8, without wildcards.
        payload: Bytes.
        qos: 0 or 1.
        retain: Whether the broker keeps it for later subscribers.
        once: It is said once: neither kept over a crash nor tried again where the broker refuses it, or ends
            the connection.
        correlation: Of the request that it answers; only MQTT 5 carries it.
        target: Where it goes; each target has an order and confirmations of its own.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    once: bool = False
    correlation: bytes = b""
    target: str = BROKER


class ContributionMessage(msgspec.Struct, frozen=True):
    """How much of the score is one channel's doing."""

    channel: str
    share: float


class ExpectedMessage(msgspec.Struct, frozen=True):
    """Where a channel's value was expected."""

    value: float | None
    lower: float | None
    upper: float | None


class ModelMessage(msgspec.Struct, frozen=True):
    """The model behind a score."""

    name: str
    version: str
    role: str


class AlertMessage(msgspec.Struct, frozen=True):
    """An alert event, ``stream_detector.alert/1``."""

    schema: str
    id: str
    seq: int
    event: Literal["raise", "update", "clear", "ack"]
    kind: Literal["point", "pattern", "drift", "range", "stuck", "silence", "data_quality", "class"]
    stream: str
    device: str
    tags: dict[str, str]
    severity: Literal["warning", "critical"]
    score: float
    peak_score: float
    raw_score: float
    threshold: float
    confidence: float
    prediction: int
    label: str
    started_at: str
    updated_at: str
    ended_at: str | None
    received_at: str
    processing_ms: float
    values: dict[str, float]
    expected: dict[str, ExpectedMessage]
    contributions: list[ContributionMessage]
    reason: str
    model: ModelMessage
    incident: str | None
    acknowledged: bool
    channels: list[str]
    ended_because: Literal["returned", "new_normal", "forgotten", "device_silent", "model_replaced"] | None


class ActiveMessage(msgspec.Struct, frozen=True):
    """An open alert in a device's state."""

    id: str
    kind: str
    severity: str
    started_at: str
    acknowledged: bool


class StateMessage(msgspec.Struct, frozen=True):
    """A device's state, ``stream_detector.state/1``."""

    schema: str
    stream: str
    device: str
    tags: dict[str, str]
    state: str
    severity: str | None
    score: float | None
    active_count: int
    active: list[ActiveMessage]
    muted: bool
    updated_at: str


class ErrorMessage(msgspec.Struct, frozen=True):
    """Why a command was refused."""

    code: str
    message: str


class ReplyMessage(msgspec.Struct, frozen=True):
    """What a command is answered, ``stream_detector.reply/1``."""

    schema: str
    transaction: str | int | None
    command: str
    ok: bool
    error: ErrorMessage | None
    result: Mapping[str, Any] | None


def timestamp(us: int) -> str:
    """Return µs since 1970 as RFC 3339 UTC.

    Example:
        >>> timestamp(1_767_225_600_123_456)
        '2026-01-01T00:00:00.123456Z'
    """
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def encode_name(name: str) -> str:
    """Return a name as one topic level: everything outside A-Za-z0-9_.- percent-encoded.

    Example:
        >>> encode_name("Kühlhaus 3/a~")
        'K%C3%BChlhaus%203%2Fa%7E'
    """
    return quote(name, safe="").replace("~", "%7E")


def alert_message(alert: AlertChanged, labels: tuple[str, str], processing_ms: float) -> AlertMessage:
    """Return an alert event as it is published."""
    prediction = 0 if alert.event == "clear" else 1
    return AlertMessage(
        schema=ALERT_SCHEMA,
        id=alert.id,
        seq=alert.seq,
        event=alert.event,
        kind=alert.kind,
        stream=alert.stream,
        device=alert.device,
        tags=dict(alert.tags),
        severity=alert.severity,
        score=alert.score,
        peak_score=alert.peak_score,
        raw_score=alert.raw_score,
        threshold=alert.threshold,
        confidence=alert.confidence,
        prediction=prediction,
        label=labels[prediction],
        started_at=timestamp(alert.started_at),
        updated_at=timestamp(alert.updated_at),
        ended_at=None if alert.ended_at is None else timestamp(alert.ended_at),
        received_at=timestamp(alert.received_at),
        processing_ms=round(processing_ms, 3),
        values=dict(alert.values),
        expected={
            name: ExpectedMessage(bound.value, bound.lower, bound.upper)
            for name, bound in alert.expected.items()
        },
        contributions=[ContributionMessage(part.channel, part.share) for part in alert.contributions],
        reason=alert.reason,
        model=ModelMessage(alert.model_name, alert.model_version, "live"),
        incident=None,
        acknowledged=alert.acknowledged,
        channels=list(alert.channels),
        ended_because=alert.ended_because,
    )


def state_message(change: DeviceStateChanged) -> StateMessage:
    """Return a device's state as it is published."""
    return StateMessage(
        schema=STATE_SCHEMA,
        stream=change.stream,
        device=change.device,
        tags=dict(change.tags),
        state=change.state,
        severity=change.severity,
        score=change.score,
        active_count=len(change.active),
        active=[
            ActiveMessage(
                alert.id, alert.kind, alert.severity, timestamp(alert.started_at), alert.acknowledged
            )
            for alert in change.active
        ],
        muted=False,
        updated_at=timestamp(change.updated_at),
    )


def reply_message(
    command: str,
    transaction: str | int | None,
    result: Mapping[str, Any] | None,
    error: tuple[str, str] | None,
) -> bytes:
    """Return what a command is answered, ``stream_detector.reply/1``; an error is a code and a sentence."""
    return msgspec.json.encode(
        ReplyMessage(
            schema=REPLY_SCHEMA,
            transaction=transaction,
            command=command,
            ok=error is None,
            error=None if error is None else ErrorMessage(*error),
            result=result,
        )
    )


class Publications:
    """Turns events into messages.

    Args:
        base: All topics stand below it.
        labels: The words for prediction 0 and 1, by stream.
    """

    def __init__(self, base: str, labels: Mapping[str, tuple[str, str]]) -> None:
        self._base = base
        self._labels = labels

    @property
    def status_topic(self) -> str:
        """Return the topic of `status`."""
        return f"{self._base}/status"

    def of(self, event: Event, now: int) -> Publication | None:
        """Return what an event is published as, None where it is not.

        Args:
            event: Of the core or the shell.
            now: Service clock, µs.
        """
        match event:
            case AlertChanged():
                spent = max(0, now - event.received_at) / 1000
                message = alert_message(event, self._labels[event.stream], spent)
                return Publication(
                    self._device_topic("alert", event.stream, event.device), msgspec.json.encode(message)
                )
            case DeviceStateChanged():
                topic = self._device_topic("state", event.stream, event.device)
                return Publication(topic, msgspec.json.encode(state_message(event)), retain=True)
            case DeviceForgotten():
                return Publication(self._device_topic("state", event.stream, event.device), b"", retain=True)
            case Rejected():
                return self._deadletter(event)
            case _:
                return None

    def status(self, word: str) -> Publication:
        """Return ``online`` or ``stopped``; the last will says ``offline``."""
        return Publication(self.status_topic, word.encode(), retain=True)

    def info(self, content: Mapping[str, Any]) -> Publication:
        """Return what the service says of itself, with the schema of its alerts."""
        schema = msgspec.json.schema(AlertMessage)
        payload = {"schema": INFO_SCHEMA, **content, "alert_schema": schema}
        return Publication(f"{self._base}/info", msgspec.json.encode(payload), retain=True)

    def score(self, stream: str, device: str, ts: int, score: float, model: ModelMessage) -> Publication:
        """Return a score, for streams that publish all of them; not retained, QoS 0."""
        payload = {
            "schema": SCORE_SCHEMA,
            "stream": stream,
            "device": device,
            "ts": timestamp(ts),
            "score": None if math.isnan(score) else score,
            "model": model,
        }
        return Publication(self._device_topic("score", stream, device), msgspec.json.encode(payload), qos=0)

    def _deadletter(self, event: Rejected) -> Publication:
        payload = {
            "schema": DEADLETTER_SCHEMA,
            "reason": event.reason,
            "message": event.message,
            "stream": event.stream or None,
            "topic": event.topic,
            "size": event.size,
            "sha256": event.sha256,
            "payload_head_base64": base64.b64encode(event.head).decode(),
            "received_at": timestamp(event.received_at),
        }
        return Publication(f"{self._base}/deadletter/{event.reason}", msgspec.json.encode(payload))

    def _device_topic(self, what: str, stream: str, device: str) -> str:
        return f"{self._base}/{what}/{encode_name(stream)}/{encode_name(device)}"
