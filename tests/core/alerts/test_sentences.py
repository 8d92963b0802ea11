# ruff: noqa: RUF001 - a band is written with an en dash
"""Sentences for a person, to be read by eye."""

from __future__ import annotations

import pytest

from stream_detector.core.alerts import sentences as explain
from stream_detector.core.events import Contribution, Expected

MINUTE = 60_000_000.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (9.7, "9.7"),
        (3.14159, "3.142"),
        (-12.3456, "-12.35"),
        (99.996, "100"),
        (1000.4, "1000"),
        (1234567.8, "1234568"),
        (0.000123456, "0.0001235"),
        (1e14, "100000000000000"),
        (1.7e308, "1.7e+308"),
        (3e-9, "3e-09"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Four digits are enough for a person; whole numbers keep all of theirs."""
    assert explain.number(value) == text


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (400.0, "0.4 ms"),
        (50_000.0, "50 ms"),
        (999_600.0, "1 s"),
        (12_400_000.0, "12.4 s"),
        (119.99 * 1e6, "120 s"),
        (10 * MINUTE, "10 min"),
        (25 * 60 * MINUTE, "25 h"),
        (30 * 24 * 60 * MINUTE, "30 d"),
    ],
)
def test_durations_are_in_a_fitting_unit(us: float, text: str) -> None:
    """Nobody divides 600 s by 60 in the head."""
    assert explain.duration(us) == text


@pytest.mark.parametrize(
    ("value", "expected", "unit", "sentence"),
    [
        (9.7, (1.2, 3.4), "mm/s", "vibration 9.7 mm/s is above its expected 1.2–3.4 (77 % of the score)"),
        (0.1, (1.2, 3.4), "mm/s", "vibration 0.1 mm/s is below its expected 1.2–3.4 (77 % of the score)"),
        (
            2.0,
            (1.2, 3.4),
            "",
            "vibration 2 is unusual although it lies in its expected 1.2–3.4 (77 % of the score)",
        ),
        (
            1013.25,
            (1013.1, 1013.2),
            "hPa",
            "vibration 1013.25 hPa is above its expected 1013.1–1013.2 (77 % of the score)",
        ),
        (5.5, (5.0, 5.0), "A", "vibration 5.5 A is above its expected 5 (77 % of the score)"),
        (9.7, None, "mm/s", "vibration 9.7 mm/s is unlike anything seen before (77 % of the score)"),
    ],
)
def test_unusual(value: float, expected: tuple[float, float] | None, unit: str, sentence: str) -> None:
    """What stood out, by how much, and what would have been usual."""
    band = None if expected is None else Expected(None, *expected)
    assert explain.unusual(Contribution("vibration", 0.77), value, band, unit) == sentence


@pytest.mark.parametrize(
    ("value", "low", "high", "sentence"),
    [
        (120.0, 0.0, 100.0, "flow 120 l/s is above its limit 100 l/s"),
        (-0.5, 0.0, 100.0, "flow -0.5 l/s is below its limit 0 l/s"),
        (101.0, None, 100.0, "flow 101 l/s is above its limit 100 l/s"),
        (-3.0, 0.0, None, "flow -3 l/s is below its limit 0 l/s"),
        (100.00001, 0.0, 100.0, "flow 100.00001 l/s is above its limit 100 l/s"),
    ],
)
def test_out_of_range(value: float, low: float | None, high: float | None, sentence: str) -> None:
    """Which limit, and that value and limit are not the same."""
    assert explain.out_of_range("flow", value, low, high, "l/s") == sentence


def test_stuck() -> None:
    """For how long, and what was usual."""
    assert explain.stuck("level", 3.25, repeats=30, usual=4, unit="m") == (
        "level has been exactly 3.25 m for 31 readings; more than 5 in a row is unusual"
    )


def test_silent() -> None:
    """For how long, and what was usual."""
    assert explain.silent(10 * MINUTE, 2_000_000) == (
        "no reading for 10 min; one came at least every 2 s before"
    )
