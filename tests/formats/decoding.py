"""Messages through the intake, without anything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream_detector.formats.intake import Intake
from stream_detector.formats.settings import IntakeSettings

if TYPE_CHECKING:
    from stream_detector.core.records import Readings
    from stream_detector.formats.taken import Taken, Tally

NOW = 1_770_000_000_000_000
"""Service clock of these tests: 2026-02-02T02:40:00Z, in µs."""
TOPIC = "plant/{site}/{device}"
PUMP = "plant/north/pump-1"


class Room:
    """Admission with room for so many devices, none of which was heard of before."""

    def __init__(self, devices: int = 100) -> None:
        self._left = devices

    def channels_of(self, _stream: str, _device: str) -> tuple[str, ...] | None:
        """Return what is known of a device: nothing."""
        return None

    def refusal(self, _stream: str, _joining: int) -> str | None:
        """Return why there is no room, where there is none."""
        self._left -= 1
        return "there is no room (max_devices)" if self._left < 0 else None


def intake(*, max_devices: int = 100, **settings: Any) -> Intake:
    """Return an intake with one stream, `pumps`."""
    streams = {"pumps": IntakeSettings.model_validate({"topic": TOPIC, **settings})}
    return Intake(streams, base="base", admission=Room(max_devices))


def take(
    *messages: bytes | tuple[str, bytes], into: Intake | None = None, flags: int = 0, **settings: Any
) -> Taken:
    """Take messages as one batch; where only a payload is given, it comes from the pump."""
    pairs = [(PUMP, message) if isinstance(message, bytes) else message for message in messages]
    return (into or intake(**settings)).take(
        [topic.encode() for topic, _ in pairs],
        [content for _, content in pairs],
        [flags] * len(pairs),
        NOW,
    )


def tally(taken: Taken) -> Tally:
    """Return how the messages of the stream ended."""
    return taken.tallies["pumps"]


def only(taken: Taken) -> Readings:
    """Return the readings, where nothing was refused."""
    assert not taken.rejected, taken.rejected
    (readings,) = taken.readings
    return readings


def rows(readings: Readings) -> list[tuple[str, dict[str, float]]]:
    """Return device and values of each reading."""
    offsets = readings.offsets()
    return [
        (
            device,
            dict(
                zip(
                    readings.columns[readings.shapes[i]],
                    readings.values[offsets[i] : offsets[i + 1]].tolist(),
                    strict=True,
                )
            ),
        )
        for i, device in enumerate(readings.devices)
    ]


def refusal(taken: Taken) -> tuple[str, str]:
    """Return reason and sentence, where one whole message came and was refused."""
    (rejected,) = taken.rejected
    counts = tally(taken)
    assert not taken.readings
    assert rejected.whole
    assert (counts.received, counts.accepted, dict(counts.rejected)) == (1, 0, {rejected.reason: 1})
    return rejected.reason, rejected.message
