"""Sentences for a person: why an alert stands, in one line and in the channel's own unit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stream_detector.core.devices.acceptance import LATELY
from stream_detector.core.events import Expected

SMALL, LARGE = 1e-6, 1e15


if TYPE_CHECKING:
    from stream_detector.core.events import Contribution


def acknowledged(by: str, comment: str) -> str:
    """Return who has seen an alert, and what they say.

    Example:
        >>> acknowledged("anna", "pump is being watched"), acknowledged("", "")
        ('acknowledged by anna: pump is being watched', 'acknowledged')
    """
    who = f"acknowledged by {by}" if by else "acknowledged"
    return f"{who}: {comment}" if comment else who


def number(value: float, digits: int = 4) -> str:
    """Return a value with so many significant digits, or all of a whole number.

    Powers of ten stand only where nobody would count the zeros.

    Example:
        >>> number(3.14159), number(41.50), number(1234567.8), number(0.000123456), number(1e300)
        ('3.142', '41.5', '1234568', '0.0001235', '1e+300')
    """
    if value == 0.0 or not SMALL <= abs(value) < LARGE:
        return f"{value + 0.0:.{digits}g}"  # + 0.0: there is no minus zero
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def numbers(*values: float, least: int = 4) -> tuple[str, ...]:
    """Return values with as many digits as it takes to tell them apart, at least so many.

    Example:
        >>> numbers(1013.25, 1013.1, 1013.2)
        ('1013.25', '1013.1', '1013.2')
    """
    for digits in range(least, 17):
        texts = tuple(number(value, digits) for value in values)
        if len(set(texts)) == len(set(values)):
            break
    return texts


def duration(us: float) -> str:
    """Return a time in the unit that a person would choose.

    Example:
        >>> duration(50_000), duration(12_400_000), duration(600_000_000), duration(90_000_000_000)
        ('50 ms', '12.4 s', '10 min', '25 h')
    """
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000)):
        if us >= 2 * size or (unit == "s" and us >= 0.9995 * size):
            return f"{number(round(us / size, 1))} {unit}"
    return f"{number(us / 1000, 3)} ms"


def unusual(top: Contribution, value: float, expected: Expected | None, unit: str) -> str:
    """Return why a model finds a reading anomalous, by its first channel."""
    share = f"{top.share:.0%}".replace("%", " %")
    if expected is None or expected.lower is None or expected.upper is None:
        what = f"{top.channel} {number(value)}{_unit(unit)}"
        return f"{what} is unlike anything seen before ({share} of the score)"
    this, lower, upper = numbers(value, expected.lower, expected.upper)
    usual = f"its expected {_range(lower, upper)}"
    if value > expected.upper:
        where = "above"
    elif value < expected.lower:
        where = "below"
    else:
        where = "unusual although it lies in"
    return f"{top.channel} {this}{_unit(unit)} is {where} {usual} ({share} of the score)"


def by_view(
    view: str, top: Contribution, value: float, seen: float, band: tuple[float, float], unit: str
) -> str:
    """Return why a channel is anomalous, by what was looked at.

    Args:
        view: `value`, or what else a detector looks at.
        top: The channel, and its share of the score.
        value: Of the channel.
        seen: What the view looked at: in the channel's unit; for `dwell` a number of readings.
        band: Where that was expected.
        unit: Of the channel.

    Example:
        >>> from stream_detector.core.events import Contribution
        >>> top = Contribution("power", 1.0)
        >>> by_view("dwell", top, 88.0, 90.0, (0.0, 40.4), "W")
        'power has stayed about 88 W for 90 readings; it usually moves on within 40 (100 % of the score)'
    """
    of_unit, share = _unit(unit), f"{top.share:.0%}".replace("%", " %")
    low, high = band
    if view == "hour":
        this, lower, upper = numbers(seen, low, high, least=3)
        what = f"{top.channel} has been about {this}{of_unit}; at this hour {_range(lower, upper)} is usual"
    elif view == "dwell":
        what = (
            f"{top.channel} has stayed about {number(value)}{of_unit} for {round(seen)} readings;"
            f" it usually moves on within {round(high)}"
        )
    elif view == "step":
        this, least = numbers(abs(seen), abs(high if seen > 0 else low), least=3)
        way = "rose" if seen > 0 else "fell"
        what = f"{top.channel} {way} by {this}{of_unit} at once, to {number(value)}; up to {least} is usual"
    elif view == "spread":
        this, lower, upper = numbers(seen, low, high, least=3)
        what = (
            f"{top.channel} moves by {this}{of_unit} from reading to reading; {_range(lower, upper)} is usual"
        )
    else:
        return unusual(top, value, Expected(None, low, high), unit)
    return f"{what} ({share} of the score)"


def out_of_range(channel: str, value: float, low: float | None, high: float | None, unit: str) -> str:
    """Return which configured limit a value breaks."""
    below = low is not None and value < low
    limit = low if below else high
    this, allowed = numbers(value, value if limit is None else limit)
    side = "below" if below else "above"
    return f"{channel} {this}{_unit(unit)} is {side} its limit {allowed}{_unit(unit)}"


def stuck(channel: str, value: float, repeats: int, usual: int, unit: str) -> str:
    """Return how long a value has not moved, and how long is usual."""
    return (
        f"{channel} has been exactly {number(value)}{_unit(unit)} for {repeats + 1} readings;"
        f" more than {usual + 1} in a row is unusual"
    )


def silent(quiet: float, cadence: float) -> str:
    """Return how long a device has said nothing; both in µs."""
    return f"no reading for {duration(quiet)}; one came at least every {duration(cadence)} before"


def not_judged(late: int, behind: float) -> str:
    """Return how many readings were late, and how much in µs."""
    return (
        f"{late} of its last {LATELY} readings came after newer ones, this one {duration(behind)} late:"
        " they are judged by their limits only"
    )


def _range(lower: str, upper: str) -> str:
    return lower if lower == upper else f"{lower}–{upper}"  # noqa: RUF001


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
