"""The life of an alert: raised after N of M anomalous readings, cleared after K normal ones.

    reading    . . x x x . x . . . . .        x anomalous, . normal
    3 of 5             R                      raised; started_at is the first x
    clear 4                        C          the fourth normal reading in a row

Each (device, kind) has at most one open alert. It is held by channels, or by the device as a whole where a
detector judges it so: each is judged by the readings that carry it, joins by N of M and leaves after K, and
the alert is cleared when none holds it any more. A relapse of one of its holders within the cooldown opens
the same alert again, under the same id; what others do afterwards is a new one.

Nothing is kept for a device without anomalies. What is kept is only what can still change an event, so that a
device restored from disk is the same as one that never left.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from stream_detector.core.alerts.track import Alert, Count, Seen, Track
from stream_detector.core.events import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_detector.core.alerts.policy import AlertPolicy
    from stream_detector.core.alerts.track import Holder, Judgement, Observation
    from stream_detector.core.events import AlertEvent, Ending, Severity
    from stream_detector.core.records import Role

UPDATE_GROWTH = 1.25


class Step(NamedTuple):
    """What an observation did to an alert.

    Attributes:
        event: What is published.
        role: Whose judgement it was.
        ended_because: At `clear`.
    """

    event: AlertEvent
    role: Role
    ended_because: Ending | None = None


def step(
    track: Track,
    seen: Observation,
    policy: AlertPolicy,
    name: tuple[str, str, str],
    *,
    may_speak: bool = True,
) -> Step | None:
    """Take one observation into account.

    Args:
        track: Changed in place.
        seen: The next one, in arrival order.
        policy: When alerts open, speak again and close.
        name: Stream, device and kind: what the id is made of, beside the first reading.
        may_speak: Else nothing is raised, updated or cleared: the device has said too much (`policy.STORM`).

    Returns:
        What happened to ``track.alert``, or None. A raise that is held back sets ``track.held_back``.
    """
    ready: list[Holder] = []
    for each in seen.judgements:
        count = _counted(track, each, seen, policy)
        if (
            count is not None
            and each.anomalous
            and len(count.anomalous) >= policy.raise_after(each.holder.role)[0]
        ):
            ready.append(each.holder)
    if track.open is None:
        raised = _perhaps_raise(track, ready, seen, policy, name, may_speak=may_speak)
        _forget_idle(track)
        return raised
    return _perhaps_change(track, track.open, ready, seen, policy, may_speak=may_speak)


def changes_nothing(track: Track, seen: Observation, policy: AlertPolicy) -> bool:
    """Return whether one more anomalous judgement would be no event, under a policy that raises at once."""
    if track.open is None:
        return track.held_back is not None and not _severe_enough(seen.score, policy)
    return not _is_news(track, track.open, seen, policy)


def next_news(track: Track, policy: AlertPolicy) -> tuple[int, float] | None:
    """Return when an anomalous judgement can be an event again: not before that instant and that score.

    Args:
        track: Of a policy that raises at once.
        policy: When alerts open, speak again and close.

    Returns:
        µs, and the score that it takes; None: nothing was anomalous so far.
    """
    if track.open is None:
        return (0, policy.critical_from) if track.held_back else None
    score = UPDATE_GROWTH * track.open.published_peak
    if track.open.severity != SEVERITIES[-1]:
        score = min(score, policy.critical_from)
    return track.open.published_at + policy.update_every, score


def over(track: Track, oldest: int, policy: AlertPolicy) -> bool:
    """Return whether a track's alert, if there was one, ended too long ago for a relapse.

    Args:
        track: Of a device of which nothing older than `oldest` can be judged from now on.
        oldest: Event time, µs.
        policy: When alerts open, speak again and close.
    """
    if track.alert is None:
        return True
    first = min([oldest, *(each.ts for count in track.counts.values() for each in count.anomalous)])
    return track.alert.ended_at is not None and first - track.alert.ended_at > policy.cooldown


def kept(track: Track, oldest: int, policy: AlertPolicy) -> Track | None:
    """Return a copy of what can still change an event, None where nothing can; see `over`."""
    ended = over(track, oldest, policy)
    if track.idle and ended:
        return None
    return Track(
        counts={
            holder: replace(count, anomalous=list(count.anomalous)) for holder, count in track.counts.items()
        },
        alert=None if ended or track.alert is None else replace(track.alert),
        held_back=track.held_back,
    )


def alert_id(name: tuple[str, str, str], ts: int, identity: int) -> str:
    """Return the id of an alert that began with a reading: 24 hex digits.

    Example:
        >>> alert_id(("pumps", "pump-1", "point"), 1_700_000_000_000_000, 42)
        '4d9243edcfdcfdf39f75038b'
    """
    text = "\0".join((*name, str(ts), f"{identity:016x}"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _counted(track: Track, judged: Judgement, seen: Observation, policy: AlertPolicy) -> Count | None:
    """Count a reading for its holder; None: there is nothing to count."""
    count = track.counts.get(judged.holder)
    if count is None:
        if not judged.anomalous:
            return None
        count = track.counts[judged.holder] = Count()
    if judged.gone and not count.holds:
        return None  # no evidence against the anomalies before it
    count.readings += 1
    if judged.anomalous:
        count.normal, count.ending = 0, None
        count.anomalous.append(Seen(count.readings, seen.ts, seen.identity, judged.score, seen.late))
    else:
        count.normal += count.readings % judged.one_in == 0
        if judged.accepted:
            count.ending = "new_normal"
        elif count.normal >= policy.clear_after and count.ending is None:
            count.ending = "model_replaced" if judged.gone else "returned"
    oldest = count.readings - policy.raise_after(judged.holder.role)[1]
    while count.anomalous and count.anomalous[0].number <= oldest:
        del count.anomalous[0]
    return count


def _forget_idle(track: Track) -> None:
    """Drop the counts that hold nothing: no anomaly among the last M, and no alert."""
    for holder in [holder for holder, count in track.counts.items() if not (count.anomalous or count.holds)]:
        del track.counts[holder]
    if not track.counts:
        track.held_back = None


def _perhaps_raise(
    track: Track,
    ready: list[Holder],
    seen: Observation,
    policy: AlertPolicy,
    name: tuple[str, str, str],
    *,
    may_speak: bool,
) -> Step | None:
    if not ready:
        return None
    peak = max(each.score for holder in ready for each in track.counts[holder].anomalous)
    if not _severe_enough(peak, policy):
        track.held_back = "min_severity"
        return None
    if not may_speak:
        track.held_back = "storm"
        return None
    track.held_back = None
    _open(track, ready, peak, seen, policy, name)
    return Step("raise", _leading(seen))


def _perhaps_change(
    track: Track,
    alert: Alert,
    ready: list[Holder],
    seen: Observation,
    policy: AlertPolicy,
    *,
    may_speak: bool,
) -> Step | None:
    """Update or clear an open alert."""
    for holder in ready:
        track.counts[holder].holds = True
    alert.holders = _joined(alert.holders, ready)
    if seen.anomalous:
        alert.peak = max(alert.peak, seen.score)
    if not may_speak:
        return None
    left = [(holder, count.ending) for holder, count in track.counts.items() if count.holds and count.ending]
    for holder, _ in left:
        track.counts[holder].holds = False
        track.counts[holder].anomalous.clear()
        track.counts[holder].ending = None
    step = None
    if left and not track.holding:
        holder, ending = left[-1]
        track.counts.clear()  # what was seen before the end raises nothing after it
        alert.ended_at = seen.at
        step = Step("clear", holder.role, ending)
    elif seen.anomalous and _is_news(track, alert, seen, policy):
        step = Step("update", _leading(seen))
    if step is not None:
        alert.seq += 1
        alert.severity = _worse(alert.severity, policy.severity(alert.peak))
        alert.published_at, alert.arrived_at = seen.at, seen.arrival
        if step.event == "update":
            alert.published_peak = alert.peak
            alert.channels = names_of(track.holding)
    _forget_idle(track)
    return step


def _open(
    track: Track,
    ready: list[Holder],
    peak: float,
    seen: Observation,
    policy: AlertPolicy,
    name: tuple[str, str, str],
) -> None:
    first = min(
        (track.counts[holder].anomalous[0] for holder in ready), key=lambda each: (each.ts, each.identity)
    )
    for holder in ready:
        track.counts[holder].holds = True
    last = track.alert
    if (
        last is not None
        and not first.late
        and last.ended_at is not None
        and first.ts - last.ended_at <= policy.cooldown
        and any(holder in last.holders for holder in ready)
    ):
        last.seq += 1
        last.severity = _worse(last.severity, policy.severity(peak))
        last.peak = max(last.peak, peak)
        last.published_at, last.arrived_at, last.ended_at = seen.at, seen.arrival, None
        last.published_peak = last.peak
        last.acknowledged = False  # who has seen it then has not seen this
        last.channels, last.holders = names_of(track.holding), _joined(last.holders, ready)
        return
    track.alert = Alert(
        id=alert_id(name, first.ts, first.identity),
        seq=1,
        started_at=first.ts,
        severity=policy.severity(peak),
        peak=peak,
        published_at=seen.at,
        published_peak=peak,
        channels=names_of(track.holding),
        arrived_at=seen.arrival,
        holders=tuple(ready),
    )


def _leading(seen: Observation) -> Role:
    """Return whose verdict is the worst."""
    return max((each for each in seen.judgements if each.anomalous), key=lambda each: each.score).holder.role


def names_of(holders: Iterable[Holder]) -> tuple[str, ...]:
    """Return the channels among holders, each once."""
    return tuple(dict.fromkeys(holder.channel for holder in holders if holder.channel))


def _joined(before: tuple[Holder, ...], ready: list[Holder]) -> tuple[Holder, ...]:
    return tuple(dict.fromkeys([*before, *ready])) if ready else before


def _worse(one: Severity, other: Severity) -> Severity:
    return max(one, other, key=SEVERITIES.index)


def _severe_enough(score: float, policy: AlertPolicy) -> bool:
    return SEVERITIES.index(policy.severity(score)) >= SEVERITIES.index(policy.min_severity)


def _is_news(track: Track, alert: Alert, seen: Observation, policy: AlertPolicy) -> bool:
    """Return whether an open alert has become so much worse, or wider, that it is updated."""
    if (
        seen.at - alert.published_at < policy.update_every
        or seen.arrival - alert.arrived_at < policy.update_every
    ):
        return False
    peak = max(alert.peak, seen.score)
    worse = SEVERITIES.index(policy.severity(peak)) > SEVERITIES.index(alert.severity)
    grown = peak >= UPDATE_GROWTH * alert.published_peak
    return worse or grown or not set(names_of(track.holding)) <= set(alert.channels)
