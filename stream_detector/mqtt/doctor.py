"""What `check` asks a broker: may we do what we shall do, and will it keep what it takes?

Everything is asked from sessions of our own, below `{base}/canary` where that is possible, so that a
running service is not disturbed. A broker hides much: it may grant a subscription and deliver nothing,
acknowledge a message and drop it, change a topic on its way. So messages are sent and waited for, and a
session leaves, misses many of them, and counts what comes when it is back.
"""

from __future__ import annotations

import re
import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Literal, cast

from .link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from stream_detector.formats.topics import TopicPattern

    from .settings import BrokerSettings

ANSWER_S = 10.0
CANARY_S = 5.0
TOLD_S = 1.0
"""What is retained, or queued for us, comes without a pause."""
MISSED = 1500
"""Messages that a session misses: more than Mosquitto keeps unless it is told to."""
OPEN = 150
"""Messages that a session leaves unacknowledged."""
MISSED_EXPIRY_S = 60
LEAST_OPEN = 100
"""Messages on their way to us: with fewer, the waiting for our disk adds up."""
LEAST_PACKET = 16_384
"""Bytes: what we publish about a device with many channels has some kB."""
DUP = 8
FAILURE = 0x80
"""Reason codes from here on are failures (MQTT 5, section 2.4)."""
NO_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87
VERSION = "$SYS/broker/version"
DROPPED = "$SYS/broker/publish/messages/dropped"
MOSQUITTO = re.compile(r"mosquitto version (\d+)\.(\d+)\.(\d+)")
MENDED = (2, 0, 22)
"""The first Mosquitto without the known ways to lose what it has acknowledged."""
CANARY = b'{"schema": "stream_detector.canary/1"}'


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`.

    Attributes:
        level: ``ok``; ``note``, to know; ``fact``, for who asks for all; ``warn``, it works, but;
            ``FAIL``, it does not.
        what: What was looked at, in a word.
        sentence: What was found, and what to do where it is not well.
    """

    level: Literal["ok", "note", "fact", "warn", "FAIL"]
    what: str
    sentence: str


class _Guest:
    """A connection of ours, what came on it, and what was answered.

    Args:
        link: Not connected yet.

    Attributes:
        heard: Topics and payloads, in order.
        marked: Payloads that the broker said it has sent before.
        silent: Whether nothing that comes is acknowledged.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard: list[tuple[str, bytes]] = []
        self.marked: set[bytes] = set()
        self.silent = False
        self._answers: dict[int, int] = {}  # packet id -> reason code

    def turn(self) -> None:
        """Take one turn of the connection."""
        received = self.link.poll(0.01)
        self._answers |= dict(self.link.confirmed())
        if received is not None:
            topics = (topic.decode(errors="replace") for topic in received.topics)
            self.heard += zip(topics, received.payloads, strict=True)
            flagged = zip(received.flags, received.payloads, strict=True)
            self.marked.update(payload for flags, payload in flagged if flags & DUP)
            if not self.silent:
                self.link.acknowledge(received)

    def until(self, done: Callable[[], object], *others: _Guest, timeout_s: float = ANSWER_S) -> bool:
        """Take turns until something holds, the broker refuses us, or it takes too long."""
        deadline = monotonic() + timeout_s
        while not done():
            for guest in (self, *others):
                guest.turn()
            if self.link.last_error or monotonic() > deadline:
                return bool(done())
        return True

    def last(self, topic: str) -> bytes | None:
        """Return what came last on a topic."""
        return next((payload for name, payload in reversed(self.heard) if name == topic), None)

    def more(self) -> bool:
        """Wait for further messages; return whether there are any."""
        before = len(self.heard)
        return self.until(lambda: len(self.heard) > before, timeout_s=TOLD_S)

    def publish(
        self, messages: Sequence[tuple[str, bytes]], *others: _Guest, retain: bool = False
    ) -> list[int | None]:
        """Publish at QoS 1, never more at once than the broker takes.

        Returns:
            Its answer to each: a reason code, 0 with 3.1.1; None where there is none.
        """
        codes: list[int | None] = []
        window = min(self.link.window, 500)
        for start in range(0, len(messages), window):
            if not self.link.connected:
                break
            sent = [
                self.link.publish(topic.encode(), payload, 1, retain=retain)
                for topic, payload in messages[start : start + window]
            ]
            self.until(lambda sent=sent: self._answers.keys() >= set(sent), *others)  # type: ignore[misc]
            codes += [self._answers.get(packet_id) for packet_id in sent]
        return codes + [None] * (len(messages) - len(codes))


@dataclass(frozen=True)
class Doctor:
    """Asks one broker.

    Args:
        broker: Where and how; not ``embedded://``.
        base: What the service publishes stands below this topic.
        streams: What it listens to, by the streams' names, each with its QoS.
        embedded: Whether it is the broker inside, which keeps nothing over a restart anyway.
    """

    broker: BrokerSettings
    base: str
    streams: Mapping[str, tuple[TopicPattern, int]]
    embedded: bool = False

    def examine(self) -> Iterator[Finding]:
        """Yield what is found, one after the other; without a login there is no more to find."""
        name = f"stream-detector-check-{secrets.token_hex(4)}"
        with self._guest(name, expiry_s=self.broker.session_expiry_s) as guest:
            if not guest.until(lambda: guest.link.connected, timeout_s=3 * self.broker.connect_timeout_s):
                yield Finding("FAIL", "broker", guest.link.problem or "the broker does not answer")
                return
            yield from self._login(guest)
            protocol = cast('Literal["5", "3.1.1"]', guest.link.protocol)
        # Which protocol it speaks is found out once: some brokers hang on the other.
        found = replace(self, broker=self.broker.model_copy(update={"protocol": protocol}))
        yield from found.visit(name)

    def visit(self, name: str) -> Iterator[Finding]:
        """Yield what is found in the protocol that the broker speaks.

        Args:
            name: Of the session that has just logged in.
        """
        self._erase(name)
        canary = f"{self.base}/canary/{name}"
        with ExitStack() as stack:
            listener = stack.enter_context(self._guest(f"{name}-listener", self._wanted(canary)))
            speaker = stack.enter_context(self._guest(f"{name}-speaker"))
            if not speaker.until(lambda: speaker.link.connected):
                yield Finding("FAIL", "broker", speaker.link.problem or "a second login is not answered")
                return
            granted = listener.until(lambda: listener.link.ready)
            if not self.embedded:
                yield from self._software(name)
            canary_lives = granted and (yield from self._round_trip(speaker, listener, canary))
            yield from self._writing(speaker, listener, name, granted=granted)
            yield from self._reading(listener, granted=granted)
            if canary_lives and not self.embedded:
                yield from self._hearing(speaker, canary)
                yield from self._carrying(speaker, name, canary)
                yield from self._retaining(speaker, name, canary)
                yield from self._keeping(speaker, name, f"{canary}-missed")

    @contextmanager
    def _guest(
        self, client_id: str, subscriptions: Sequence[tuple[str, int]] = (), *, expiry_s: int = 0
    ) -> Iterator[_Guest]:
        """Give a connection that ends with the block; with an expiry, its session does not."""
        link = Link(
            self.broker.model_copy(update={"session_expiry_s": expiry_s}),
            client_id=client_id,
            subscriptions=subscriptions,
            will=(f"{self.base}/canary/will", b""),
            clock=lambda: time_ns() // 1000,
        )
        try:
            yield _Guest(link)
        finally:
            link.close(1.0)

    def _erase(self, client_id: str) -> None:
        """Leave no session behind: a login that starts clean ends the one before."""
        with self._guest(client_id) as guest:
            guest.until(lambda: guest.link.connected)

    def _wanted(self, canary: str) -> list[tuple[str, int]]:
        """Return what the service listens to, and the canary."""
        own = [(f"{self.base}/{topic}", 1) for topic in ("info", "status")]
        streams = [(pattern.filter, qos) for pattern, qos in self.streams.values()]
        return [*own, *streams, (canary, 1)]

    # -- what is asked -------------------------------------------------------------------------------

    def _login(self, guest: _Guest) -> Iterator[Finding]:
        """Say what the broker grants with the login."""
        link, terms, wish = guest.link, guest.link.terms, self.broker.session_expiry_s
        note = f"; {link.protocol_note}" if link.protocol_note else ""
        yield Finding("ok", "broker", f"{self.broker.address} accepts the login, MQTT {link.protocol}{note}")
        if not wish:
            yield Finding(
                "note", "session", "broker.session_expiry_s is 0: what comes while we are away is lost"
            )
        if link.protocol != "5":
            yield Finding("fact", "limits", "MQTT 3.1.1 has no words for what a broker grants and limits")
            return
        granted = wish if terms.session_expiry_s is None else terms.session_expiry_s
        yield Finding("fact", "session", f"the broker keeps it for {granted} s while we are away")
        if granted < wish:
            yield Finding(
                "warn",
                "session",
                f"the broker keeps it for {granted} s, not for the {wish} s of broker.session_expiry_s; let"
                " it keep sessions for longer",
            )
        size = "any size" if terms.max_packet is None else f"up to {terms.max_packet} bytes"
        yield Finding(
            "fact",
            "limits",
            f"the broker takes packets of {size}, QoS up to {terms.max_qos} and"
            f" {terms.receive_maximum} messages before it answers",
        )
        if terms.max_packet is not None and terms.max_packet < LEAST_PACKET:
            yield Finding(
                "warn",
                "limits",
                f"the broker refuses packets above {terms.max_packet} bytes, and alerts may be larger; allow"
                f" {LEAST_PACKET}",
            )

    def _software(self, name: str) -> Iterator[Finding]:
        """Say which broker it is, and what it has dropped, where it tells; some hang up when asked."""
        with self._guest(f"{name}-reader", [(VERSION, 0), (DROPPED, 0)]) as reader:
            reader.until(lambda: reader.last(VERSION), timeout_s=TOLD_S)
        version = (reader.last(VERSION) or b"").decode(errors="replace")
        found = MOSQUITTO.fullmatch(version)
        if found and tuple(map(int, found.groups())) < MENDED:
            yield Finding(
                "warn",
                "software",
                f"{version} is older than {'.'.join(map(str, MENDED))}: such ones may send more at once than"
                " we allow, drop what they should queue, and not say who took a session over; update it",
            )
        elif version:
            yield Finding("fact", "software", version if version.isprintable() else ascii(version))
        else:
            yield Finding(
                "note",
                "software",
                f"the broker tells nothing of itself on {VERSION}: what it drops is not counted; let devices"
                " number their readings (seq), so that a gap is seen",
            )
        dropped = reader.last(DROPPED) or b"0"
        if dropped.isdigit() and int(dropped):
            yield Finding(
                "warn",
                "dropped",
                f"the broker has dropped {int(dropped)} messages since it started (some perhaps of an earlier"
                " check); its log names the clients, and Mosquitto's limit is max_queued_messages",
            )

    def _round_trip(self, speaker: _Guest, listener: _Guest, topic: str) -> Generator[Finding, None, bool]:
        """Publish a message and wait for it: a denied one looks like any other until it does not arrive.

        Returns:
            Whether it came.
        """
        (code,) = speaker.publish([(topic, CANARY)], listener)
        listener.until(lambda: listener.last(topic), speaker, timeout_s=0 if _refused(code) else CANARY_S)
        if listener.last(topic):
            yield Finding("ok", "canary", f"a message on {topic} came back")
            return True
        if _refused(code):
            problem = f"a message on {topic} is refused ({_words(code)}); allow writing {self.base}/#"
        else:
            problem = (
                f"a message on {topic} does not come back; allow writing {self.base}/# and reading"
                f" {self.base}/canary/#"
            )
        yield Finding("FAIL", "canary", problem)
        return False

    def _writing(self, speaker: _Guest, listener: _Guest, name: str, *, granted: bool) -> Iterator[Finding]:
        """Publish what nobody minds on each kind of topic that we write, and read the broker's answers."""
        if speaker.link.protocol != "5":
            yield Finding(
                "note",
                "publish",
                f"with MQTT 3.1.1 a publish that is denied looks delivered; allow writing {self.base}/#. So"
                " does an alert that nobody hears: let who needs alerts keep a session",
            )
            return
        topics = ("alert/canary/{}", "state/canary/{}", "deadletter/canary")
        messages = {f"{self.base}/{topic.format(name)}": CANARY for topic in topics}
        if granted:  # what the status is already, and not retained: nobody learns anything new
            messages[f"{self.base}/status"] = listener.last(f"{self.base}/status") or b"offline"
        codes = speaker.publish(list(messages.items()), listener)
        refused = {
            topic: code for topic, code in zip(messages, codes, strict=True) if code is None or _refused(code)
        }
        for topic, code in refused.items():
            yield Finding(
                "FAIL",
                "publish",
                f"a message on {topic} is refused ({_words(code)}); allow writing {self.base}/#",
            )
        if not refused:
            yield Finding("ok", "publish", f"{', '.join(messages)} may be written")

    def _reading(self, listener: _Guest, *, granted: bool) -> Iterator[Finding]:
        """Say whether the streams' topics may be read, and what was heard on them meanwhile."""
        if not granted:
            problem = listener.link.problem or "the broker does not answer the subscription"
            yield Finding("FAIL", "subscribe", problem)
            return
        for name, (pattern, _) in self.streams.items():
            heard = sum(pattern.match(topic) is not None for topic, _ in listener.heard)
            yield Finding(
                "ok", "subscribe", f"{pattern.filter} is granted to stream {name}; heard meanwhile: {heard}"
            )
        yield Finding(
            "fact",
            "subscribe",
            "a broker may grant what it then does not deliver; where devices send and nothing is heard, allow"
            " our login to read these topics",
        )

    def _hearing(self, speaker: _Guest, canary: str) -> Iterator[Finding]:
        """Ask whether the broker says when nobody has got a message; with 3.1.1 none does."""
        if speaker.link.protocol != "5":
            return
        (code,) = speaker.publish([(f"{canary}/unheard", CANARY)])
        if code == NO_SUBSCRIBERS:
            yield Finding("fact", "unheard", "the broker says when nobody listens; such alerts are kept")
        else:
            yield Finding(
                "note",
                "unheard",
                "the broker does not say when nobody listens (or somebody listens to everything): an alert"
                " that nobody hears looks delivered; let who needs alerts keep a session",
            )

    def _carrying(self, speaker: _Guest, name: str, canary: str) -> Iterator[Finding]:
        """Send what a broker may not carry as it is: a large message, and topics with odd names."""
        dotted = f"{canary}/a.b"
        with self._guest(f"{name}-wild", [(f"{canary}/#", 1)]) as wild, self._guest(f"{name}-odd") as odd:
            wild.until(lambda: wild.link.ready)
            odd.until(lambda: odd.link.connected)
            (code,) = speaker.publish([(dotted, CANARY)], wild)
            wild.until(lambda: wild.heard, timeout_s=CANARY_S)
            came = [topic for topic, _ in wild.heard]
            if came and dotted not in came:
                yield Finding(
                    "warn",
                    "names",
                    f"the broker changes topics: what is published on {dotted} arrives on {came[-1]!a}; give"
                    " devices names without dots",
                )
            (code,) = odd.publish([(f"{canary}/a b", CANARY)])
            if code is None:
                yield Finding(
                    "note",
                    "names",
                    "the broker hangs up on who publishes on a topic with a space; give devices other names",
                )
            limit = speaker.link.terms.max_packet
            if limit is None or limit >= LEAST_PACKET:
                yield from self._large(wild, name, f"{canary}/large")

    def _large(self, wild: _Guest, name: str, topic: str) -> Iterator[Finding]:
        """Send a message as large as an alert may be; a broker may cut who sends it, or swallow it."""
        with self._guest(f"{name}-large") as guest:
            guest.until(lambda: guest.link.connected)
            (code,) = guest.publish([(topic, bytes(LEAST_PACKET))], wild)
            if code is not None and not _refused(code):
                wild.until(lambda: wild.last(topic), timeout_s=CANARY_S)
        if not wild.last(topic):
            yield Finding(
                "warn",
                "limits",
                f"a message of {LEAST_PACKET} bytes does not get through, and alerts may be as large; let the"
                " broker take larger ones",
            )

    def _retaining(self, speaker: _Guest, name: str, canary: str) -> Iterator[Finding]:
        """Leave a retained message, and come late: with its own topic, and with a wildcard."""
        topic = f"{canary}/kept/1"
        speaker.publish([(topic, CANARY)], retain=True)
        exact, wild = (self._finds(name, wanted, topic) for wanted in (topic, f"{canary}/kept/+"))
        speaker.publish([(topic, b"")], retain=True)
        if not exact and not wild:
            problem = (
                "the broker keeps no retained messages: who connects later sees no status and no state until"
                " it changes; let it keep them"
            )
            yield Finding("warn", "retained", problem)
        elif not wild:
            problem = (
                "the broker gives retained messages only to subscriptions without wildcards: who subscribes"
                f" to {self.base}/state/# sees a device with its next change only; subscribe to each topic"
            )
            yield Finding("warn", "retained", problem)
        else:
            yield Finding("fact", "retained", "retained messages are kept for who comes later")

    def _finds(self, name: str, wanted: str, topic: str) -> bool:
        """Return whether a new subscription brings a retained message."""
        with self._guest(f"{name}-late", [(wanted, 1)]) as late:
            return late.until(lambda: late.last(topic), timeout_s=TOLD_S)

    def _keeping(self, speaker: _Guest, name: str, topic: str) -> Iterator[Finding]:
        """Let a session miss many messages, and see what it gets when it is back: twice, as after a crash."""
        yield Finding(
            "note",
            "persistence",
            "whether the broker keeps sessions over a crash of its own cannot be asked; docs/brokers.md has"
            " the settings and what each costs",
        )
        if not self.broker.session_expiry_s:
            return
        taken = self._leave(speaker, name, topic, MISSED)
        back = self._return(name, topic, MISSED)
        kept = len(set(back.heard))
        if not back.link.session_present:
            problem = (
                "the broker forgets us when we leave: what comes meanwhile is lost; let it keep sessions"
            )
            yield Finding("warn", "session", problem)
        elif kept < taken:
            yield Finding(
                "warn",
                "queue",
                f"of {taken} messages that it has acknowledged, the broker keeps {kept} for a session that is"
                " away, and drops the rest; set its max_queued_messages far above what comes while we are"
                " away (deploy/mosquitto)",
            )
        else:
            yield Finding(
                "ok", "queue", f"a session that was away got all {taken} messages that it had missed"
            )
        if back.link.session_present:
            self._leave(speaker, name, topic, OPEN)
            crashed = self._return(name, topic, OPEN, silent=True)
            yield from _sending(crashed, self._return(name, topic, len(set(crashed.heard))))
        self._erase(name)

    def _leave(self, speaker: _Guest, name: str, topic: str, count: int) -> int:
        """Let a session begin and leave, and publish what it misses; return how many were taken for it."""
        with self._guest(name, [(topic, 1)], expiry_s=MISSED_EXPIRY_S) as leaving:
            leaving.until(lambda: leaving.link.ready)
        codes = speaker.publish([(topic, b"%d" % number) for number in range(count)])
        return sum(code is not None and not _refused(code) for code in codes)

    def _return(self, name: str, topic: str, count: int, *, silent: bool = False) -> _Guest:
        """Come back to a session, take what comes without a pause, and leave; silent: acknowledge nothing."""
        with self._guest(name, [(topic, 1)], expiry_s=MISSED_EXPIRY_S) as guest:
            guest.silent = silent
            guest.until(lambda: guest.link.ready or guest.heard)  # some grant nothing while we owe an answer
            while guest.link.session_present and len(set(guest.heard)) < count and guest.more():
                pass
        return guest


def _sending(crashed: _Guest, back: _Guest) -> Iterator[Finding]:
    """Say how the broker sends what waits, and how it sends again what was not acknowledged.

    Args:
        crashed: Who came back to a session, and acknowledged nothing.
        back: Who came next.
    """
    count = len(set(crashed.heard))
    if count < LEAST_OPEN:
        yield Finding(
            "note",
            "window",
            f"the broker sends {count} messages, then waits until they are on our disk: a slow disk holds the"
            " stream back; let it send more at once (Mosquitto: max_inflight_messages, RabbitMQ:"
            " mqtt.prefetch)",
        )
    else:
        yield Finding(
            "fact", "window", f"the broker sends {count} messages, or more, before any is on our disk"
        )
    sent = {payload for _, payload in crashed.heard}
    if sent - {payload for _, payload in back.heard}:
        yield Finding(
            "warn",
            "again",
            "what was on its way when a connection broke comes again only after a while, behind newer"
            " readings, and then counts as late; let the broker send it again within a second (NATS:"
            " ack_wait)",
        )
    elif sent - back.marked:
        yield Finding(
            "note",
            "again",
            "the broker does not mark what it sends again: after a crash a reading without ts and seq may"
            " count twice; let devices send one of them",
        )
    else:
        yield Finding(
            "fact", "again", "the broker sends again at once what was not acknowledged, and says so"
        )


def _refused(code: int | None) -> bool:
    return code is not None and code >= FAILURE


def _words(code: int | None) -> str:
    """Return what the broker says of a publish."""
    if code is None:
        return "no answer"
    return "Not authorized" if code == NOT_AUTHORIZED else f"reason 0x{code:02X}"
