"""Metrics: the names of the contract, closed lists from 0, and sums that are right whatever arrives."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder

from stream_detector.core.events import (
    IGNORED,
    KINDS,
    REJECTIONS,
    SEVERITIES,
    STATES,
    SUPPRESSED,
    CommandAnswered,
    Counts,
    DeviceStateChanged,
    ModelRefused,
    Rejected,
)
from stream_detector.core.records import Forgotten, Gap, Tick
from stream_detector.outputs.log import Log
from stream_detector.outputs.metrics import SCORE_BUCKETS, SECONDS_BUCKETS, Metrics
from stream_detector.service.decision import Decision
from tests.harness import NOW, SECOND, Bench, listen

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = {
    "alert_events_total": {"stream", "event", "kind", "severity"},
    "alert_publishes_total": {"result"},
    "alerts_active": {"stream", "severity"},
    "alerts_suppressed_total": {"stream", "reason"},
    "batch_readings": {"stream"},
    "broker_dropped_messages_total": set(),
    "build_info": {"version"},
    "checkpoint_timestamp_seconds": set(),
    "deadletters_suppressed_total": set(),
    "device_series_dropped_total": set(),
    "devices": {"stream", "state"},
    "end_to_end_seconds": {"stream"},
    "journal_bytes": set(),
    "journal_commit_seconds": set(),
    "last_message_timestamp_seconds": {"stream"},
    "messages_ignored_total": {"stream", "reason"},
    "messages_received_total": {"stream"},
    "messages_rejected_total": {"stream", "reason"},
    "model_info": {"stream", "model", "version", "role"},
    "model_loaded_timestamp_seconds": {"model"},
    "model_reloads_total": {"model", "result"},
    "mqtt_connected": set(),
    "mqtt_reconnects_total": set(),
    "outbox_events": set(),
    "outbox_oldest_timestamp_seconds": set(),
    "readings_accepted_total": {"stream"},
    "readings_duplicate_total": {"stream"},
    "readings_late_total": {"stream"},
    "readings_scored_total": {"stream", "model"},
    "readings_warming_up_total": {"stream"},
    "score": {"stream"},
    "scoring_duration_seconds": {"stream", "model"},
    "sequence_gaps_total": {"stream"},
    "state_free_bytes": set(),
}
"""Of the contract's metrics those that have a meaning yet, with their labels."""


def test_the_metrics_of_the_contract() -> None:
    """Each that has a meaning yet is there from the start, with exactly its labels."""
    bench = Bench()
    found = {
        family.name + ("_total" if family.type == "counter" else ""): set(family.samples[0].labels) - {"le"}
        for family in bench.metrics.registry.collect()
        if family.samples
    }
    # These have no series before the first message or batch: their values would be invented.
    first = {"last_message_timestamp_seconds", "scoring_duration_seconds"}
    bench.send(("plant/n/p", {"values": {"x": 1}}))
    found |= {
        family.name: set(family.samples[0].labels) - {"le"}
        for family in bench.metrics.registry.collect()
        if family.name.removeprefix("stream_detector_") in first
    }
    expected = {f"stream_detector_{name}": labels for name, labels in CONTRACT.items()}
    assert {name: found.get(name) for name in expected} == expected


def test_both_formats_can_be_written() -> None:
    """Prometheus text and OpenMetrics; without `_created` series."""
    registry = Bench().metrics.registry
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        text = choose_encoder(accept)[0](registry).decode()
        assert "stream_detector_build_info{version=" in text
        assert "_created" not in text


def test_closed_lists_start_at_zero() -> None:
    """A rate of the first event needs the 0 before it."""
    samples = Bench().samples()
    at_zero = [
        *(("messages_rejected_total", {"stream": s, "reason": r}) for s in ("", "pumps") for r in REJECTIONS),
        *(("messages_ignored_total", {"stream": s, "reason": r}) for s in ("", "pumps") for r in IGNORED),
        *(("devices", {"stream": "pumps", "state": state}) for state in STATES),
        *(("alerts_active", {"stream": "pumps", "severity": severity}) for severity in SEVERITIES),
        *(
            ("alert_events_total", {"stream": "pumps", "event": event, "kind": kind, "severity": severity})
            for event in ("raise", "update", "clear", "ack")
            for kind in KINDS
            for severity in SEVERITIES
        ),
        *(
            ("alert_publishes_total", {"result": result})
            for result in ("confirmed", "no_subscribers", "refused")
        ),
        *(
            ("model_reloads_total", {"model": "default", "result": result})
            for result in ("loaded", "refused")
        ),
        ("readings_scored_total", {"stream": "pumps", "model": "default"}),
        *(("alerts_suppressed_total", {"stream": "pumps", "reason": reason}) for reason in SUPPRESSED),
        ("deadletters_suppressed_total", {}),
    ]
    for name, labels in at_zero:
        assert samples[name, frozenset(labels.items())] == 0, (name, labels)


