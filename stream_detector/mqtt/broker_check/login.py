"""What the broker grants with the login, and which broker it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stream_detector.mqtt.broker_check.finding import Finding
from stream_detector.mqtt.broker_check.guest import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.mqtt.broker_check.guest import Guest, Guests

VERSION = "$SYS/broker/version"
DROPPED = "$SYS/broker/publish/messages/dropped"
MOSQUITTO = re.compile(r"mosquitto version (\d+)\.(\d+)\.(\d+)")
MENDED = (2, 0, 22)
"""The first Mosquitto without the known ways to lose what it has acknowledged."""
LEAST_PACKET = 16_384
"""Bytes: what we publish about a device with many channels has some kB."""


def login(guests: Guests, guest: Guest) -> Iterator[Finding]:
    """Say what the broker grants with the login."""
    link, terms, wish = guest.link, guest.link.terms, guests.broker.session_expiry_s
    note = f"; {link.protocol_note}" if link.protocol_note else ""
    yield Finding("ok", "broker", f"{guests.broker.address} accepts the login, MQTT {link.protocol}{note}")
    if not wish:
        yield Finding("note", "session", "broker.session_expiry_s is 0: what comes while we are away is lost")
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


def software(guests: Guests, name: str) -> Iterator[Finding]:
    """Say which broker it is, and what it has dropped, where it tells; some hang up when asked."""
    with guests.enter(f"{name}-reader", [(VERSION, 0), (DROPPED, 0)]) as reader:
        reader.until(lambda: reader.last(VERSION), timeout_s=PAUSE_S)
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
