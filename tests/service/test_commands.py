"""Commands, as far as they need no socket: what they do, what they are answered, and what a crash leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from typer.testing import CliRunner

from stream_detector import cli
from stream_detector.core.events import COMMAND_RESULTS
from stream_detector.core.records import Feedback
from stream_detector.formats.taken import Oversized
from stream_detector.service.broker_requests import BrokerRequests, Message
from stream_detector.service.commands import ERRORS, NOT_YET, REQUESTS, Commands
from stream_detector.service.decision import Decision
from tests.persisting import NOW, SECOND, Kept

if TYPE_CHECKING:
    from pathlib import Path

RANGE = {"channels": {"x": {"max": 10}}, "alerts": {"clear_after": 2}}


class Asked(Kept):
    """A service without sockets that takes commands."""

    def open(self) -> None:
        """Start as a service does."""
        super().open()
        commands = Commands(
            self.engine.memory,
            self.processing,
            stored_reply=self.store.reply,
            recovery=self.recovery,
            look_for_models=lambda: ["forest"],
        )
        self.requests = BrokerRequests(
            "stream_detector", commands, self.processing, reads=self.engine.intake.reads
        )

    def take(self, decision: Decision, command: str, payload: bytes, **said: Any) -> None:
        """Take a request in."""
        usual = {"retained": False, "oversized": None, "properties": b"", "arrival": self.now}
        message = Message(f"stream_detector/cmd/{command}", payload, **{**usual, **said})
        self.requests.take(decision, message)

    def decide(self, command: str, request: object, **said: Any) -> Decision:
        """Take a request in, alone; nothing is written yet."""
        decision = Decision()
        payload = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.take(decision, command, payload, **said)
        return decision

    def ask(self, command: str, request: object, **said: Any) -> list[dict[str, Any]]:
        """Take a request in; return what is published."""
        return self.conclude(self.decide(command, request, **said))

    def raise_alert(self, device: str = "p", x: float = 50.0) -> str:
        """Let a device be out of range; return the alert's id."""
        self.now += SECOND
        published = self.send((f"plant/n/{device}", {"values": {"x": x}}))
        return next(str(one["id"]) for one in published if one["schema"] == "stream_detector.alert/1")

    def calm(self, device: str = "p", count: int = 1) -> list[dict[str, Any]]:
        """Let a device send usual readings; return what is published."""
        out = []
        for k in range(count):
            self.now += SECOND
            out += self.send((f"plant/n/{device}", {"values": {"x": 5.0 + k % 2}}))
        return out


@pytest.fixture
def kept(tmp_path: Path) -> Asked:
    """Return a service with one stream."""
    return Asked(tmp_path, stream=RANGE)


def wanting(topic: str, correlation: bytes = b"") -> bytes:
    """Return the properties of a request that says where its answer goes."""
    out: Any = Properties(PacketTypes.PUBLISH)
    out.ResponseTopic = topic
    if correlation:
        out.CorrelationData = correlation
    packed = out.pack()
    return bytes(packed[1 if packed[0] < 128 else 2 :])


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


