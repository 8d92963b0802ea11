"""Commands, as far as they need no socket: what they do, what they are answered, and what a crash leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from stream_detector import cli
from stream_detector.core.events import COMMAND_RESULTS
from stream_detector.core.records import Feedback
from stream_detector.service.broker_requests import Message
from stream_detector.service.commands import ERRORS, NOT_YET, REQUESTS
from stream_detector.service.decision import Decision
from tests.persisting import NOW, SECOND
from tests.service.asking import RANGE, Asked, wanting

if TYPE_CHECKING:
    from pathlib import Path


def test_an_alert_is_acknowledged_once(kept: Asked) -> None:
    """It gets an event with the next number, the state says so, and a second one is answered without."""
    alert = kept.raise_alert()
    event, state, reply = kept.ask(
        "ack", {"transaction": "t1", "id": alert, "by": "anna", "comment": "being\nwatched"}
    )
    assert (event["event"], event["id"], event["seq"], event["kind"]) == ("ack", alert, 2, "range")
    assert (event["reason"], event["acknowledged"], event["prediction"]) == (
        "acknowledged by anna: being watched",
        True,
        1,
    )
    assert event["ended_at"] is None
    assert [each["acknowledged"] for each in state["active"]] == [True]
    assert reply == {
        "schema": "stream_detector.reply/1",
        "transaction": "t1",
        "command": "ack",
        "ok": True,
        "error": None,
        "result": {"id": alert, "stream": "pumps", "device": "p", "acknowledged_by": "anna", "seq": 2},
    }
    (again,) = kept.ask("ack", {"transaction": "t2", "id": alert})
    assert (again["ok"], again["result"]["already"]) == (True, True)
    assert kept.total("alert_events_total", event="ack") == 1
    assert kept.total("alerts_active") == 1


def test_an_acknowledged_alert_goes_on(kept: Asked) -> None:
    """It ends as any other, and the relapse that opens it again was not seen by anybody."""
    alert = kept.raise_alert()
    kept.ask("ack", {"transaction": 1, "id": alert})
    (cleared,) = [one for one in kept.calm(count=2) if "event" in one]
    assert (cleared["event"], cleared["seq"], cleared["id"]) == ("clear", 3, alert)
    (refused,) = kept.ask("ack", {"transaction": 2, "id": alert})
    assert refused["error"]["code"] == "not_found"
    assert kept.raise_alert() == alert
    assert kept.ask("ack", {"transaction": 3, "id": alert})[0]["seq"] == 5


def test_a_transaction_is_carried_out_once(kept: Asked) -> None:
    """Asked again, in the same read, later, after a crash: the answer is the one it had."""
    alert = kept.raise_alert()
    request = {"transaction": "t", "id": alert, "by": "anna"}
    decision = kept.decide("ack", request)
    message = Message("stream_detector/cmd/ack", json.dumps(request).encode(), False, None, b"", kept.now)
    kept.requests.take(decision, message)
    *_, first, second = kept.conclude(decision)
    assert first == second
    assert kept.ask("ack", request) == [first]
    kept.crash()
    assert kept.ask("ack", request) == [first]
    assert kept.ask("forget", {"transaction": "t", "stream": "pumps", "device": "?"})[0]["ok"] is False
    kept.now += 86_400 * SECOND + 1
    kept.ask("ack", {"transaction": "other", "id": alert})
    assert kept.ask("ack", request)[0]["result"]["already"] is True


def test_an_answer_is_kept_for_a_day(kept: Asked) -> None:
    """Who asks the same a minute later every day, and nobody asks anything else, is not answered from it."""
    alert = kept.raise_alert()
    request = {"transaction": "daily", "id": alert}
    kept.ask("ack", request)
    for day in (1, 2):
        kept.now = NOW + day * 86_460 * SECOND
        assert kept.ask("ack", request)[-1]["result"].get("already")
        assert kept.total("commands_total", result="repeated") == 0


def test_answers_do_not_fill_the_disk(kept: Asked) -> None:
    """What a request says that is wrong is repeated in part only."""
    long = "x" * 60_000
    kept.ask("feedback", {"transaction": 1, "id": "0" * 24, "verdict": long})
    kept.ask(long, {"transaction": 2})
    assert all(len(answer.payload) < 1000 for answer in kept.published)
    assert kept.ask(long, {"transaction": 2})[0]["command"] == "x" * 64


def test_what_was_not_written_was_not_done(kept: Asked) -> None:
    """A crash before the commit takes the command back, its answer too."""
    alert = kept.raise_alert()
    kept.persistence.keep(kept.decide("ack", {"transaction": "t", "id": alert}))
    kept.crash()
    assert kept.ask("ack", {"transaction": "t", "id": alert})[0]["seq"] == 2


@pytest.mark.parametrize("durability", ["journal", "checkpoint"])
def test_an_acknowledgement_outlives_a_crash(tmp_path: Path, durability: str) -> None:
    """So does the number of the event that follows."""
    kept = Asked(tmp_path, stream={**RANGE, "durability": durability})
    alert = kept.raise_alert()
    kept.ask("ack", {"transaction": "t", "id": alert})
    kept.crash()
    assert kept.ask("ack", {"transaction": "u", "id": alert})[0]["result"]["already"] is True
    (cleared,) = [one for one in kept.calm(count=2) if "event" in one]
    assert cleared["seq"] == 3


def test_a_device_is_forgotten(kept: Asked) -> None:
    """Its alerts end, its retained state is emptied, its row goes; speaking again, it is a new one."""
    alert = kept.raise_alert()
    kept.calm("q", count=3)
    decision = kept.decide("forget", {"transaction": "t", "stream": "pumps", "device": "p"})
    event, state, reply = (publication for _, publication in decision.publications)
    kept.conclude(decision)
    cleared = json.loads(event.payload)
    assert (cleared["event"], cleared["id"], cleared["reason"]) == (
        "clear",
        alert,
        "the device was forgotten",
    )
    assert (state.topic, state.payload, state.retain) == ("stream_detector/state/pumps/p", b"", True)
    assert json.loads(reply.payload)["result"] == {"stream": "pumps", "device": "p", "state": "alerting"}
    assert kept.total("devices") == 1
    assert kept.total("alerts_active") == 0
    kept.crash()
    assert set(kept.states()) == {"q"}
    assert kept.total("devices") == 1
    assert kept.store.row("pumps", "p") is None
    assert kept.raise_alert() != alert


def test_a_slot_that_is_used_again_is_another_device(kept: Asked) -> None:
    """Forgotten and met in one read: the row that is written is the new one's."""
    kept.calm("p", count=3)
    decision = kept.decide("forget", {"transaction": "t", "stream": "pumps", "device": "p"})
    kept.processing.messages(decision, [b"plant/n/new"], [b'{"values": {"x": 1}}'], [0], kept.now)
    kept.conclude(decision)
    kept.crash()
    assert set(kept.states()) == {"new"}


