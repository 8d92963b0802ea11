"""What happens between the intake and what is published, where something is wrong with us or with a model."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stream_detector.service.decision import Decision
from stream_detector.service.scoring_models import misfit
from stream_detector.settings import StreamSettings
from tests.harness import NOW, Bench, listen

if TYPE_CHECKING:
    import pytest

    from stream_detector.detectors.pyod import FittedModel


def model(**said: Any) -> FittedModel:
    """Return what `misfit` looks at of a bundle."""
    fields: dict[str, Any] = {"name": "m", "channels": ("a", "b"), "window": 64, **said}
    return SimpleNamespace(**fields)  # type: ignore[return-value]


def test_a_message_that_the_core_cannot_take() -> None:
    """It is counted, told as a dead letter, and the next one goes on."""
    bench, decision = Bench(), Decision()
    bench.processing.refuse_message(decision, b"plant/n/p", b"{}", bench.now, ZeroDivisionError("x"))
    (letter,) = bench.told(decision)
    assert (letter["reason"], letter["stream"], letter["topic"]) == ("internal_error", "pumps", "plant/n/p")
    assert "ZeroDivisionError" in letter["message"]
    assert bench.total("messages_rejected_total", reason="internal_error") == 1
    (state,) = bench.send(("plant/n/p", {"ts": 1_767_225_600, "values": {"x": 1}}))
    assert state["state"] == "warming_up"


def test_nothing_is_counted_before_it_is_told() -> None:
    """What a crash takes back was never seen by anybody."""
    bench, decision = Bench(), Decision()
    before = bench.samples()
    bench.processing.messages(
        decision, [b"plant/n/p", b"plant/n/p"], [b'{"values":{"x":1}}', b"?"], [0, 0], NOW
    )
    assert bench.samples() == before
    bench.engine.reporting.report(decision)
    assert bench.total("messages_received_total") == 2


def test_one_device_under_two_topics(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named once in the log, with the key that would tell the two apart."""
    listen(caplog, monkeypatch)
    bench = Bench()
    for site in "nsns":
        bench.send((f"plant/{site}/p", {"values": {"x": 1}}))
    lines = [record.getMessage() for record in caplog.records]
    (line,) = [line for line in lines if "streams.pumps.device" in line]
    assert line.startswith("pumps/p is seen under different captures of its topic; name both in ")


def test_scores_are_published_where_they_are_wanted() -> None:
    """Each reading that got a score, with its event time; others say nothing."""
    bench = Bench(publish_scores=True)
    messages = [("plant/n/p", {"ts": 1_767_225_600 + k, "values": {"x": 2.0 + k % 7}}) for k in range(150)]
    scores = [one for one in bench.send(*messages) if one["schema"] == "stream_detector.score/1"]
    assert len(scores) == bench.total("readings_scored_total") == 131
    assert [score["ts"] for score in scores][::130] == [
        "2026-01-01T00:00:19.000000Z",
        "2026-01-01T00:02:29.000000Z",
    ]
    assert json.dumps(scores[0]["model"]) == '{"name": "default", "version": "2", "role": "live"}'


def test_a_model_of_other_channels() -> None:
    """The sentence says which are missing, and both ways out."""
    stream = StreamSettings.model_validate({"topic": "plant/{device}", "channels": {"a": {}}})
    assert misfit("pumps", stream, model()) == (
        "model 'm' was trained on 2 channels, but stream 'pumps' has 1; missing: 'b'."
        " Add it under streams.pumps.channels, or retrain with `stream-detector train pumps`."
    )


def test_a_model_of_another_window() -> None:
    """The sentence names the key and the value that would fit."""
    stream = StreamSettings.model_validate({"topic": "plant/{device}", "window": 8})
    sentence = misfit("pumps", stream, model())
    assert sentence is not None
    assert "Set streams.pumps.window: 64, or retrain" in sentence
    assert misfit("pumps", stream, model(window=8)) is None
