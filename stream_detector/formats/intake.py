"""From messages to batches: the loop over what arrived.

For each message it does three look-ups and one call; everything that a topic says is found out once and
remembered (`routing`), and what comes of it stands in `taken`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stream_detector.core.events import Rejected
from stream_detector.formats.columns import FUTURE
from stream_detector.formats.redeliveries import Redeliveries
from stream_detector.formats.refusals import RefusedError
from stream_detector.formats.routing import COMMAND, OWN, IntakeStream, Router
from stream_detector.formats.taken import Taken, Tally, rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream_detector.core.records import TopicState
    from stream_detector.formats.columns import Admission
    from stream_detector.formats.routing import Route
    from stream_detector.formats.settings import IntakeSettings
    from stream_detector.formats.taken import Oversized

MAX_PAYLOAD = 65_536
"""Bytes of a payload that are looked at."""
RETAIN, DUP = 1, 8


class Intake:
    """Decodes what arrives, for all streams.

    Args:
        streams: Settings by name.
        base: What the service publishes itself stands below this topic; it is never read.
        admission: Knows the devices.
        built_at: Build date, µs: no clock is believed to be before it.
        keep_deliveries: Messages without a time that are remembered, to know them when they come again.
        also_own: Whether another topic, too, is never read as telemetry.

    Attributes:
        deliveries: Of messages without a time.
        next_instant: Later than the time of every reading so far that brought none, µs.
    """

    def __init__(
        self,
        streams: Mapping[str, IntakeSettings],
        *,
        base: str,
        admission: Admission,
        built_at: int = 0,
        keep_deliveries: int = 4096,
        also_own: Callable[[str], bool] = lambda _topic: False,
    ) -> None:
        self._settings = streams
        self._admission = admission
        self._base = base
        self._also_own = also_own
        self._built_at = built_at
        self.deliveries = Redeliveries(keep_deliveries)
        self.next_instant = 0
        self.begin()

    def begin(self) -> None:
        """Forget all devices and topics; no instant is given out twice."""
        self._streams = {
            name: IntakeStream(name, settings, self._admission) for name, settings in self._settings.items()
        }
        self._router = Router(self._streams, self._base, self._also_own)

    def restore(self, states: Iterable[TopicState]) -> None:
        """Give the formats back what they remembered, before they get a message; see `Taken.states`."""
        kept: dict[str, list[TopicState]] = {}
        for state in states:
            kept.setdefault(state.stream, []).append(state)
        for name, stream in self._streams.items():
            if stream.keeps_state:
                stream.states.restore(kept.get(name, ()))

    @property
    def filters(self) -> list[str]:
        """Return the topic filter of each stream, in their order."""
        return [stream.pattern.filter for stream in self._streams.values()]

    def devices_with_other_captures(self) -> list[tuple[str, str]]:
        """Return (stream, device) of devices seen under different captures since the last call."""
        found = [
            (stream.name, device)
            for stream in self._streams.values()
            for device in stream.columns.other_captures
        ]
        for stream in self._streams.values():
            stream.columns.other_captures.clear()
        return found

    def reads(self, topic: str) -> bool:
        """Return whether what is published on a topic would come back to us, as telemetry or otherwise."""
        return self._also_own(topic) or bool(self.stream_of(topic.encode()))

    def stream_of(self, topic: bytes) -> str:
        """Return the name of the stream that a topic belongs to; empty for none."""
        found = self._router.look_up(topic)
        if isinstance(found, tuple):
            return found[0].name
        return found.stream if isinstance(found, Rejected) else ""

    def forget(self, stream: str, device: str) -> None:
        """Let go of what is known of a device; its next reading asks admission anew."""
        self._streams[stream].columns.forget(device)

    def take(  # noqa: C901, PLR0912, PLR0915 - the loop over messages; in parts it would cost a call each
        self,
        topics: Sequence[bytes],
        payloads: Sequence[bytes],
        flags: Sequence[int],
        arrival: int,
        oversized: Mapping[int, Oversized] | None = None,
        packet_ids: Sequence[int] | None = None,
        wall: int = 0,
    ) -> Taken:
        """Decode messages in arrival order.

        Args:
            topics: As they came.
            payloads: Likewise; only the beginning where `oversized` has the index.
            flags: Low nibble of the PUBLISH header; bit 0: retained, bit 3: delivered again.
            arrival: Service clock, µs; from there on each message, and each element of a list, gets an
                instant of its own, later than all before it: the event time where it brings none.
            oversized: Payloads that were not kept as a whole.
            packet_ids: Of the messages at QoS 1, 0 at QoS 0; None: all at QoS 0.
            wall: The machine's clock, µs, which may have been set right since the service clock began.
        """
        taken = Taken(tallies={stream.name: Tally() for stream in self._streams.values()})
        oversized = oversized or {}
        self._believe_until(max(arrival, self._built_at, wall) + FUTURE)
        instant = max(arrival, self.next_instant)
        router, known = self._router, self._router.known
        packet_ids = packet_ids or [0] * len(topics)
        for place, (topic, payload, packet_id) in enumerate(zip(topics, payloads, packet_ids, strict=True)):
            found = known.get(topic)
            if new := found is None:
                found = router.look_up(topic)
            if found == COMMAND:
                taken.commands.append(place)
                continue
            if not isinstance(found, tuple):
                if new and found != OWN:
                    router.remember(topic, found)
                self._turn_away(found, topic, payload, arrival, taken)
                continue
            stream, route = found
            tally = taken.tallies[stream.name]
            tally.received += 1
            if flags[place] & RETAIN and not stream.use_retained:
                tally.ignored["retained"] += 1
                continue
            again = False
            if packet_id and flags[place] & DUP:
                again = self.deliveries.known(packet_id, topic, payload)
            elif packet_id:
                self.deliveries.reused(packet_id)
            if stream.keeps_state and packet_id:
                if again:  # with what it changed since, the state may give it another meaning
                    tally.accepted += 1
                    continue
                self.deliveries.took(packet_id, topic, payload)
            before = len(stream.columns)
            try:
                if len(payload) > MAX_PAYLOAD or place in oversized:
                    raise _too_large(payload, oversized.get(place))  # noqa: TRY301 - one way out for all
                refused = stream.format.take(payload, route, instant, stream.columns)
            except RefusedError as error:
                stream.take_back(before)
                self._refuse(stream, route, error, payload, arrival, oversized.get(place), taken)
                continue
            except Exception as error:  # noqa: BLE001 - no message can stop the next one
                stream.take_back(before)
                unknown = RefusedError("internal_error", f"this should not happen: {type(error).__name__}")
                self._refuse(stream, route, unknown, payload, arrival, None, taken)
                continue
            if new:  # what is refused leaves nothing behind
                router.remember(topic, found)
            tally.accepted += 1
            if again:
                tally.duplicates += stream.columns.drop(before)
            elif stream.keeps_state:
                stream.states.accept(arrival)
            elif packet_id and stream.columns.untimed(before):
                self.deliveries.took(packet_id, topic, payload)
            instant += max(1, len(stream.columns) - before + len(refused))
            if refused:
                self._refuse_elements(stream, route, refused, payload, arrival, taken)
        self.next_instant = instant
        taken.states = [state for stream in self._streams.values() for state in stream.states.take()]
        batches = [stream.columns.take() for stream in self._streams.values()]
        taken.readings = [readings for readings in batches if readings is not None]
        return taken

    def _believe_until(self, latest: int) -> None:
        for stream in self._streams.values():
            stream.columns.latest = latest

    def _refuse(
        self,
        stream: IntakeStream,
        route: Route,
        error: RefusedError,
        payload: bytes,
        arrival: int,
        whole: Oversized | None,
        taken: Taken,
    ) -> None:
        taken.tallies[stream.name].rejected[error.reason] += 1
        taken.rejected.append(
            rejection(stream.name, error.reason, str(error), route.topic, payload, arrival, whole)
        )

    def _refuse_elements(
        self,
        stream: IntakeStream,
        route: Route,
        refused: list[tuple[int, RefusedError]],
        payload: bytes,
        arrival: int,
        taken: Taken,
    ) -> None:
        # Once for all: the payload's hash alone takes longer than checking an element.
        whole = rejection(stream.name, "", "", route.topic, payload, arrival, whole_message=False)
        for index, error in refused:
            taken.tallies[stream.name].refused_readings[error.reason] += 1
            message = f"element {index} of the list: {error}"
            taken.rejected.append(replace(whole, reason=error.reason, message=message))

    def _turn_away(
        self, why: Rejected | str, topic: bytes, payload: bytes, arrival: int, taken: Taken
    ) -> None:
        name = why.stream if isinstance(why, Rejected) else ""
        tally = taken.tallies.setdefault(name, Tally())
        tally.received += 1
        if isinstance(why, str):
            tally.ignored[why] += 1
            if why == OWN:
                taken.own.append((topic.decode(), payload))
            return
        tally.rejected[why.reason] += 1
        taken.rejected.append(rejection(name, why.reason, why.message, why.topic, payload, arrival))


def _too_large(payload: bytes, cut: Oversized | None) -> RefusedError:
    size = cut.size if cut else len(payload)
    return RefusedError(
        "too_large", f"the payload has {size} bytes, more than {MAX_PAYLOAD}; send smaller lists"
    )