def test_a_device_on_disk_is_forgotten(tmp_path: Path) -> None:
    """One that has moved out of memory is found there."""
    kept = Asked(tmp_path, stream=RANGE, max_devices=10)
    for k in range(12):
        kept.calm(f"d{k}")
    assert kept.recovery.evicted["pumps"] > 0
    (gone,) = [name for name in ("d0",) if name not in kept.states()]
    assert kept.ask("forget", {"transaction": "t", "stream": "pumps", "device": gone})[-1]["ok"]
    kept.crash()
    assert kept.store.row("pumps", gone) is None


def test_a_device_is_forgotten_once(tmp_path: Path) -> None:
    """Asked twice in one read, its row is still on disk the second time, but it is gone."""
    kept = Asked(tmp_path, stream=RANGE, max_devices=10)
    for k in range(12):
        kept.calm(f"d{k}")
    on_disk = kept.recovery.evicted["pumps"]
    gone = next(f"d{k}" for k in range(12) if f"d{k}" not in kept.states())
    decision = kept.decide("forget", {"transaction": 1, "stream": "pumps", "device": gone})
    again = json.dumps({"transaction": 2, "stream": "pumps", "device": gone}).encode()
    kept.requests.take(decision, Message("stream_detector/cmd/forget", again, False, None, b"", kept.now))
    *_, first, second = kept.conclude(decision)
    assert (first["ok"], second["error"]["code"]) == (True, "not_found")
    assert kept.recovery.evicted["pumps"] == kept.store.evicted_devices("pumps") == on_disk - 1