@pytest.mark.parametrize(
    ("command", "request_", "code", "words"),
    [
        ("ack", {"transaction": "t"}, "bad_request", "missing required field `id`"),
        ("ack", {"transaction": "t", "id": "x"}, "bad_request", "regex"),
        ("ack", {"transaction": "t", "id": "0" * 24 + "\n"}, "bad_request", "length <= 24"),
        ("ack", {"transaction": "t", "id": "0" * 24}, "not_found", "no open alert"),
        ("feedback", {"transaction": "t", "id": "0" * 24, "verdict": "?"}, "bad_request", "Invalid enum"),
        ("forget", {"transaction": "t", "stream": "pumps", "device": "?"}, "not_found", "no device pumps/?"),
        ("forget", {"transaction": "t", "stream": "?", "device": "p"}, "not_found", "no device ?/p"),
        ("dance", {"transaction": "t"}, "unknown_command", "there are: ack, feedback"),
        *[(name, {"transaction": "t"}, "not_supported", "does not know the command") for name in NOT_YET],
    ],
)
def test_a_request_that_is_wrong_is_answered(
    kept: Asked, command: str, request_: object, code: str, words: str
) -> None:
    """By a code for programs, and a sentence for people."""
    (reply,) = kept.ask(command, request_)
    assert (reply["ok"], reply["result"], reply["error"]["code"]) == (False, None, code)
    assert words in reply["error"]["message"]
    assert kept.published[-1].topic == f"stream_detector/reply/{'unknown' if command == 'dance' else command}"
    assert kept.total("commands_total", result=code) == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[]", b"7", b'{"id": "a"}', b'{"transaction": ""}', b'{"transaction": {}}', b"[" * 5000],
)
def test_what_cannot_be_answered_is_a_dead_letter(kept: Asked, payload: bytes) -> None:
    """Without a transaction nobody would know whose answer it is."""
    (letter,) = kept.ask("ack", payload)
    assert (letter["schema"], letter["reason"]) == ("stream_detector.deadletter/1", "command")
    assert letter["topic"] == "stream_detector/cmd/ack"
    assert kept.total("commands_total", command="ack", result="dead_letter") == 1
    assert kept.total("messages_received_total") == 0


def test_a_large_request_is_refused(kept: Asked) -> None:
    """Of which only the beginning came, so it has no transaction."""
    whole = Oversized(70_000, "ab" * 32)
    (letter,) = kept.ask("ack", b'{"transaction": "t", "comm', oversized=whole)
    assert letter["message"] == "the request is too large"
    assert (letter["size"], letter["sha256"]) == (70_000, "ab" * 32)


def test_a_retained_request_is_ignored(kept: Asked) -> None:
    """Nobody asks now; it would be carried out at every start."""
    alert = kept.raise_alert()
    assert kept.ask("ack", {"transaction": "t", "id": alert}, retained=True) == []
    assert kept.total("commands_total", command="ack", result="ignored") == 1


def test_an_answer_goes_where_it_is_wanted(kept: Asked) -> None:
    """To the response topic with its correlation data, which do for a transaction, too."""
    alert = kept.raise_alert()
    properties = wanting("me/answers", b"\x00\x01")
    *_, first = kept.ask("ack", {"id": alert}, properties=properties)
    answer = kept.published[-1]
    assert (answer.topic, answer.correlation, answer.once) == ("me/answers", b"\x00\x01", True)
    assert (first["transaction"], first["ok"]) == (None, True)
    assert kept.ask("ack", {"id": alert}, properties=properties) == [first]
    (refused,) = kept.ask("ack", b"nonsense", properties=properties)
    assert refused["error"]["code"] == "bad_request"
    assert kept.ask("ack", {"id": alert}, properties=properties) == [first]


@pytest.mark.parametrize(
    "topic",
    [
        "a/#",
        "+",
        "$SYS/x",
        "$share/a/b",
        "stream_detector/alert/pumps/p",
        "stream_detector/cmd/ack",
        "plant/n/p",
        "homeassistant/device/sd_0123456789abcdef/config",
        "a\nb",
        "/" * 250,
    ],
)
def test_an_answer_is_no_input(kept: Asked, topic: str) -> None:
    """A response topic that we read ourselves, or that no topic can be, is not used."""
    (reply,) = kept.ask("ack", {"transaction": "t", "id": "0" * 24}, properties=wanting(topic))
    assert reply["error"]["code"] == "not_found"
    assert kept.published[-1].topic == "stream_detector/reply/ack"


def test_the_words_are_told_apart(kept: Asked) -> None:
    """Every error code is a result that is counted, and every command has its request."""
    assert set(ERRORS) < set(COMMAND_RESULTS)
    assert set(REQUESTS) == set(kept.requests._commands._handlers)
    assert not set(REQUESTS) & set(NOT_YET)
