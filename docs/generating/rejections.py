"""Why a message is refused or passed over: each reason, what it means, and what to do.

A reason without a meaning here is an error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from generating import markdown
from stream_detector.core import events
from stream_detector.formats import columns, intake
from stream_detector.formats.names import MAX_NAME
from stream_detector.service.processing import DEADLETTER_BURST, DEADLETTERS_A_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AHEAD_MIN = columns.FUTURE // 60_000_000
REFUSED = {
    "channel_limit": (
        "The device would have more channels than `max_channels`, or sends ever other sets of channels.",
        "Declare the wanted ones under `channels`; others are then not looked at.",
    ),
    "channel_name": (
        f"A channel's name is empty, longer than {MAX_NAME} characters, or has control characters in it.",
        "Mend the sender, or give the channel a name with `map`.",
    ),
    "device_limit": (
        "There is no room for a device that was never heard of: `max_devices`, or `new_devices_per_minute`.",
        "Find out who invents names; if all are real, raise the setting that the sentence names.",
    ),
    "device_mismatch": (
        "The payload names another device than the topic.",
        "Leave `device_id` out of the payload, or do not capture `{device}` in `topic`.",
    ),
    "device_missing": (
        "Neither the topic nor the payload names the device.",
        "Capture `{device}` in `topic`, send `device_id`, or say with `map.device` where the name stands.",
    ),
    "device_name": (
        f"The name is no text, empty, longer than {MAX_NAME} characters, or has control characters in it.",
        "Mend the sender.",
    ),
    "empty": (
        "The payload is empty.",
        "Mend the sender; somebody may have emptied a retained message on this topic.",
    ),
    "encoding": (
        "The payload is not UTF-8.",
        "The sender speaks another format, or its text is of another encoding.",
    ),
    "internal_error": ("A fault of ours: no message should get so far.", "Please report the dead letter."),
    "malformed": (
        "The payload is no JSON, or no number where `format` is `scalar`.",
        "Look at the dead letter; perhaps the topic brings something else, then choose another pattern.",
    ),
    "no_values": (
        "There is nothing to score: no `values`, an empty list, or none of the declared channels.",
        "Compare the channels' names with `channels`, or say with `map.values` where the numbers stand.",
    ),
    "not_finite": (
        "A number is NaN, infinite, or too large to be finite.",
        "Let the sender leave the channel out instead.",
    ),
    "seq": ("`seq` is no whole number below 2^62.", "Mend the sender, or leave `seq` out."),
    "time_bounds": (
        f"The time is before the year 2000, or more than {AHEAD_MIN} minutes ahead of the service's clock.",
        "Set the device's clock, or send no `ts`: the arrival counts then.",
    ),
    "timestamp": (
        "The time is no RFC 3339 with a zone, and no number of seconds or milliseconds since 1970.",
        "Add the zone (`Z` or `+02:00`), or leave the time out.",
    ),
    "too_large": (
        f"The payload has more than {intake.MAX_PAYLOAD:,} bytes.",
        "Send smaller lists.",
    ),
    "topic": (
        "The topic is not UTF-8, or what it captures cannot be a name.",
        "Mend the sender.",
    ),
    "wrong_type": (
        "A value is no number: text, true/false, an object, a list.",
        "Mend the sender, set `coerce: true` for numbers in quotes and true/false, or choose with `map`.",
    ),
}
IGNORED = {
    "no_stream": (
        "The broker delivered it, but no stream's `topic` matches.",
        "Usually a subscription of an earlier configuration that ends by itself; else nothing to do.",
    ),
    "overload": (
        "It came at QoS 0 while too much waited for the disk or the broker.",
        "Send at QoS 1, which is held back instead; and mend what is slow.",
    ),
    "own_topic": ("The service publishes below `topics.base` and never reads that as telemetry.", "Nothing."),
    "retained": (
        "It was retained: old news, from before we subscribed.",
        "Nothing; or `retained: use` on the stream, where devices publish retained only.",
    ),
}


def make() -> str:
    """Return the page of reasons."""
    return markdown.page(
        [
            "# Why messages are refused",
            (
                "A refused message is counted in `stream_detector_messages_rejected_total{stream, reason}`,"
                " said in the log once a minute for each stream and reason, and published on"
                " `stream_detector/deadletter/{reason}` with a sentence and its first kilobyte:"
                f" {DEADLETTER_BURST:.0f} at once and {DEADLETTERS_A_SECOND:.0f} a second, further ones are"
                " counted in `stream_detector_deadletters_suppressed_total`. A refused element of a list is a"
                " dead letter of its own, counted in `stream_detector_readings_rejected_total`; the others of"
                " its list are taken."
            ),
            markdown.table(("reason", "meaning", "what to do"), _rows(REFUSED, events.REJECTIONS)),
            "## Passed over without being wrong",
            "Counted in `stream_detector_messages_ignored_total{stream, reason}`; there is no dead letter.",
            markdown.table(("reason", "meaning", "what to do"), _rows(IGNORED, events.IGNORED)),
        ]
    )


def _rows(meanings: Mapping[str, tuple[str, str]], reasons: Sequence[str]) -> list[tuple[str, str, str]]:
    strange = set(meanings) ^ set(reasons)
    if strange:
        sys.exit(f"docs/generating/rejections.py must name {', '.join(sorted(strange))} or not")
    return [(f"`{reason}`", *meanings[reason]) for reason in reasons]
