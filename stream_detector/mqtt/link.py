"""The life of the connection to the broker: connect, subscribe, read, acknowledge, and again, for ever.

Everything runs in the thread that calls `poll`; there is no other. `poll` never raises because of the
network: what is wrong stands in `problem` as one sentence. Each login is a new `epoch` with a new client
object, so nothing of a lost connection can leak into the next: a packet id means a message only within
its epoch.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from stream_detector.errors import BrokerError

from . import sentences
from .connection import Connection
from .dial import dial, new_client
from .frames import Received, puback_frames, publish_frame
from .reconnection import Reconnection
from .subscriptions import Subscriptions
from .terms import LAST_ID, Terms
from .waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .settings import BrokerSettings

DISCONNECT = b"\xe0\x00"
LONGEST_DIAL_S = 600.0  # names with many addresses, each tried for the connect timeout, behind a slow DNS
FIRST_OWN_ID = 1024  # packet ids below are paho's, for SUBSCRIBE and UNSUBSCRIBE
PACKET_TOO_LARGE = 0x95


class Link:
    """One session at one broker.

    Args:
        settings: Where and how.
        client_id: Name of the session; the broker keeps our messages under it while we are away.
        subscriptions: Filters and their QoS, 0 or 1.
        will: Topic and payload that the broker publishes (retained) when we vanish.
        clock: Service clock, µs; stamps what arrives.
        max_payload: Bytes; larger payloads are delivered as truncated.
        replayed: Filters whose retained messages are wanted at each login, not only where they are new.
        optional: Filters that we can do without: whether they are granted says nothing about being ready.
        formerly: Filters of an earlier configuration, which the broker's session may still hold.
        requests: How topics begin whose messages may ask for an answer.
        known: Whether we were at this broker before, so that it should have a session of ours.

    Attributes:
        epoch: Counts logins; 0 before the first.
        session_present: Whether the broker had kept our session until the login of this epoch.
        problem: One sentence on why we are not ready, or None.
        last_error: The last problem, kept after it is solved.
        clock: Service clock, µs.
        drained: Whether all subscriptions stand and the last poll left nothing in the socket.
        excused_until: Until then, monotonic, a poll that does not return is a slow dial, not a hang.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        client_id: str,
        subscriptions: Sequence[tuple[str, int]],
        will: tuple[str, bytes],
        clock: Callable[[], int],
        max_payload: int = 65_536,
        replayed: Collection[str] = (),
        optional: Collection[str] = (),
        formerly: Collection[str] = (),
        requests: bytes | None = None,
        known: bool = False,
    ) -> None:
        self.epoch = 0
        self.session_present = False
        self.excused_until = 0.0
        self.problem: str | None = sentences.not_asked(settings.address)
        self.last_error: str | None = None
        self.drained = False
        self._settings = settings
        self._broker = settings.address
        self._client_id = client_id
        self._subscriptions = Subscriptions(
            subscriptions, optional=optional, replayed=replayed, formerly=formerly
        )
        self._will = will
        self.clock = clock
        self._max_payload = max_payload
        self._requests = requests
        self._known = known
        self._connection: Connection | None = None
        self._reconnection = Reconnection(settings, client_id)
        self._next_id = FIRST_OWN_ID
        self._out: list[bytes] = []
        self._confirmed: list[tuple[int, int]] = []
        self._waiter = Waiter()

    @property
    def protocol(self) -> str:
        """Return ``5`` or ``3.1.1``: what is spoken, or tried next."""
        return self._reconnection.protocol

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted our login on the connection that is open."""
        connection = self._connection  # once: another thread may ask while it goes away
        return connection is not None and connection.logged_in_at is not None

    @property
    def ready(self) -> bool:
        """Whether we are logged in and every subscription is granted."""
        return self._connection is not None and self._subscriptions.granted

    @property
    def denied(self) -> set[str]:
        """Return the optional filters that the broker did not grant."""
        return self._subscriptions.denied

    @property
    def formerly(self) -> list[str]:
        """Filters that are not wanted any more and not yet given back; later starts must know of them."""
        return self._subscriptions.formerly

    @property
    def congested(self) -> bool:
        """Whether the broker takes what we write more slowly than we write it."""
        connection = self._connection
        return connection is not None and connection.client.want_write()

    @property
    def terms(self) -> Terms:
        """What the broker said with its answer to our login; what holds for all, while there is none."""
        connection = self._connection
        return Terms() if connection is None else connection.terms

    @property
    def window(self) -> int:
        """How many unconfirmed QoS 1 messages the broker takes from us."""
        return self.terms.receive_maximum

    @property
    def protocol_note(self) -> str | None:
        """What is lost, where the broker made us fall back to 3.1.1."""
        fell_back = self._settings.protocol == "auto" and self.protocol == "3.1.1" and self.connected
        return sentences.LOST_WITH_3_1_1 if fell_back else None

    @property
    def notes(self) -> list[str]:
        """What this login does not give us that we count on, a sentence each."""
        notes = [self.protocol_note] if self.protocol_note else []
        if not self.connected:
            return notes
        forgotten = not self.session_present and (self._known or self.epoch > 1)
        return notes + self.terms.session_notes(self._settings.session_expiry_s, forgotten=forgotten)

    def poll(self, timeout_s: float) -> Received | None:
        """Do what is due, wait for the broker, read once.

        Args:
            timeout_s: Wait at most this long, and at most a second; `wake` ends the wait.

        Returns:
            What one read brought; None where that is nothing.
        """
        connection = self._connection
        if connection is None:
            self._wait_and_dial(timeout_s)
            return None
        self.flush()
        readable, writable = self._waiter.wait(connection, timeout_s)
        if writable:
            connection.client.loop_write()
        received = self._read(connection) if readable else None
        self.drained = self._subscriptions.granted and (not readable or connection.client.emptied)
        self._look_after(connection)
        return received

    def wake(self) -> None:
        """End the wait of a `poll`; the one method that any thread may call."""
        self._waiter.wake()

    def acknowledge(self, received: Received) -> None:
        """Send the PUBACKs of a batch in order, unless they came on an earlier connection.

        After a reconnect the same packet ids may stand for other messages; what is not acknowledged
        comes again.
        """
        if self.connected and received.epoch == self.epoch and any(received.packet_ids):
            self._out.append(puback_frames(received.packet_ids))
            self.flush()

    def publish(
        self,
        topic: bytes,
        payload: bytes,
        qos: int,
        *,
        retain: bool,
        packet_id: int = 0,
        correlation: bytes = b"",
    ) -> int:
        """Hand a message over, to be written with the next `flush` or `poll`; only while connected.

        Args:
            topic: UTF-8, without wildcards.
            payload: Bytes.
            qos: 0 or 1.
            retain: Whether the broker keeps it for later subscribers.
            packet_id: The id of an earlier connection, where it was not confirmed there.
            correlation: Of the request that it answers.

        Returns:
            The packet id, which comes back from `confirmed`; 0 at QoS 0.
        """
        connection = cast("Connection", self._connection)
        dup = packet_id != 0
        if qos and not dup:
            packet_id = self._next_id
            self._next_id = packet_id + 1 if packet_id < LAST_ID else FIRST_OWN_ID
        frame = publish_frame(
            topic,
            payload,
            qos=qos,
            retain=retain,
            dup=dup,
            packet_id=packet_id,
            mqtt5=self.protocol == "5",
            correlation=correlation,
        )
        limit = connection.terms.max_packet
        if limit is not None and len(frame) > limit:
            # The broker would cut the connection, again after each reconnect.
            if qos:
                self._confirmed.append((packet_id, PACKET_TOO_LARGE))
        else:
            self._out.append(frame)
        return packet_id

    def confirmed(self) -> list[tuple[int, int]]:
        """Return packet id and reason code of each message answered since the last call; 3.1.1 says 0."""
        confirmed, self._confirmed = self._confirmed, []
        if self._connection is not None:
            confirmed += self._connection.client.confirmed
            self._connection.client.confirmed.clear()
        return confirmed

    def flush(self) -> None:
        """Write what `publish` and `acknowledge` have left, in one piece."""
        if self._out and self._connection is not None:
            self._connection.client.send(b"".join(self._out))
        self._out.clear()

    def close(self, deadline_s: float) -> None:
        """Say goodbye, so that no last will is sent, and wait until the broker has read it.

        Args:
            deadline_s: Give up after so many seconds; the broker then sends the last will.
        """
        until = monotonic() + deadline_s
        connection = self._connection
        if connection is not None and connection.logged_in_at is not None:
            self._out.append(DISCONNECT)
            self.flush()
            # Closing with unread bytes makes TCP discard what we wrote, so the broker closes, having read it.
            while connection.client.socket() is not None and monotonic() < until:
                readable, writable = self._waiter.wait(connection, until - monotonic())
                if writable:
                    connection.client.loop_write()
                if readable:
                    connection.client.loop_read()
                    connection.client.take()
        self._forget()
        self._waiter.close()

    def _wait_and_dial(self, timeout_s: float) -> None:
        """Open a connection, once the pause after the last one is over."""
        wait_s = self._reconnection.next_attempt - monotonic()
        if wait_s > 0:
            self._waiter.wait(None, min(timeout_s, wait_s))
            return
        mqtt5 = self.protocol == "5"
        self.excused_until = monotonic() + LONGEST_DIAL_S
        try:
            client = new_client(
                self._settings,
                client_id=self._client_id,
                mqtt5=mqtt5,
                will=self._will,
                max_payload=self._max_payload,
                requests=self._requests,
            )
            dial(client, self._settings, mqtt5=mqtt5)
        except BrokerError as error:
            self._reconnection.pause()
            self._say(str(error))
            return
        finally:
            self.excused_until = monotonic()
        self._connection = connection = Connection.opened(client, self._settings.keepalive_s, monotonic())
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        self._waiter.watch(connection)

    def _read(self, connection: Connection) -> Received | None:
        connection.client.loop_read()
        received = connection.client.take()
        connection.heard_at = monotonic()
        if received is not None:
            received.epoch = self.epoch
            received.arrival = self.clock()
        return received

    def _look_after(self, connection: Connection) -> None:
        """Subscribe after a login, ping, retry what was denied, and notice the end of the connection.

        Reading comes first: after a long stall of ours, the broker's answer is already in the socket.
        """
        now = monotonic()
        if connection.client.socket() is None:
            self._lost(connection)
        elif connection.logged_in_at is None:
            if now - connection.opened_at > self._settings.connect_timeout_s:
                self._lost(connection, sentences.no_answer(self._broker))
        elif not connection.ping(now):
            self._lost(connection, sentences.silent(self._broker, now - connection.heard_at))
        else:
            self._subscriptions.pursue(
                connection.client, mqtt5=self.protocol == "5", session_present=self.session_present
            )
            if self._reconnection.lasted(connection, now):
                self._settle()

    def _on_connect(
        self, _client: object, _userdata: object, flags: Any, reason: Any, properties: Any
    ) -> None:
        """Take the broker's answer to our login."""
        connection = self._connection
        if connection is None:
            return
        if reason.is_failure:
            connection.refused, connection.refused_code = str(reason), reason.value
            return
        self.epoch += 1
        self._reconnection.logged_in()
        self.session_present = bool(flags.session_present)
        connection.log_in(Terms.read(properties), monotonic())
        self._subscriptions.begin()
        self._settle()

    def _on_subscribe(
        self, _client: object, _userdata: object, packet_id: int, codes: Any, _properties: object
    ) -> None:
        """Take the broker's answer to our filters."""
        refused = self._subscriptions.answered(packet_id, codes)
        if refused is not None:
            self._say(sentences.subscription_refused(self._broker, *refused))
        self._settle()

    def _on_unsubscribe(
        self, _client: object, _userdata: object, _packet_id: int, codes: Any, _properties: object
    ) -> None:
        """Take the broker's answer to what we gave back."""
        self._subscriptions.returned(codes)

    def _settle(self) -> None:
        """Take stock after an answer: no problem is left, or one still is."""
        if self._subscriptions.granted and not self._reconnection.flapping:
            self.problem = None

    def _lost(self, connection: Connection, problem: str | None = None) -> None:
        """Close what is left of a connection.

        Args:
            connection: The one that ended.
            problem: Why, where we gave it up; else the broker did.
        """
        why = self._reconnection.after(connection, problem)
        self._forget()
        if why is not None:
            self._say(why)

    def _say(self, problem: str) -> None:
        self.problem = self.last_error = problem

    def _forget(self) -> None:
        """Drop the connection; what it has confirmed stays."""
        connection, self._connection = self._connection, None
        self._subscriptions.end()
        self.drained = False
        self._out.clear()
        if connection is None:
            return
        self._confirmed += connection.client.confirmed
        self._waiter.leave(connection)
        connection.client.drop()
