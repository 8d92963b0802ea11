"""What the service is asked over MQTT: `{base}/cmd/{name}`, answered on `{base}/reply/{name}`.

A request names itself by a transaction. Its answer is written down together with what it does, so one
that comes again, delivered twice or asked twice, gets the answer it had and is not carried out again.
The answer itself is not kept until somebody has taken it: who misses it asks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from stream_detector.core.events import AlertChanged, CommandAnswered, DeviceForgotten
from stream_detector.core.records import Acknowledged, Feedback, Forgotten
from stream_detector.formats.intake import rejection
from stream_detector.mqtt.requests import response_to
from stream_detector.outputs.messages import Publication, reply_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.formats.intake import Oversized
    from stream_detector.mqtt.requests import ResponseTo
    from stream_detector.service.processing import Decision, Processing
    from stream_detector.service.recovery import Recovery

NOT_YET = ("mute", "predict", "promote", "retrain", "rollback")
"""Commands of the contract that this version answers with an error."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Words = Annotated[str, msgspec.Meta(max_length=1000)]
AlertId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{24}$", max_length=24)]
LONGEST_NAME, LONGEST_REASON = 64, 300
"""Letters of a command, and of what the decoder says of a request, that are repeated in an answer."""


class AckRequest(msgspec.Struct, frozen=True):
    """Say that a person has seen an open alert: it gets an event `ack`."""

    id: AlertId
    by: Words = ""
    comment: Words = ""


class FeedbackRequest(msgspec.Struct, frozen=True):
    """Say whether an alert was right; it is kept in the journal, for whoever trains or compares."""

    id: AlertId
    verdict: Literal["true_alert", "false_alert"]
    by: Words = ""
    comment: Words = ""


class ForgetRequest(msgspec.Struct, frozen=True):
    """Remove a device that is gone for good: its alerts end, and its retained messages are emptied."""

    stream: Name
    device: Name


class ReloadRequest(msgspec.Struct, frozen=True):
    """Look for new versions of the models now."""


REQUESTS: Mapping[str, type[msgspec.Struct]] = {
    "ack": AckRequest,
    "feedback": FeedbackRequest,
    "forget": ForgetRequest,
    "reload": ReloadRequest,
}
"""What each command takes beside its transaction."""

ERRORS = {
    "bad_request": "a field is missing or wrong; the message says which",
    "not_found": "there is no such open alert, or no such device",
    "not_supported": "this version does not know that command yet",
    "unknown_command": "there is no such command",
}
"""Codes of the errors in replies, and what they mean."""


class _Envelope(msgspec.Struct, frozen=True):
    transaction: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | int | None = None