def test_buckets() -> None:
    """The threshold is a bound of the scores; latencies begin at 100 µs."""
    assert 1.0 in SCORE_BUCKETS
    assert SECONDS_BUCKETS[0] == 1e-4


@given(
    scores=st.lists(
        st.floats(0, 1000) | st.sampled_from(SCORE_BUCKETS) | st.sampled_from([np.nextafter(1.0, 2.0)]),
        min_size=1,
    )
)
def test_scores_are_counted_as_one_by_one(scores: list[float]) -> None:
    """Counting a batch at once gives the same histogram as `observe` for each."""
    metrics = Metrics(["pumps"], CollectorRegistry())
    metrics.batch("pumps", "light", Counts(scored=len(scores)), np.array(scores), 0.0)
    plain = Histogram("plain", "", buckets=SCORE_BUCKETS, registry=CollectorRegistry())
    for score in scores:
        plain.observe(score)
    ours = {
        (sample.name.removeprefix("stream_detector_score"), sample.labels.get("le")): sample.value
        for family in metrics.registry.collect()
        if family.name == "stream_detector_score"
        for sample in family.samples
    }
    theirs = {
        (sample.name.removeprefix("plain"), sample.labels.get("le")): sample.value
        for family in plain.collect()
        for sample in family.samples
    }
    assert ours == pytest.approx(theirs)


def faulty_messages(seed: int, count: int) -> Iterator[tuple[str, bytes, int]]:
    """Yield messages of a few devices with all kinds of faults: topic, payload, flags."""
    rng = random.Random(seed)  # noqa: S311 - a test
    for number in range(count):
        topic = f"plant/north/p{rng.randrange(7)}"
        reading: dict[str, Any] = {
            "ts": 1_767_225_600 + number - rng.choice([0, 0, 0, 50]),
            "values": {"x": rng.choice([1.0, 2.0, 3.0, 90.0]) + rng.random(), "y": rng.random()},
            "seq": number,
        }
        kind = rng.randrange(12)
        content: Any = reading
        if kind == 0:
            content = {**reading, "values": rng.choice([{}, {"x": True}, {"x": None}, 3, {"a\n": 1}])}
        elif kind == 1:
            content = [reading, {**reading, "seq": "?"}, reading, 7]
        elif kind == 2:
            content = {**reading, "ts": rng.choice([1, "never", 99_999_999_999])}
        elif kind == 3:
            content = {**reading, "device_id": "somebody else"}
        elif kind == 4:
            topic = rng.choice(
                ["base/x", "elsewhere", "stream_detector/state/pumps/p1", "plant//p1", "plant/n/\x01"]
            )
        payload = json.dumps(content).encode()
        if kind == 5:
            payload = rng.choice([b"", b"{", b"\xff", b"[]", payload + b"}", payload.ljust(70_000), b"17"])
        yield topic, payload, int(rng.randrange(20) == 0)
        if kind == 6:
            yield topic, payload, 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stream", [{}, {"channels": {"x": {"min": 0, "max": 80}}, "lateness_s": 20.0}])
def test_conservation(seed: int, stream: dict[str, Any]) -> None:
    """Messages: received = accepted + rejected + ignored. Readings: each one ends once.

    And gauges agree with what was published: each device is in one state, each open alert counts once.
    """
    bench = Bench(**stream)
    rng = random.Random(seed)  # noqa: S311 - a test
    messages = list(faulty_messages(seed, 1500))
    state_of: dict[str, str] = {}
    severity_of: dict[str, str] = {}
    lists = sum(payload.startswith(b"[{") and not flags for _, payload, flags in messages)
    given = 0
    while messages:
        batch = [messages.pop(0) for _ in range(min(len(messages), rng.choice([1, 3, 40])))]
        bench.now += SECOND
        decision = Decision()
        taken = bench.processing.messages(
            decision,
            [topic.encode() for topic, _, _ in batch],
            [payload for _, payload, _ in batch],
            [flags for _, _, flags in batch],
            bench.now,
        )
        if rng.randrange(30) == 0:
            bench.record(Gap(bench.now - SECOND, bench.now))
        bench.now += rng.choice([0, 0, 60]) * SECOND
        published = bench.told(decision) + bench.record(Tick(bench.now))
        given += sum(tally.accepted for tally in taken.tallies.values())
        for content in published:
            if content["schema"] == "stream_detector.state/1":
                state_of[content["device"]] = content["state"]
            elif content["schema"] == "stream_detector.alert/1":
                severity_of[content["id"]] = content["severity"]
                if content["event"] == "clear":
                    del severity_of[content["id"]]

    for name in ("", "pumps"):
        received, accepted, rejected, ignored = (
            bench.total(f"messages_{end}_total", stream=name)
            for end in ("received", "accepted", "rejected", "ignored")
        )
        assert received == accepted + rejected + ignored
    assert bench.total("messages_accepted_total", stream="pumps") == given > 500
    ends = {
        end: bench.total(f"readings_{end}_total", stream="pumps")
        for end in ("scored", "warming_up", "late", "duplicate", "rejected")
    }
    assert min(ends.values()) > 0, ends
    assert sum(ends.values()) == given + 3 * lists, "a list has four elements"
    assert bench.total("readings_accepted_total") == ends["scored"] + ends["warming_up"]
    assert bench.total("score_count") == ends["scored"]
    for state in STATES:
        assert bench.total("devices", state=state) == list(state_of.values()).count(state)
    assert bench.total("devices") == len(state_of) == 5, "max_devices"
    for severity in SEVERITIES:
        assert bench.total("alerts_active", severity=severity) == list(severity_of.values()).count(severity)
    assert bench.total("messages_rejected_total", reason="internal_error") == 0
    assert bench.total("readings_rejected_total", reason="internal_error") == 0


