"""The judge says of hand-made alerts what a person would."""

from __future__ import annotations

from math import inf, isnan

import pytest

from benchmarks.quality import plant_report
from benchmarks.quality.judge import Fault, Judgement, Result, Watched, judge, summary
from benchmarks.quality.product import Alert

MINUTE = 60.0
BEGIN = 300 * MINUTE
START, END = 1000 * MINUTE, 1100 * MINUTE
SHIFT = Fault("pump-1", "shift", "flow", START, END)


def alert(*spans: tuple[float, float], **said: str) -> Alert:
    """Return an alert of pump-1 that was open in these spans."""
    told = {
        "device": "pump-1",
        "kind": "point",
        "severity": "warning",
        "channel": "flow",
        "reason": "",
        **said,
    }
    return Alert(**told, spans=[list(span) for span in spans])


def judged(fault: Fault, *alerts: Alert) -> tuple[Result, Judgement]:
    """Return what the judge says of the only fault, and of all."""
    found = judge("pump", Watched([fault], MINUTE, BEGIN, weeks=2.0), alerts)
    assert len(found.results) == 1
    return found.results[0], found


def test_an_alert_that_lasts_as_long_as_its_fault() -> None:
    """It is caught, covered but for the delay, named, and nothing is false."""
    result, all_of_it = judged(SHIFT, alert((START + 10 * MINUTE, END + 5 * MINUTE)))
    assert (result.caught, result.alerts, result.named) == (True, 1, True)
    assert result.covered == pytest.approx(0.9)
    assert result.delay == pytest.approx(10)
    assert summary(all_of_it)["false"] == 0


def test_an_alert_that_clears_while_the_fault_lasts() -> None:
    """It covers a tenth; one that comes again under its id is the same alert and covers what it adds."""
    result, _ = judged(SHIFT, alert((START, START + 10 * MINUTE)))
    assert result.covered == pytest.approx(0.1)
    again, _ = judged(SHIFT, alert((START, START + 10 * MINUTE), (END - 20 * MINUTE, END)))
    assert (again.alerts, again.covered) == (1, pytest.approx(0.3))


def test_two_alerts_at_once_cover_a_time_once() -> None:
    """So overlapping alerts of several channels do not add up to more than all."""
    both = alert((START, END)), alert((START + 30 * MINUTE, END + MINUTE), channel="power")
    result, _ = judged(SHIFT, *both)
    assert (result.alerts, result.covered) == (2, pytest.approx(1.0))


def test_an_alert_that_was_open_before_has_not_caught_the_fault() -> None:
    """It tells nobody anything new; and it is not false either, as it is open while something is wrong."""
    result, all_of_it = judged(SHIFT, alert((START - 50 * MINUTE, inf)))
    assert not result.caught
    assert isnan(result.delay)
    assert all_of_it.false == {"pump": []}


def test_an_alert_soon_after_counts_and_one_later_is_false() -> None:
    """A fault may be told up to 20 readings after its end: not 21."""
    soon, _ = judged(SHIFT, alert((END + 20 * MINUTE, END + 30 * MINUTE)))
    assert (soon.caught, soon.covered) == (True, 0.0)
    late, all_of_it = judged(SHIFT, alert((END + 21 * MINUTE, END + 30 * MINUTE)))
    assert not late.caught
    assert summary(all_of_it)["false"] == 0.5  # one in two weeks of a device


def test_another_device_explains_nothing() -> None:
    """An alert of a healthy device is false, whatever is wrong beside it; a critical one doubly so."""
    result, all_of_it = judged(SHIFT, alert((START, END), device="pump-4", severity="critical"))
    assert not result.caught
    assert summary(all_of_it)["critical_false"] == 0.5


def test_what_ended_while_learning_is_not_judged() -> None:
    """An alert in the first part of a series is neither right nor false, unless it is still open after it."""
    _, learning = judged(SHIFT, alert((BEGIN - 99 * MINUTE, BEGIN - MINUTE)))
    assert learning.false == {"pump": []}
    _, after = judged(SHIFT, alert((BEGIN - 99 * MINUTE, BEGIN + MINUTE)))
    assert len(after.false["pump"]) == 1


def test_the_channel_and_the_kind_are_those_of_the_first_alert() -> None:
    """What a later alert names does not mend what the first said."""
    wrong = alert((START, START + MINUTE), channel="power")
    right = alert((START + 2 * MINUTE, END))
    assert judged(SHIFT, right, wrong)[0].named is False
    stuck = Fault("pump-1", "stuck", "flow", START, END)
    assert judged(stuck, alert((START, END)))[0].kind_right is False
    assert judged(stuck, alert((START, END), kind="stuck"))[0].kind_right is True
    assert judged(SHIFT, alert((START, END)))[0].kind_right is None


def test_silence_is_told_later_and_has_no_channel() -> None:
    """It may come up to 40 readings after; and it cannot name a channel wrongly."""
    quiet = Fault("pump-1", "silence", "", START, END)
    result, _ = judged(quiet, alert((END + 40 * MINUTE, END + 41 * MINUTE), kind="silence", channel=""))
    assert (result.caught, result.kind_right, result.named) == (True, True, None)


@pytest.mark.parametrize(
    ("spans", "handled"),
    [
        ([], True),
        ([(0, 399)], True),
        ([(0, 401)], False),
        ([(0, inf)], False),
        ([(0, 10), (20, 30)], True),
        ([(0, 10), (20, 30), (40, 50)], False),
    ],
)
def test_a_change_for_good(spans: list[tuple[float, float]], *, handled: bool) -> None:
    """It may raise two alerts, over within 400 readings; what comes much later is its doing, too."""
    change = Fault("pump-1", "normal", "flow", START, START + 5000 * MINUTE)
    alerts = [alert((START + a * MINUTE, START + b * MINUTE)) for a, b in spans]
    result, all_of_it = judged(change, *alerts)
    assert result.handled is handled
    assert all_of_it.false == {"pump": []}


def test_the_report_says_what_was_missed_and_what_false_alerts_say() -> None:
    """One line for all alerts that differ in their numbers alone, so that a reason can be found."""
    reasons = [f"flow_2 {x} is above its expected 2 (60 % of the score)" for x in (3, -4.5, 1e-7)]
    false = [alert((START, END), device="pump-4", reason=reason) for reason in reasons]
    _, found = judged(SHIFT, *false)
    (line,) = plant_report.missed(found)
    assert line.split() == ["pump", "shift", "flow", "1", "of", "1", "missed"]
    _, line = plant_report.by_sentence(found)
    assert line.split(maxsplit=3) == ["1.500", "0.000", "100", "# is above its expected # (pump 3)"]


def test_the_summary_keeps_the_hard_faults_apart() -> None:
    """What is hard to see counts in its own figure; and the worst family is that with most false alerts."""
    found, _ = judged(SHIFT, alert((START, END)))
    noise = Fault("pump-1", "noise", "flow", START, END)
    missed, _ = judged(noise)
    false = {"pump": [alert((START, END))], "door": []}
    together = summary(Judgement([found, missed], false, {"pump": 2.0, "door": 2.0}))
    assert (together["caught"], together["hard_caught"]) == (1.0, 0.0)
    assert (together["false"], together["worst_family"]) == (0.25, 0.5)
