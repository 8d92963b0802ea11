"""What a broker may not carry as it is: odd names, large messages, retained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.mqtt.broker_check.finding import Finding, refused
from stream_detector.mqtt.broker_check.guest import PAUSE_S
from stream_detector.mqtt.broker_check.login import LEAST_PACKET
from stream_detector.mqtt.broker_check.permissions import CANARY, CANARY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.mqtt.broker_check.guest import Guest, Guests


def carrying(guests: Guests, speaker: Guest, name: str, canary: str) -> Iterator[Finding]:
    """Send what a broker may not carry as it is: a large message, and topics with odd names."""
    dotted = f"{canary}/a.b"
    with guests.enter(f"{name}-wild", [(f"{canary}/#", 1)]) as wild, guests.enter(f"{name}-odd") as odd:
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
            yield from large(guests, wild, name, f"{canary}/large")


def large(guests: Guests, wild: Guest, name: str, topic: str) -> Iterator[Finding]:
    """Send a message as large as an alert may be; a broker may cut who sends it, or swallow it."""
    with guests.enter(f"{name}-large") as guest:
        guest.until(lambda: guest.link.connected)
        (code,) = guest.publish([(topic, bytes(LEAST_PACKET))], wild)
        if code is not None and not refused(code):
            wild.until(lambda: wild.last(topic), timeout_s=CANARY_S)
    if not wild.last(topic):
        yield Finding(
            "warn",
            "limits",
            f"a message of {LEAST_PACKET} bytes does not get through, and alerts may be as large; let the"
            " broker take larger ones",
        )


def retaining(guests: Guests, speaker: Guest, name: str, canary: str) -> Iterator[Finding]:
    """Leave a retained message, and come late: with its own topic, and with a wildcard."""
    topic = f"{canary}/kept/1"
    speaker.publish([(topic, CANARY)], retain=True)
    exact, wild = (finds(guests, name, wanted, topic) for wanted in (topic, f"{canary}/kept/+"))
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
            f" to {guests.base}/state/# sees a device with its next change only; subscribe to each topic"
        )
        yield Finding("warn", "retained", problem)
    else:
        yield Finding("fact", "retained", "retained messages are kept for who comes later")


def finds(guests: Guests, name: str, wanted: str, topic: str) -> bool:
    """Return whether a new subscription brings a retained message."""
    with guests.enter(f"{name}-late", [(wanted, 1)]) as late:
        return late.until(lambda: late.last(topic), timeout_s=PAUSE_S)
