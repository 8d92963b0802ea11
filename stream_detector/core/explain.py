"""Sentences for a person: why an alert stands, in one line and in the channel's own unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_detector.core.events import Contribution, Expected


def number(value: float) -> str:
    """Return a value with at most four significant digits, never in powers of ten.

    Example:
        >>> number(3.14159), number(41.50), number(1234567.8), number(0.000123456)
        ('3.142', '41.5', '1234568', '0.0001235')
    """
    if abs(value) >= 1000:  # noqa: PLR2004 - whole numbers have four digits from here on
        return f"{value:.0f}"
    text = f"{value:.4g}"
    if "e" in text:
        text = f"{value:.10f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def duration(us: float) -> str:
    """Return a time in the unit that a person would choose.

    Example:
        >>> duration(50_000), duration(12_400_000), duration(600_000_000), duration(90_000_000_000)
        ('50 ms', '12.4 s', '10 min', '25 h')
    """
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000)):
        if us >= 2 * size or (unit == "s" and us >= size):
            return f"{number(round(us / size, 1))} {unit}"
    return f"{us / 1000:.0f} ms"


def quantity(channel: str, value: float, unit: str) -> str:
    """Return ``vibration 9.7 mm/s``."""
    return f"{channel} {number(value)}{_unit(unit)}"


def unusual(top: Contribution, value: float, expected: Expected | None, unit: str) -> str:
    """Return why a model finds a reading anomalous, by its first channel."""
    share = f"{top.share:.0%}".replace("%", " %")
    what = quantity(top.channel, value, unit)
    if expected is None or expected.lower is None or expected.upper is None:
        return f"{what} is unlike anything seen before ({share} of the score)"
    usual = f"its expected {number(expected.lower)}–{number(expected.upper)}"  # noqa: RUF001
    if value > expected.upper:
        return f"{what} is above {usual} ({share} of the score)"
    if value < expected.lower:
        return f"{what} is below {usual} ({share} of the score)"
    return f"{what} is unusual although it lies in {usual} ({share} of the score)"


def out_of_range(channel: str, value: float, low: float | None, high: float | None, unit: str) -> str:
    """Return which configured limit a value breaks."""
    what = quantity(channel, value, unit)
    if low is not None and value < low:
        return f"{what} is below its limit {number(low)}{_unit(unit)}"
    return f"{what} is above its limit {number(high if high is not None else value)}{_unit(unit)}"


def stuck(channel: str, value: float, repeats: int, longest: int, unit: str) -> str:
    """Return how long a value has not moved."""
    return (
        f"{channel} has been exactly {number(value)}{_unit(unit)} for {repeats + 1} readings;"
        f" it never stayed the same for more than {longest + 1}"
    )


def silent(quiet: float, cadence: float) -> str:
    """Return how long a device has said nothing; both in µs."""
    return f"no reading for {duration(quiet)}; one came at least every {duration(cadence)} before"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
