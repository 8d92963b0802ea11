"""Whether we may read and write what we shall.

A broker may grant a subscription and deliver nothing, or acknowledge a message and drop it. So messages
are sent and waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.mqtt.broker_check.finding import NO_SUBSCRIBERS, Finding, refused, words

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from stream_detector.formats.topics import TopicPattern
    from stream_detector.mqtt.broker_check.guest import Guest, Guests

CANARY = b'{"schema": "stream_detector.canary/1"}'
CANARY_S = 5.0


def round_trip(guests: Guests, speaker: Guest, listener: Guest, topic: str) -> Generator[Finding, None, bool]:
    """Publish a message and wait for it: a denied one looks like any other until it does not arrive.

    Returns:
        Whether it came.
    """
    (code,) = speaker.publish([(topic, CANARY)], listener)
    listener.until(lambda: listener.last(topic), speaker, timeout_s=0 if refused(code) else CANARY_S)
    if listener.last(topic):
        yield Finding("ok", "canary", f"a message on {topic} came back")
        return True
    if refused(code):
        problem = f"a message on {topic} is refused ({words(code)}); allow writing {guests.base}/#"
    else:
        problem = (
            f"a message on {topic} does not come back; allow writing {guests.base}/# and reading"
            f" {guests.base}/canary/#"
        )
    yield Finding("FAIL", "canary", problem)
    return False


def writing(
    guests: Guests, speaker: Guest, listener: Guest, name: str, *, granted: bool
) -> Iterator[Finding]:
    """Publish what nobody minds on each kind of topic that we write, and read the broker's answers."""
    if speaker.link.protocol != "5":
        yield Finding(
            "note",
            "publish",
            f"with MQTT 3.1.1 a publish that is denied looks delivered; allow writing {guests.base}/#. So"
            " does an alert that nobody hears: let who needs alerts keep a session",
        )
        return
    topics = ("alert/canary/{}", "state/canary/{}", "deadletter/canary")
    messages = {f"{guests.base}/{topic.format(name)}": CANARY for topic in topics}
    if granted:  # what the status is already, and not retained: nobody learns anything new
        messages[f"{guests.base}/status"] = listener.last(f"{guests.base}/status") or b"offline"
    codes = speaker.publish(list(messages.items()), listener)
    denied = {
        topic: code for topic, code in zip(messages, codes, strict=True) if code is None or refused(code)
    }
    for topic, code in denied.items():
        yield Finding(
            "FAIL",
            "publish",
            f"a message on {topic} is refused ({words(code)}); allow writing {guests.base}/#",
        )
    if not denied:
        yield Finding("ok", "publish", f"{', '.join(messages)} may be written")


def reading(
    listener: Guest, streams: Mapping[str, tuple[TopicPattern, int]], *, granted: bool
) -> Iterator[Finding]:
    """Say whether the streams' topics may be read, and what was heard on them meanwhile."""
    if not granted:
        problem = listener.link.problem or "the broker does not answer the subscription"
        yield Finding("FAIL", "subscribe", problem)
        return
    for name, (pattern, _) in streams.items():
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


def hearing(speaker: Guest, canary: str) -> Iterator[Finding]:
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
