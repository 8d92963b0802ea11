"""Requests that come over MQTT: `{base}/cmd/{name}`, answered on `{base}/reply/{name}`.

A message becomes a `Request`, its `Reply` becomes a publication: on the reply topic of the command, or
where an MQTT 5 response topic wants it. A reply is published once: who misses it asks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from stream_detector.core.events import CommandAnswered
from stream_detector.formats.taken import rejection
from stream_detector.mqtt.requests import response_to
from stream_detector.outputs.messages import Publication
from stream_detector.service.commands import LONGEST_REASON, RefusedError, Request, known, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.formats.taken import Oversized
    from stream_detector.mqtt.requests import ResponseTo
    from stream_detector.service.commands import Commands
    from stream_detector.service.decision import Decision
    from stream_detector.service.processing import Processing

LONGEST_NAME = 64
"""Letters of a command that are repeated in a reply."""


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


class BrokerRequests:
    """Takes requests from the broker and publishes their replies.

    Args:
        base: All our topics stand below it.
        commands: Carries requests out.
        processing: Publishes the dead letter of a request that cannot be answered.
        reads: Returns whether we read a topic ourselves: no reply goes there, else we would feed ourselves.
    """

    def __init__(
        self, base: str, commands: Commands, processing: Processing, reads: Callable[[str], bool]
    ) -> None:
        self._base = base
        self._commands = commands
        self._processing = processing
        self._reads = reads

    @property
    def filter(self) -> str:
        """Return the topics to listen to."""
        return f"{self._base}/cmd/+"

    def take(self, decision: Decision, message: Message) -> None:
        """Let a request be carried out, and publish its reply.

        An error of the core is raised: then memory is worth nothing any more.
        """
        command = message.topic.removeprefix(f"{self._base}/cmd/")[:LONGEST_NAME]
        name = command if known(command) else "other"
        if message.retained:
            decision.events.append(CommandAnswered(name, "ignored"))
            return
        respond = self._response_to(message.properties)
        request = Request(command, message.payload, message.arrival)
        try:
            transaction = _transaction(message)
            if transaction is None and respond is None:
                raise RefusedError(  # noqa: TRY301 - one way out for all
                    "bad_request", "a request needs a transaction, or a response topic (MQTT 5)"
                )
        except RefusedError as refused:
            if respond is None:
                self._reject(decision, name, message, str(refused))
                return
            reply = refusal(request, refused)
            decision.events.append(CommandAnswered(name, reply.result))
        else:
            key = _key(transaction, respond)
            request = Request(command, message.payload, message.arrival, key, transaction)
            reply = self._commands.answer(decision, request)
        topic, correlation = respond or (f"{self._base}/reply/{command}", b"")
        if respond is None and not known(command):
            topic = f"{self._base}/reply/unknown"  # what somebody invented is no topic of ours
        decision.publications.append(
            ("", Publication(topic, reply.payload, once=True, correlation=correlation))
        )

    def _response_to(self, properties: bytes) -> ResponseTo | None:
        """Return where a reply may go: not where we read ourselves, nor where a broker speaks."""
        found = response_to(properties) if properties else None
        if found is None or not found.topic.isprintable() or any(letter in found.topic for letter in "+#"):
            return None
        ours = found.topic.startswith(f"{self._base}/") and not found.topic.startswith(f"{self._base}/reply/")
        if ours or found.topic.startswith("$") or self._reads(found.topic):
            return None
        return found

    def _reject(self, decision: Decision, name: str, message: Message, why: str) -> None:
        """Publish a dead letter for a request that nobody can be answered; it is no telemetry."""
        decision.events.append(CommandAnswered(name, "dead_letter"))
        self._processing.events(
            decision,
            [
                rejection(
                    "", "command", why, message.topic, message.payload, message.arrival, message.oversized
                )
            ],
        )


def _transaction(message: Message) -> str | int | None:
    """Return the transaction that a request names.

    Raises:
        RefusedError: The request is no JSON object, or too large.
    """
    if message.oversized:
        raise RefusedError("bad_request", "the request is too large")
    try:
        return _envelope(message.payload).transaction
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(
            "bad_request", f"the request is no JSON object as it should be: {error}"[:LONGEST_REASON]
        ) from None


def _key(transaction: str | int | None, respond: ResponseTo | None) -> str:
    """Return what tells a request from others; empty where nothing does."""
    if transaction is not None:
        return f"transaction {transaction}"
    if respond is not None and respond.correlation:
        return f"correlation {respond.topic} {respond.correlation.hex()}"
    return ""