_envelope = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it came.

    Attributes:
        topic: `{base}/cmd/...`.
        payload: Bytes, or their beginning.
        retained: The broker had kept it: nobody asks now.
        oversized: What the payload was, of which only the beginning was kept; None: it is all there.
        properties: Of MQTT 5, as bytes.
        arrival: Service clock, µs.
    """

    topic: str
    payload: bytes
    retained: bool
    oversized: Oversized | None
    properties: bytes
    arrival: int


class _RefusedError(Exception):
    """A request is refused; the code is a key of `ERRORS`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Commands:
    """Carries requests out and answers them.

    Args:
        base: All topics stand below it.
        processing: What most of them concern.
        answered: Returns what a command was answered, by its name, what tells its request from others, and
            the service clock, µs.
        recovery: Knows what is only on disk.
        look: Lets new models be looked for; returns their names.
    """

    def __init__(
        self,
        base: str,
        processing: Processing,
        *,
        answered: Callable[[str, str, int], bytes | None],
        recovery: Recovery,
        look: Callable[[], list[str]],
    ) -> None:
        self._base = base
        self._processing = processing
        self._answered = answered
        self._recovery = recovery
        self._look = look
        self._handlers: Mapping[str, Callable[..., dict[str, Any]]] = {
            "ack": self._ack,
            "feedback": self._feedback,
            "forget": self._forget,
            "reload": self._reload,
        }

    @property
    def filter(self) -> str:
        """Return the topics to listen to."""
        return f"{self._base}/cmd/+"

    def take(self, decision: Decision, message: Message) -> None:
        """Carry a request out, unless it was answered before, and answer it.

        An error of the core is raised: then memory is worth nothing any more, see `Processing.begin`.
        """
        command = message.topic.removeprefix(f"{self._base}/cmd/")[:LONGEST_NAME]
        name = command if command in REQUESTS or command in NOT_YET else "other"
        if message.retained:
            decision.events.append(CommandAnswered(name, "ignored"))
            return
        respond = self._response_to(message.properties)
        transaction: str | int | None = None
        said = ""
        try:
            transaction = self._transaction(message)
            if transaction is None and respond is None:
                raise _RefusedError(  # noqa: TRY301 - one way out for all
                    "bad_request", "a request needs a transaction, or a response topic (MQTT 5)"
                )
            said = _said(transaction, respond)
            if said and (reply := self._reply_before(decision, command, said, message.arrival)):
                decision.events.append(CommandAnswered(name, "repeated"))
                self._answer(decision, command, reply, respond)
                return
            result, error = self._carry_out(decision, command, message), None
        except _RefusedError as refused:
            if transaction is None and respond is None:
                self._refuse(decision, name, message, str(refused))
                return
            result, error = None, (refused.code, str(refused))
        reply = reply_message(command, transaction, result, error)
        if said:
            decision.replies[command, said] = message.arrival, reply
        decision.events.append(CommandAnswered(name, error[0] if error else "ok"))
        self._answer(decision, command, reply, respond)

    def _transaction(self, message: Message) -> str | int | None:
        if message.oversized:
            raise _RefusedError("bad_request", "the request is too large")
        try:
            return _envelope(message.payload).transaction
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _RefusedError(
                "bad_request", f"the request is no JSON object as it should be: {error}"[:LONGEST_REASON]
            ) from None

    def _response_to(self, properties: bytes) -> ResponseTo | None:
        """Return where an answer may go: not where we read ourselves, nor where a broker speaks."""
        found = response_to(properties) if properties else None
        if found is None or not found.topic.isprintable() or any(letter in found.topic for letter in "+#"):
            return None
        ours = found.topic.startswith(f"{self._base}/") and not found.topic.startswith(f"{self._base}/reply/")
        if ours or found.topic.startswith("$") or self._processing.settings.home_assistant.owns(found.topic):
            return None
        if self._processing.intake.stream_of(found.topic.encode()):
            return None
        return found

    def _reply_before(self, decision: Decision, command: str, said: str, now: int) -> bytes | None:
        if (found := decision.replies.get((command, said))) is not None:  # it came in the same read
            return found[1]
        return self._answered(command, said, now)

    def _carry_out(self, decision: Decision, command: str, message: Message) -> dict[str, Any]:
        if command in NOT_YET:
            raise _RefusedError("not_supported", f"this version does not know the command '{command}' yet")
        if command not in REQUESTS:
            known = ", ".join(REQUESTS)
            raise _RefusedError(
                "unknown_command", f"there is no command {ascii(command)[:80]}; there are: {known}"
            )
        try:
            request = msgspec.json.decode(message.payload, type=REQUESTS[command])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _RefusedError("bad_request", f"{command}: {error}"[:LONGEST_REASON]) from None
        return self._handlers[command](decision, request, message.arrival)

    def _answer(self, decision: Decision, command: str, reply: bytes, respond: ResponseTo | None) -> None:
        topic, correlation = respond or (f"{self._base}/reply/{command}", b"")
        if respond is None and not (command in REQUESTS or command in NOT_YET):
            topic = f"{self._base}/reply/unknown"  # what somebody invented is no topic of ours
        decision.publications.append(("", Publication(topic, reply, once=True, correlation=correlation)))

    def _refuse(self, decision: Decision, name: str, message: Message, why: str) -> None:
        decision.events.append(CommandAnswered(name, "dead_letter"))
        self._processing.refuse_command(
            decision,
            rejection("", "command", why, message.topic, message.payload, message.arrival, message.oversized),
        )

    # -- the commands -----------------------------------------------------------------------------

    def _ack(self, decision: Decision, request: AckRequest, at: int) -> dict[str, Any]:
        open_for = [
            (name, device)
            for name, stream in self._processing.pipeline.streams.items()
            if (device := stream.device_of_alert(request.id)) is not None
        ]
        if not open_for:
            raise _RefusedError("not_found", f"no open alert has the id {request.id}")
        name, device = open_for[0]
        by, comment = _one_line(request.by), _one_line(request.comment)
        before = len(decision.events)
        self._processing.record(decision, Acknowledged(at, name, device, request.id, by, comment))
        told = [event for event in decision.events[before:] if isinstance(event, AlertChanged)]
        result = {"id": request.id, "stream": name, "device": device, "acknowledged_by": by}
        return {**result, "seq": told[0].seq} if told else {**result, "already": True}

    def _feedback(self, decision: Decision, request: FeedbackRequest, at: int) -> dict[str, Any]:
        by, comment = _one_line(request.by), _one_line(request.comment)
        self._processing.record(decision, Feedback(at, request.id, request.verdict, by, comment))
        return {"id": request.id, "verdict": request.verdict}

    def _forget(self, decision: Decision, request: ForgetRequest, at: int) -> dict[str, Any]:
        stream = self._processing.pipeline.streams.get(request.stream)
        known = stream is not None and (
            request.device in stream.devices.slot_of or self._recovery.fetch(request.stream, request.device)
        )
        if not known:
            raise _RefusedError("not_found", f"there is no device {request.stream}/{request.device}")
        before = len(decision.events)
        self._processing.record(decision, Forgotten(at, request.stream, request.device))
        self._recovery.forget(request.stream, request.device)
        gone = [event for event in decision.events[before:] if isinstance(event, DeviceForgotten)]
        return {"stream": request.stream, "device": request.device, "state": gone[0].state}

    def _reload(self, _decision: Decision, _request: ReloadRequest, _at: int) -> dict[str, Any]:
        return {"looking_for": self._look()}


def _said(transaction: str | int | None, respond: ResponseTo | None) -> str:
    """Return what tells a request from others; empty where nothing does."""
    if transaction is not None:
        return f"transaction {transaction}"
    if respond is not None and respond.correlation:
        return f"correlation {respond.topic} {respond.correlation.hex()}"
    return ""


def _one_line(text: str) -> str:
    """Return a text that is safe to be shown in a sentence."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
