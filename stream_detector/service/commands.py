"""What the service is asked, whoever asks: the commands, carried out once each.

A request is a value, and so is its reply: MQTT, HTTP and the command line make the one and deliver the
other. A request has a key; its reply is stored in the transaction that does what it asks, so a request
that comes again, delivered twice or asked twice, gets the reply it had and is not carried out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from stream_detector.core.events import AlertChanged, CommandAnswered, DeviceForgotten
from stream_detector.core.records import Acknowledged, Feedback, Forgotten
from stream_detector.outputs.messages import reply_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.service.decision import Decision
    from stream_detector.service.memory import Memory
    from stream_detector.service.processing import Processing
    from stream_detector.service.recovery import Recovery

NOT_YET = ("mute", "predict", "promote", "retrain", "rollback")
"""Commands of the contract that this version answers with an error."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Words = Annotated[str, msgspec.Meta(max_length=1000)]
AlertId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{24}$", max_length=24)]
LONGEST_REASON = 300
"""Letters of what the decoder says of a request that are repeated in a reply."""


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


@dataclass(frozen=True, slots=True)
class Request:
    """Something that the service is asked to do.

    Attributes:
        command: What; it need not be one that there is.
        body: A JSON object with the fields of that command's request, as bytes.
        at: Service clock, µs.
        key: What tells this request from others of the command; empty: it is not remembered.
        transaction: The name that the asker gave it, repeated in the reply.
    """

    command: str
    body: bytes
    at: int
    key: str = ""
    transaction: str | int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered.

    Attributes:
        payload: A `stream_detector.reply/1`.
        result: A word of `COMMAND_RESULTS`: ``ok``, ``repeated``, or the code of the error.
    """

    payload: bytes
    result: str


class RefusedError(Exception):
    """A request is refused; the code is a key of `ERRORS`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def known(command: str) -> bool:
    """Return whether a command is one of the contract."""
    return command in REQUESTS or command in NOT_YET


def refusal(request: Request, refused: RefusedError) -> Reply:
    """Return the reply to a request that is refused."""
    error = (refused.code, str(refused))
    return Reply(reply_message(request.command, request.transaction, None, error), refused.code)


class Commands:
    """Carries requests out.

    Args:
        memory: The devices that they are about.
        processing: Takes the records that they make.
        stored_reply: Returns the reply to an earlier request, by command, key and service clock (µs).
        recovery: Knows the devices that are only on disk.
        look_for_models: Lets new models be looked for; returns their names.
    """

    def __init__(
        self,
        memory: Memory,
        processing: Processing,
        *,
        stored_reply: Callable[[str, str, int], bytes | None],
        recovery: Recovery,
        look_for_models: Callable[[], list[str]],
    ) -> None:
        self._memory = memory
        self._processing = processing
        self._stored_reply = stored_reply
        self._recovery = recovery
        self._look_for_models = look_for_models
        self._handlers: Mapping[str, Callable[..., dict[str, Any]]] = {
            "ack": self._ack,
            "feedback": self._feedback,
            "forget": self._forget,
            "reload": self._reload,
        }

    def answer(self, decision: Decision, request: Request) -> Reply:
        """Carry a request out, unless it was answered before; the decision gets what follows.

        An error of the core is raised: then memory is worth nothing any more.
        """
        if request.key and (before := self._reply_before(decision, request)) is not None:
            reply = Reply(before, "repeated")
        else:
            try:
                result = self._carry_out(decision, request)
                payload = reply_message(request.command, request.transaction, result, None)
                reply = Reply(payload, "ok")
            except RefusedError as refused:
                reply = refusal(request, refused)
            if request.key:
                decision.replies[request.command, request.key] = request.at, reply.payload
        name = request.command if known(request.command) else "other"
        decision.events.append(CommandAnswered(name, reply.result))
        return reply

    def _reply_before(self, decision: Decision, request: Request) -> bytes | None:
        found = decision.replies.get((request.command, request.key))
        if found is not None:  # it came in the same read
            return found[1]
        return self._stored_reply(request.command, request.key, request.at)

    def _carry_out(self, decision: Decision, request: Request) -> dict[str, Any]:
        command = request.command
        if command in NOT_YET:
            raise RefusedError("not_supported", f"this version does not know the command '{command}' yet")
        if command not in REQUESTS:
            names = ", ".join(REQUESTS)
            raise RefusedError(
                "unknown_command", f"there is no command {ascii(command)[:80]}; there are: {names}"
            )
        try:
            fields = msgspec.json.decode(request.body, type=REQUESTS[command])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusedError("bad_request", f"{command}: {error}"[:LONGEST_REASON]) from None
        return self._handlers[command](decision, fields, request.at)

    # -- the commands -----------------------------------------------------------------------------

    def _ack(self, decision: Decision, request: AckRequest, at: int) -> dict[str, Any]:
        open_for = [
            (name, device)
            for name, stream in self._memory.streams.items()
            if (device := stream.device_of_alert(request.id)) is not None
        ]
        if not open_for:
            raise RefusedError("not_found", f"no open alert has the id {request.id}")
        name, device = open_for[0]
        by, comment = _one_line(request.by), _one_line(request.comment)
        before = len(decision.events)
        self._processing.record(decision, Acknowledged(at, name, device, request.id, by, comment))
        changed = [event for event in decision.events[before:] if isinstance(event, AlertChanged)]
        result = {"id": request.id, "stream": name, "device": device, "acknowledged_by": by}
        return {**result, "seq": changed[0].seq} if changed else {**result, "already": True}

    def _feedback(self, decision: Decision, request: FeedbackRequest, at: int) -> dict[str, Any]:
        by, comment = _one_line(request.by), _one_line(request.comment)
        self._processing.record(decision, Feedback(at, request.id, request.verdict, by, comment))
        return {"id": request.id, "verdict": request.verdict}

    def _forget(self, decision: Decision, request: ForgetRequest, at: int) -> dict[str, Any]:
        stream = self._memory.streams.get(request.stream)
        known = stream is not None and (
            request.device in stream.devices.slot_of or self._recovery.fetch(request.stream, request.device)
        )
        if not known:
            raise RefusedError("not_found", f"there is no device {request.stream}/{request.device}")
        before = len(decision.events)
        self._processing.record(decision, Forgotten(at, request.stream, request.device))
        self._recovery.forget(request.stream, request.device)
        gone = [event for event in decision.events[before:] if isinstance(event, DeviceForgotten)]
        return {"stream": request.stream, "device": request.device, "state": gone[0].state}

    def _reload(self, _decision: Decision, _request: ReloadRequest, _at: int) -> dict[str, Any]:
        return {"looking_for": self._look_for_models()}


def _one_line(text: str) -> str:
    """Return a text that is safe to be shown in a sentence."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