def test_a_device_is_in_one_state() -> None:
    """From warming up over ok and alerting to silent, and back."""
    bench = Bench()
    values = [{"ts": 1_767_225_600 + k, "values": {"x": 2.0 + k % 7}} for k in range(200)]
    seen = []

    def states() -> dict[str, float]:
        return {
            state: bench.total("devices", state=state)
            for state in STATES
            if bench.total("devices", state=state)
        }

    for reading in values:
        bench.send(("plant/n/p", reading))
        if states() not in seen:
            seen.append(states())
    bench.send(("plant/n/p", {"ts": 1_767_226_000, "values": {"x": 99}}))
    seen.append(states())
    bench.record(Tick(bench.now + 60 * SECOND))
    seen.append(states())
    bench.now += 60 * SECOND
    bench.send(("plant/n/p", {"ts": 1_767_226_001, "values": {"x": 2.0}}))
    seen.append(states())
    assert seen == [{"warming_up": 1}, {"ok": 1}, {"alerting": 1}, {"silent": 1}, {"alerting": 1}]


def test_a_forgotten_device_is_in_no_state() -> None:
    """Neither it nor its open alerts count any more; who was never there changes nothing."""
    bench = Bench(channels={"x": {"max": 80}})
    bench.send(("plant/n/p", {"ts": 1_767_225_600, "values": {"x": 99}}))
    assert (bench.total("devices"), bench.total("alerts_active")) == (1, 1)
    for device in ("p", "p", "nobody"):
        bench.record(Forgotten(bench.now, "pumps", device))
    assert (bench.total("devices"), bench.total("alerts_active")) == (0, 0)


def test_gaps_in_the_numbering() -> None:
    """Numbers that never came are counted, not the readings."""
    bench = Bench()
    for number in (1, 2, 5, 6):
        bench.send(("plant/n/p", {"ts": 1_767_225_600 + number, "seq": number, "values": {"x": 1}}))
    assert bench.total("sequence_gaps_total") == 2


def test_the_same_warning_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it comes; another one is written at once, and no text of a sender breaks the line."""
    listen(caplog, monkeypatch)
    log = Log()
    for reason in ("seq", "seq", "empty", "seq"):
        log.event(Rejected("pumps", reason, "a\nb\u202e", "plant/\x1b[31m", 1, "", b"", NOW))
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"a message on plant/\\x1b[31m was refused ({reason}): a\\nb\\u202e" for reason in ("seq", "empty")
    ]


def test_the_same_command_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are counted; a flood of them does not fill the log."""
    listen(caplog, monkeypatch)
    metrics, log = Metrics(["pumps"], CollectorRegistry()), Log()
    for result in ("ok", "ok", "repeated", "ok"):
        metrics.event(CommandAnswered("ack", result))
        log.event(CommandAnswered("ack", result))
    assert [record.getMessage() for record in caplog.records] == ["command ack: ok", "command ack: repeated"]
    labels = {"command": "ack", "result": "ok"}
    assert metrics.registry.get_sample_value("stream_detector_commands_total", labels) == 3


def test_a_refused_model_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time: it is rare, and somebody waits for it."""
    listen(caplog, monkeypatch)
    bench = Bench()
    for _ in range(2):
        decision = Decision()
        refused = ModelRefused(NOW, "pumps", "light", "3", "hash", "the file was changed.")
        bench.processing.events(decision, [refused])
        bench.told(decision)
    assert [record.getMessage() for record in caplog.records] == [
        "pumps keeps its model: the file was changed."
    ] * 2
    assert bench.total("model_reloads_total", result="refused") == 2


def test_states_of_a_device_that_is_new() -> None:
    """Only the new state is counted where there was none before."""
    metrics = Metrics(["pumps"], CollectorRegistry())
    metrics.event(DeviceStateChanged("pumps", "p", {}, "warming_up", None, None, None, (), NOW))
    metrics.event(DeviceStateChanged("pumps", "p", {}, "warming_up", "warming_up", None, None, (), NOW))
    value = metrics.registry.get_sample_value(
        "stream_detector_devices", {"stream": "pumps", "state": "warming_up"}
    )
    assert value == 1
