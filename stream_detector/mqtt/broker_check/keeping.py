"""What a broker keeps for a session that is away, and how it sends it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.mqtt.broker_check.finding import Finding, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.mqtt.broker_check.guest import Guest, Guests

MISSED = 1500
"""Messages that a session misses: more than Mosquitto keeps unless it is configured to."""
OPEN = 150
"""Messages that a session leaves unacknowledged."""
MISSED_EXPIRY_S = 60
LEAST_OPEN = 100
"""Messages on their way to us: with fewer, the waiting for our disk adds up."""


def keeping(guests: Guests, speaker: Guest, name: str, topic: str) -> Iterator[Finding]:
    """Let a session miss many messages, and see what it gets when it is back: twice, as after a crash."""
    yield Finding(
        "note",
        "persistence",
        "whether the broker keeps sessions over a crash of its own cannot be asked; docs/brokers.md has"
        " the settings and what each costs",
    )
    if not guests.broker.session_expiry_s:
        return
    taken = _leave(guests, speaker, name, topic, MISSED)
    back = _come_back(guests, name, topic, MISSED)
    kept = len(set(back.heard))
    if not back.link.session_present:
        problem = "the broker forgets us when we leave: what comes meanwhile is lost; let it keep sessions"
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
        yield Finding("ok", "queue", f"a session that was away got all {taken} messages that it had missed")
    if back.link.session_present:
        _leave(guests, speaker, name, topic, OPEN)
        crashed = _come_back(guests, name, topic, OPEN, silent=True)
        yield from _sending(crashed, _come_back(guests, name, topic, len(set(crashed.heard))))
    guests.erase(name)


def _leave(guests: Guests, speaker: Guest, name: str, topic: str, count: int) -> int:
    """Let a session begin and leave, and publish what it misses; return how many were taken for it."""
    with guests.enter(name, [(topic, 1)], expiry_s=MISSED_EXPIRY_S) as leaving:
        leaving.until(lambda: leaving.link.ready)
    codes = speaker.publish([(topic, b"%d" % number) for number in range(count)])
    return sum(code is not None and not refused(code) for code in codes)


def _come_back(guests: Guests, name: str, topic: str, count: int, *, silent: bool = False) -> Guest:
    """Come back to a session, take what comes without a pause, and leave; silent: acknowledge nothing."""
    with guests.enter(name, [(topic, 1)], expiry_s=MISSED_EXPIRY_S) as guest:
        guest.silent = silent
        guest.until(lambda: guest.link.ready or guest.heard)  # some grant nothing while we owe an answer
        while guest.link.session_present and len(set(guest.heard)) < count and guest.more():
            pass
    return guest


def _sending(crashed: Guest, back: Guest) -> Iterator[Finding]:
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
