"""What `check` asks a broker: may we do what we shall do, and will it keep what it takes?

Everything is asked from sessions of our own, below `{base}/canary` where that is possible, so that a
running service is not disturbed. A broker hides two things: it may grant a subscription and deliver
nothing, and it may acknowledge a message and drop it. So a message is sent and waited for, and a session
leaves, misses many messages, and counts what comes when it is back.
"""

from __future__ import annotations

import re
import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Literal

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
MISSED_EXPIRY_S = 60
LEAST_PACKET = 16_384
"""Bytes: what we publish about a device with many channels has some kB."""
FAILURE = 0x80
"""Reason codes from here on are failures (MQTT 5, section 2.4)."""
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
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard: list[tuple[str, bytes]] = []
        self._answers: dict[int, int] = {}  # packet id -> reason code

    def turn(self) -> None:
        """Take one turn of the connection."""
        received = self.link.poll(0.01)
        self._answers |= dict(self.link.confirmed())
        if received is not None:
            topics = (topic.decode(errors="replace") for topic in received.topics)
            self.heard += zip(topics, received.payloads, strict=True)
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

    def publish(self, messages: Sequence[tuple[str, bytes]], *others: _Guest) -> list[int | None]:
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
                self.link.publish(topic.encode(), payload, 1, retain=False)
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
            if not guest.until(lambda: guest.link.connected):
                yield Finding("FAIL", "broker", guest.link.problem or "the broker does not answer")
                return
            yield from self._login(guest)
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
                yield from self._software(listener)
            canary_lives = granted and (yield from self._round_trip(speaker, listener, canary))
            yield from self._writing(speaker, listener, name, granted=granted)
            yield from self._reading(listener, granted=granted)
            if canary_lives and not self.embedded:
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
            optional=(DROPPED, VERSION),
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
        """Return what the service listens to, the canary, and what the broker tells of itself."""
        own = [(f"{self.base}/{topic}", 1) for topic in ("info", "status")]
        streams = [(pattern.filter, qos) for pattern, qos in self.streams.values()]
        told = [] if self.embedded else [(DROPPED, 0), (VERSION, 0)]
        return [*own, *streams, (canary, 1), *told]

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

    def _software(self, listener: _Guest) -> Iterator[Finding]:
        """Say which broker it is, and what it has dropped, where it tells."""
        listener.until(lambda: listener.last(VERSION), timeout_s=TOLD_S)
        version = (listener.last(VERSION) or b"").decode(errors="replace")
        found = MOSQUITTO.fullmatch(version)
        if found and tuple(map(int, found.groups())) < MENDED:
            yield Finding(
                "warn",
                "software",
                f"{version} is older than {'.'.join(map(str, MENDED))}: such ones may send more at once than"
                " we allow, drop what they should queue, and not say who took a session over; update it",
            )
        else:
            said = version if version.isprintable() else ascii(version)
            yield Finding("fact", "software", said or f"the broker does not tell its version on {VERSION}")
        dropped = listener.last(DROPPED) or b"0"
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
                f"with MQTT 3.1.1 a publish that is denied looks delivered; allow writing {self.base}/#",
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

    def _keeping(self, speaker: _Guest, name: str, topic: str) -> Iterator[Finding]:
        """Let a session miss many messages, and count what it gets when it is back."""
        yield Finding(
            "note",
            "persistence",
            "whether the broker keeps sessions over a crash of its own cannot be asked; deploy/mosquitto has"
            " the settings and what each costs",
        )
        if not self.broker.session_expiry_s:
            return
        filters = [(topic, 1)]
        with self._guest(name, filters, expiry_s=MISSED_EXPIRY_S) as leaving:
            leaving.until(lambda: leaving.link.ready)
        codes = speaker.publish([(topic, b"%d" % number) for number in range(MISSED)])
        with self._guest(name, filters, expiry_s=MISSED_EXPIRY_S) as back:
            back.until(lambda: back.link.ready)
            kept = back.link.session_present
            while kept and len(back.heard) < MISSED and back.more():
                pass
        self._erase(name)
        taken = sum(code is not None and not _refused(code) for code in codes)
        if not kept:
            problem = (
                "the broker forgets us when we leave: what comes meanwhile is lost; let it keep sessions"
            )
            yield Finding("warn", "session", problem)
        elif len(back.heard) < taken:
            yield Finding(
                "warn",
                "queue",
                f"of {taken} messages that it has acknowledged, the broker keeps {len(back.heard)} for a"
                " session that is away, and drops the rest; set its max_queued_messages far above what comes"
                " while we are away (deploy/mosquitto)",
            )
        else:
            yield Finding(
                "ok", "queue", f"a session that was away got all {taken} messages that it had missed"
            )


def _refused(code: int | None) -> bool:
    return code is not None and code >= FAILURE


def _words(code: int | None) -> str:
    """Return what the broker says of a publish."""
    if code is None:
        return "no answer"
    return "Not authorized" if code == NOT_AUTHORIZED else f"reason 0x{code:02X}"