def test_a_forgotten_device_makes_room(tmp_path: Path) -> None:
    """For one that was refused because there were too many."""
    kept = Asked(tmp_path, stream=RANGE, max_devices=3)
    for k in range(3):
        kept.calm(f"d{k}", count=30)  # known well enough to be missed, so none moves to disk
    assert "max_devices" in kept.calm("new")[0]["message"]
    kept.ask("forget", {"transaction": 1, "stream": "pumps", "device": "d1"})
    assert kept.calm("new")[0]["schema"] == "stream_detector.state/1"


def test_what_was_asked_of_a_stream_that_is_gone(tmp_path: Path) -> None:
    """Its records are still in the journal when the service starts without it."""
    kept = Asked(tmp_path, stream=RANGE)
    alert = kept.raise_alert()
    kept.ask("ack", {"transaction": 1, "id": alert})
    kept.ask("forget", {"transaction": 2, "stream": "pumps", "device": "p"})
    kept.let_go()
    kept.settings = kept.settings.model_copy(
        update={"streams": {"others": kept.settings.streams["pumps"]}}, deep=True
    )
    kept.open()
    assert kept.engine.memory.streams["others"].open_alerts() == []


def test_readings_are_written_whatever_is_asked_beside_them(tmp_path: Path) -> None:
    """A command that needs not be on disk, in the same read, does not let them be acknowledged before."""
    streams = {
        "pumps": {"topic": "plant/{site}/{device}"},
        "lamps": {"topic": "lamp/{device}", "durability": "none"},
    }
    kept = Asked(tmp_path, streams=streams)
    kept.calm("p")
    kept.send(("lamp/l", {"values": {"x": 1}}))
    asked = kept.decide("forget", {"stream": "lamps", "device": "l"}, properties=wanting("me/answers"))
    decision = Decision()
    kept.processing.messages(decision, [b"plant/n/p"], [b'{"values": {"x": 6}}'], [0], kept.now + SECOND)
    decision.records += asked.records
    kept.persistence.keep(decision)
    assert kept.persistence._urgent
    assert kept.persistence._sync


def test_an_alert_is_on_disk_as_it_was_acknowledged(tmp_path: Path) -> None:
    """With the peak that its event told, from which the next update is reckoned."""
    kept = Asked(tmp_path, stream=RANGE)
    alert = kept.raise_alert(x=50.0)
    kept.now += SECOND
    kept.send(("plant/n/p", {"values": {"x": 60.0}}))  # worse, but not worth an update
    kept.ask("ack", {"transaction": 1, "id": alert})
    assert kept.store.open_alerts() == kept.engine.memory.streams["pumps"].open_alerts()
    assert kept.store.open_alerts()[0].peak == pytest.approx(6.0)


def test_a_replay_forgets_too(kept: Asked, tmp_path: Path) -> None:
    """What is replayed from the journal ends for a device where it ended."""
    kept.raise_alert()
    kept.ask("forget", {"transaction": 1, "stream": "pumps", "device": "p"})
    content = kept.settings.model_dump(mode="json", include={"streams", "state_dir"}, exclude_unset=True)
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    done = CliRunner().invoke(
        cli.app, ["replay", "--from", "journal", "--config", str(tmp_path / "config.yaml")]
    )
    assert done.exit_code == 0, done.output
    assert "1 range cleared, 1 range raised" in done.output


def test_feedback_is_in_the_journal(kept: Asked) -> None:
    """For whoever trains or compares; also of alerts that are over."""
    alert = kept.raise_alert()
    (reply,) = kept.ask("feedback", {"transaction": "t", "id": alert, "verdict": "false_alert", "by": "bo"})
    assert reply["result"] == {"id": alert, "verdict": "false_alert"}
    found = [record for _, record in kept.store.records() if isinstance(record, Feedback)]
    assert [(one.id, one.verdict, one.by) for one in found] == [(alert, "false_alert", "bo")]


def test_reload_says_what_it_looks_for(kept: Asked) -> None:
    """The outcome is an event of its own, some seconds later."""
    assert kept.ask("reload", {"transaction": "t"})[0]["result"] == {"looking_for": ["forest"]}


def test_the_words_are_told_apart(kept: Asked) -> None:
    """Every error code is a result that is counted, and every command has its request."""
    assert set(ERRORS) < set(COMMAND_RESULTS)
    assert set(REQUESTS) == set(kept.requests._commands._handlers)
    assert not set(REQUESTS) & set(NOT_YET)
