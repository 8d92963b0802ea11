"""The life of an alert, as pictures.

x anomalous, X twice as bad (critical), . normal; one reading a second.
R raised, U updated, C cleared, s held back by the policy, - nothing.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_detector.core.alerts.machine import alert_id, kept, step
from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.alerts.track import DEVICE, Alert, Holder, Judgement, Observation, Track
from tests.core.strategies import SECOND, START

NAME = ("pumps", "pump-1", "point")
SCORES = {".": 0.2, "x": 1.0, "y": 1.25, "z": 1.6, "X": 2.0}
LETTERS = {"raise": "R", "update": "U", "clear": "C", None: "-"}


def observe(i: int, *judgements: Judgement) -> Observation:
    """Return what reading i, one second after the one before, says."""
    at = START + i * SECOND
    return Observation(at=at, ts=at, identity=i, arrival=at, judgements=judgements)


def play(seen: str, policy: AlertPolicy) -> tuple[str, list[Alert], Track]:
    """Step through a picture; return the events as a picture, the alert after each, and the track."""
    track, out, alerts = Track(), "", []
    for i, letter in enumerate(seen):
        held_before = track.held_back
        stepped = step(track, observe(i, Judgement(DEVICE, SCORES[letter], letter != ".")), policy, NAME)
        event = stepped.event if stepped else None
        out += "s" if track.held_back and not held_before else LETTERS[event]
        if event is not None and track.alert is not None:
            alerts.append(replace(track.alert))
    return out, alerts, track


@pytest.mark.parametrize(
    ("seen", "happened"),
    [
        pytest.param("..xx...xx.", "----------", id="two in a row stay quiet"),
        pytest.param("..xxx.....", "----R--C--", id="third raises, third normal clears"),
        pytest.param("x.x.x.....", "----R--C--", id="three of five need not be in a row"),
        pytest.param("x..x..x...", "----------", id="three of seven are too few"),
        pytest.param("xxx..x..x...", "--R--------C", id="an anomaly starts the count to the end anew"),
        pytest.param("xxxxxxxxxx", "--R-------", id="a long one is one alert"),
        pytest.param("xxx...x.xx.", "--R--C---R-", id="a relapse has to be as bad as a beginning"),
        pytest.param("xxx...", "--R--C", id="the anomalies before the end raise nothing after it"),
    ],
)
def test_raise_at_3_of_5_clear_after_3(seen: str, happened: str) -> None:
    """An alert opens once and closes once, however noisy the scores."""
    policy = AlertPolicy(raise_n=3, raise_m=5, clear_after=3)
    assert play(seen, policy)[0] == happened


@pytest.mark.parametrize(
    ("seen", "happened"),
    [
        pytest.param(".x.x", "-RCR", id="each by itself"),
        pytest.param("xxxx.", "R---C", id="no second raise"),
    ],
)
def test_raise_at_once_clear_at_once(seen: str, happened: str) -> None:
    """With 1 of 1 and one normal reading to the end, every reading is a change."""
    assert play(seen, AlertPolicy(clear_after=1))[0] == happened


def test_started_at_is_the_first_anomaly() -> None:
    """The alert began with the first of the N, and its id comes from that reading alone."""
    events, alerts, _ = play("..x.xx", AlertPolicy(raise_n=3, raise_m=5))
    assert events == "-----R"
    assert alerts[0].started_at == START + 2 * SECOND
    assert alerts[0].id == alert_id(NAME, START + 2 * SECOND, 2)


@pytest.mark.parametrize(
    ("gap", "same"),
    [pytest.param(4, True, id="on the edge"), pytest.param(5, False, id="just over")],
)
def test_a_relapse_within_the_cooldown_is_the_same_alert(gap: int, *, same: bool) -> None:
    """The id and the start stay and seq goes on; after the cooldown it is a new alert."""
    policy = AlertPolicy(clear_after=1, cooldown=4 * SECOND)
    events, alerts, _ = play("X" + "." * gap + "x", policy)
    assert events == "RC" + "-" * (gap - 1) + "R"
    first, cleared, again = alerts
    assert (first.id == again.id) == same
    assert (first.started_at == again.started_at) == same
    assert [first.seq, cleared.seq, again.seq] == [1, 2, 3 if same else 1]
    assert again.ended_at is None
    assert again.severity == ("critical" if same else "warning")  # the highest of the whole life
    assert again.peak == (2.0 if same else 1.0)


def test_every_event_has_the_next_seq() -> None:
    """Consumers may throw away what is not greater than the last they saw."""
    policy = AlertPolicy(clear_after=2, cooldown=60 * SECOND, update_every=0)
    _, alerts, _ = play("xyzX..x..xX..", policy)
    assert [alert.seq for alert in alerts] == list(range(1, len(alerts) + 1))
    assert len({alert.id for alert in alerts}) == 1


@pytest.mark.parametrize(
    ("every", "seen", "happened"),
    [
        pytest.param(0, "xyyzzXX", "RU-U-U-", id="each growth by 25 % is told"),
        pytest.param(3, "xyyzzXX", "R--U--U", id="at most one in three seconds, then all at once"),
        pytest.param(3, "x.y.z.X", "R---U--", id="an update comes with an anomalous reading"),
        pytest.param(0, "Xxyz", "R---", id="what is less bad is not told"),
        pytest.param(60, "xXXXX.", "R-----", id="too soon"),
    ],
)
def test_updates(every: int, seen: str, happened: str) -> None:
    """An update says that it got worse: by 25 % or in severity, and not too often."""
    policy = AlertPolicy(update_every=every * SECOND)
    assert play(seen, policy)[0] == happened


def test_severity_alone_is_a_reason_to_update() -> None:
    """From just below critical to just critical is less than 25 %, and still told."""
    policy = AlertPolicy(update_every=0, critical_from=1.6)
    events, alerts, _ = play("yzz", replace(policy, critical_from=1.5))
    assert events == "RU-"
    assert [alert.severity for alert in alerts] == ["warning", "critical"]


def test_the_end_tells_the_worst() -> None:
    """What came too soon for an update stands in the end: peak and severity."""
    events, alerts, _ = play("xX.", AlertPolicy(clear_after=1))
    assert events == "R-C"
    assert (alerts[1].peak, alerts[1].severity) == (2.0, "critical")
    assert alerts[1].ended_at == START + 2 * SECOND


@pytest.mark.parametrize(
    ("seen", "happened"),
    [
        pytest.param("xxxx..", "s-----", id="said once while it lasts"),
        pytest.param("x..x..", "s--s--", id="said again the next time"),
        pytest.param("xxX...", "s-R--C", id="once it is bad enough it raises"),
    ],
)
def test_below_the_least_severity_nothing_is_raised(seen: str, happened: str) -> None:
    """The policy holds back what is not critical, and says so once."""
    policy = AlertPolicy(min_severity="critical", clear_after=3)
    assert play(seen, policy)[0] == happened


def test_the_worst_of_the_n_gives_the_severity() -> None:
    """The reading that makes it N need not be the worst."""
    _, alerts, _ = play("Xx", AlertPolicy(raise_n=2, raise_m=2, min_severity="critical"))
    assert (alerts[0].severity, alerts[0].peak) == ("critical", 2.0)


def test_nothing_is_kept_of_what_is_over() -> None:
    """A track without anomalies is idle, so that its device costs nothing."""
    policy = AlertPolicy(raise_n=2, raise_m=3, clear_after=2)
    assert not play("x.", policy)[2].idle
    assert play("x...", policy)[2].idle
    assert not play("xx.", policy)[2].idle
    assert play("xx..", policy)[2].idle


@pytest.mark.parametrize(
    ("name", "ts", "identity"),
    [
        (("pumps", "pump-2", "point"), START, 7),
        (("pumps", "pump-1", "range"), START, 7),
        (("fans", "pump-1", "point"), START, 7),
        (NAME, START + 1, 7),
        (NAME, START, 8),
    ],
)
def test_ids_differ(name: tuple[str, str, str], ts: int, identity: int) -> None:
    """Stream, device, kind, time and identity of the reading each make another alert."""
    assert alert_id(name, ts, identity) != alert_id(NAME, START, 7)
    assert len(alert_id(name, ts, identity)) == 24


@pytest.mark.parametrize(
    ("seen", "oldest", "remembered"),
    [
        pytest.param("...", 3, "", id="nothing happened"),
        pytest.param("..x...", 6, "", id="an anomaly long ago"),
        pytest.param("..x.", 4, "x", id="an anomaly that may count yet"),
        pytest.param("xx", 2, "xxa", id="an open alert"),
        pytest.param("xx..", 3 + 60, "a", id="ended, a relapse may come"),
        pytest.param("xx..", 3 + 61, "", id="ended, no relapse can come"),
        pytest.param("xx..x", 3 + 60, "xa", id="perhaps a relapse"),
        pytest.param("xx..x", 3 + 61, "xa", id="perhaps a relapse, which began in time"),
        pytest.param("xx.." + 61 * "." + "x", 65, "x", id="too late for a relapse"),
    ],
)
def test_only_what_can_change_an_event_is_kept(seen: str, oldest: int, remembered: str) -> None:
    """What is kept of a machine are its recent anomalies (x), and its alert (a) while it may reopen."""
    policy = AlertPolicy(raise_n=2, raise_m=3, clear_after=2, cooldown=60 * SECOND)
    track = play(seen, policy)[2]
    copied = kept(track, START + oldest * SECOND, policy)
    found = ""
    if copied is not None:
        found = "x" * sum(len(count.anomalous) for count in copied.counts.values())
        found += "a" * (copied.alert is not None)
    assert found == remembered


CHANNELS = [Holder("live", name) for name in "abc"]


def play_channels(
    policy: AlertPolicy, *seen: str, speaks: str = ""
) -> tuple[str, list[tuple[str, ...] | None], Track]:
    """Step through pictures, one a channel: as above, N accepted as the new normal, _ not carried.

    Returns:
        What happened; the channels that the alert named after each event; the track.
    """
    track, out, named = Track(), "", []
    for i, letters in enumerate(zip(*seen, strict=True)):
        judgements = [
            Judgement(holder, SCORES.get(letter, 0.2), letter in "xyzX", accepted=letter == "N")
            for holder, letter in zip(CHANNELS, letters, strict=False)
            if letter != "_"
        ]
        may_speak = not speaks or speaks[i] == "1"
        stepped = step(track, observe(i, *judgements), policy, NAME, may_speak=may_speak)
        out += LETTERS[stepped.event if stepped else None]
        if stepped and track.alert:
            named.append(track.alert.channels)
    return out, named, track


@pytest.mark.parametrize(
    ("a", "b", "happened", "named"),
    [
        pytest.param("x__x_.__x.__.", "_.._._.._.__.", "---R--------C", ["a", "a"], id="others do not count"),
        pytest.param("xx........", "_xx_......", "-RU--C----", ["a", "ab", "ab"], id="another one joins"),
        pytest.param("xx....", "xx....", "-R-C--", ["ab", "ab"], id="both from the first"),
        pytest.param("x.x.x.x.", ".x.x.x.x", "--------", [], id="two channels make no two of two"),
        pytest.param("xxxxxx..", "xx......", "-R-----C", ["ab", "ab"], id="open as long as one is"),
        pytest.param("xxxN....", "........", "-R-C----", ["a", "a"], id="accepted at once"),
        pytest.param("xxxN....", "xxxxx...", "-R----C-", ["ab", "ab"], id="only that channel leaves"),
    ],
)
def test_an_alert_is_held_by_channels(a: str, b: str, happened: str, named: list[str]) -> None:
    """Each joins by two of two of its own readings and leaves after two; the last one ends it."""
    policy = AlertPolicy(raise_n=2, raise_m=2, clear_after=2, update_every=0)
    found = play_channels(policy, a, b)
    assert found[0] == happened
    assert found[1] == [tuple(names) for names in named]


def test_the_end_says_why() -> None:
    """The last holder's reason is the alert's."""
    policy = AlertPolicy(clear_after=1)
    for letters, because in (("x.", "returned"), ("xN", "new_normal")):
        track, ended = Track(), None
        for i, letter in enumerate(letters):
            judgement = Judgement(CHANNELS[0], 1.0, letter == "x", accepted=letter == "N")
            stepped = step(track, observe(i, judgement), policy, NAME)
            ended = stepped.ended_because if stepped else None
        assert ended == because


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        pytest.param("x.x", "...", True, id="a relapse is the same alert"),
        pytest.param("x..", "..x", False, id="another channel is another alert"),
        pytest.param("x.x", "..x", True, id="a relapse that another one joins"),
    ],
)
def test_a_relapse_is_one_of_its_channels(a: str, b: str, *, same: bool) -> None:
    """Within the cooldown the alert opens again only for what has held it; else it is a new one."""
    policy = AlertPolicy(clear_after=1, cooldown=60 * SECOND)
    first = play_channels(policy, a[:1].replace("x", "X"), b[:1])[2].alert
    happened, _, track = play_channels(policy, a.replace("x", "X", 1), b)
    assert happened == "RCR"
    assert first
    assert track.alert
    assert (track.alert.id == first.id) == same
    assert (track.alert.severity, track.alert.seq) == (("critical", 3) if same else ("warning", 1))


def test_joining_is_told_once_the_interval_has_passed() -> None:
    """What joins too soon for an update is named by the next one."""
    policy = AlertPolicy(clear_after=2, update_every=3 * SECOND)
    happened, named, _ = play_channels(policy, "xxxxx", ".xxxx")
    assert happened == "R--U-"
    assert named == [("a",), ("a", "b")]


def test_a_storm_is_not_told() -> None:
    """While a device has said too much nothing is raised or cleared; afterwards the next reading does it."""
    policy = AlertPolicy(clear_after=1)
    assert play_channels(policy, "x.x.x..xx", speaks="111000111")[0] == "RCR---C" + "R-"
    assert play_channels(policy, "xxx", speaks="001")[0] == "--R"
    assert play_channels(policy, "xN...", speaks="10011")[0] == "R--C-"
