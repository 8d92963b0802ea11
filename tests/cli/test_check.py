"""`check` against real brokers: what it finds before the service would suffer from it."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.brokers import Mosquitto, Peer, free_port, wait_for
from tests.mqtt.driving import Driver
from tests.service.running import RunningService

from .test_commands import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream_detector.mqtt.broker import EmbeddedBroker

PROTOCOLS = ["5", "3.1.1"]


class Checked:
    """What `check` said, by its words.

    Args:
        folder: Where it runs.
        options: Of the command line.
        code: The exit code that is expected.
        sections: Of the configuration, over the usual ones.
    """

    def __init__(self, folder: Path, *options: str, code: int = 0, **sections: Any) -> None:
        content = {
            "streams": {"lines": {"topic": "hall/{device}"}},
            "http": {"listen": f"127.0.0.1:{free_port()}"},
            **sections,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(content))
        done = run("check", *options, cwd=folder)
        self.text = done.stdout
        assert done.returncode == code, done.stdout + done.stderr
        assert not done.stderr
        self.lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]

    def said(self, level: str, what: str) -> str:
        """Return the first sentence of a level on a subject; empty where there is none."""
        return next((line[2] for line in self.lines if line[:2] == [level, what]), "")

    def levels(self, *levels: str) -> list[str]:
        """Return the subjects of these levels, in order."""
        return [what for level, what, _ in self.lines if level in levels]


def broker_section(port: int, **more: str) -> dict[str, Any]:
    """Return the section `broker` for a port of the loopback."""
    return {"url": f"mqtt://127.0.0.1:{port}", **more}


def test_all_is_well(tmp_path: Path, broker: Mosquitto | EmbeddedBroker) -> None:
    """A line each, and exit code 0."""
    checked = Checked(tmp_path, broker=broker_section(broker.port, protocol="3.1.1"))
    wanted = ["configuration", "state_dir", "models", "http", "broker", "canary", "subscribe"]
    assert checked.levels("ok")[:7] == wanted
    assert not checked.levels("FAIL", "fact")


def test_the_embedded_broker_is_asked_for_less(tmp_path: Path) -> None:
    """It keeps nothing over a restart, which is said elsewhere: its queue is no finding."""
    checked = Checked(tmp_path, broker={"url": "embedded://127.0.0.1:0"})
    wanted = ["configuration", "state_dir", "models", "http", "broker", "canary", "publish", "subscribe"]
    assert checked.levels("ok", "note", "warn", "FAIL") == wanted


def test_each_failure_comes_with_its_remedy(tmp_path: Path) -> None:
    """No broker, no model, a port that another program has: a sentence each, exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        checked = Checked(
            tmp_path,
            code=1,
            broker=broker_section(1),
            streams={"lines": {"topic": "hall/{device}", "model": "nowhere"}},
            http={"listen": f"127.0.0.1:{taken.getsockname()[1]}"},
        )
    assert checked.levels("FAIL") == ["models", "http", "broker"]
    assert "train one" in checked.said("FAIL", "models")
    assert "set http.listen to another port" in checked.said("FAIL", "http")
    assert "check that it runs" in checked.said("FAIL", "broker")


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_finds_a_wrong_password(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto], protocol: str
) -> None:
    """The sentence says what to look at, and never shows the password."""
    mosquitto = start_mosquitto(passwords={"detector": "right"})
    login = {"username": "detector", "password": "planted-secret", "protocol": protocol}
    checked = Checked(tmp_path, "--verbose", code=1, broker=broker_section(mosquitto.port, **login))
    assert "check broker.username and its password" in checked.said("FAIL", "broker")
    assert "planted-secret" not in checked.text


@pytest.mark.mosquitto
def test_it_finds_what_may_not_be_written(tmp_path: Path, start_mosquitto: Callable[..., Mosquitto]) -> None:
    """With MQTT 5 each kind of topic is tried, and the ones that are refused are named."""
    mosquitto = start_mosquitto(
        acl="topic read hall/#\ntopic read stream_detector/#\ntopic write stream_detector/state/#\n"
        "topic readwrite stream_detector/canary/#\n"
    )
    checked = Checked(tmp_path, code=1, broker=broker_section(mosquitto.port))
    assert checked.levels("FAIL") == ["publish"] * 3
    for topic in ("alert/canary/", "deadletter/", "status"):
        assert re.search(rf"FAIL +publish +a message on stream_detector/{topic}\S* is refused", checked.text)
    assert "(Not authorized); allow writing stream_detector/#" in checked.said("FAIL", "publish")
    assert checked.said("ok", "canary")


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("right", ["read", "write"])
def test_it_finds_what_the_broker_hides(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto], protocol: str, right: str
) -> None:
    """A denied subscription is granted, a denied publish acknowledged (3.1.1): the canary tells."""
    mosquitto = start_mosquitto(acl=f"topic {right} #\n")
    checked = Checked(tmp_path, code=1, broker=broker_section(mosquitto.port, protocol=protocol))
    sentence = checked.said("FAIL", "canary")
    assert "allow writing stream_detector/#" in sentence
    assert ("is refused" if (right, protocol) == ("read", "5") else "does not come back") in sentence


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_finds_a_queue_that_is_too_short(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto], protocol: str
) -> None:
    """A broker that acknowledges and drops is found before it costs anybody a reading."""
    mosquitto = start_mosquitto(config="max_queued_messages 700")
    checked = Checked(tmp_path, broker=broker_section(mosquitto.port, protocol=protocol))
    assert "of 1500 messages that it has acknowledged, the broker keeps 700" in checked.said("warn", "queue")


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_good_queue_is_found_good_and_nothing_is_left_behind(
    tmp_path: Path, mosquitto: Mosquitto, protocol: str
) -> None:
    """All comes back; afterwards the broker holds no session of ours and no message of ours."""
    checked = Checked(tmp_path, "--verbose", broker=broker_section(mosquitto.port, protocol=protocol))
    assert "all 1500 messages" in checked.said("ok", "queue")
    assert "mosquitto version" in checked.said("fact", "software") + checked.said("warn", "software")
    log = mosquitto.log()
    names = set(re.findall(r"New client connected from \S+ as (stream-detector-check-\S+)", log))
    with Peer(mosquitto.port) as peer:
        for name in names:
            with Driver(mosquitto.url, client_id=name, protocol=protocol).until_ready() as driver:
                assert not driver.link.session_present, name
        peer.subscribe("#")
        peer.publish("fence")
        peer.wait_for(len)
        assert [message.topic for message in peer.messages] == ["fence"]


@pytest.mark.mosquitto
def test_it_tells_what_is_granted(tmp_path: Path, start_mosquitto: Callable[..., Mosquitto]) -> None:
    """--verbose shows the limits that the broker gives with the login; a tight one is a warning."""
    mosquitto = start_mosquitto(config="max_packet_size 5000\nmax_qos 1\nmax_inflight_messages 7")
    checked = Checked(tmp_path, "--verbose", broker=broker_section(mosquitto.port))
    assert "up to 5000 bytes, QoS up to 1 and 7 messages" in checked.said("fact", "limits")
    assert "refuses packets above 5000 bytes" in checked.said("warn", "limits")
    assert "1209600 s" in checked.said("fact", "session")


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_finds_what_a_broker_swallows(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto], protocol: str
) -> None:
    """A limit that no broker tells with the login, and that 3.1.1 has no word for, shows when it is tried."""
    mosquitto = start_mosquitto(config="message_size_limit 5000")
    checked = Checked(tmp_path, broker=broker_section(mosquitto.port, protocol=protocol))
    assert "a message of 16384 bytes does not get through" in checked.said("warn", "limits")


@pytest.mark.mosquitto
def test_it_finds_a_broker_that_waits_for_our_disk(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto]
) -> None:
    """Few messages on their way at once hold a slow disk back; with MQTT 5 we ask for more ourselves."""
    mosquitto = start_mosquitto(config="max_inflight_messages 20")
    checked = Checked(tmp_path, broker=broker_section(mosquitto.port, protocol="3.1.1"))
    assert re.match(r"the broker sends \d\d messages, then waits", checked.said("note", "window"))
    assert not Checked(tmp_path, broker=broker_section(mosquitto.port)).said("note", "window")


@pytest.mark.mosquitto
def test_a_broker_without_retained_messages_is_refused_in_words(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto]
) -> None:
    """Status and state are retained, so such a broker refuses our login: the sentence says why."""
    mosquitto = start_mosquitto(config="retain_available false")
    checked = Checked(tmp_path, code=1, broker=broker_section(mosquitto.port))
    assert "let it keep retained messages" in checked.said("FAIL", "broker")


@pytest.mark.mosquitto
def test_it_tells_what_the_broker_has_dropped(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto]
) -> None:
    """$SYS counts what was acknowledged and dropped: more than none is a warning."""
    mosquitto = start_mosquitto(config="max_queued_messages 10\nmax_inflight_messages 5\nsys_interval 1")
    with Driver(mosquitto.url).until_ready():
        pass
    with Peer(mosquitto.port) as peer:
        for _ in range(30):
            peer.publish("a/x", b"1")
        peer.subscribe("$SYS/broker/publish/messages/dropped", 0)
        peer.wait_for(
            lambda messages: messages and messages[-1].payload.isdigit() and int(messages[-1].payload)
        )
    checked = Checked(tmp_path, broker=broker_section(mosquitto.port))
    assert re.match(r"the broker has dropped \d+ messages", checked.said("warn", "dropped"))


@pytest.mark.mosquitto
def test_it_does_not_disturb_a_running_service(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Beside a service it finds the service, publishes nothing that counts, and takes nothing over."""
    broker, streams = broker_section(mosquitto.port), {"lines": {"topic": "hall/{device}"}}
    service = RunningService(tmp_path / "service", broker=broker, streams=streams)
    with service, Peer(mosquitto.port) as peer:
        service.wait_ready()
        service.wait_online()
        peer.subscribe("stream_detector/status")
        peer.wait_for(len)
        checked = Checked(tmp_path, broker=broker, http={"listen": service.url.removeprefix("http://")})
        peer.publish("stream_detector/status", b"fence")
        peer.wait_for(lambda messages: messages[-1].payload == b"fence")
        assert {message.payload for message in peer.messages[:-1]} == {b"online"}
        assert "a stream_detector runs on" in checked.said("ok", "http")
        assert service.get("/readyz")[0] == 200
        assert service.count("mqtt_reconnects_total") == 0
        assert service.count("messages_received_total", stream="lines") == 0


@pytest.mark.mosquitto
def test_a_running_service_that_is_not_ready_says_why(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The reasons of the service stand in the line of its port."""
    streams = {"lines": {"topic": "hall/{device}"}}
    with RunningService(tmp_path / "service", broker=broker_section(1), streams=streams) as service:
        wait_for(lambda: "cannot be reached" in str(service.reasons()))
        checked = Checked(
            tmp_path,
            broker=broker_section(mosquitto.port),
            http={"listen": service.url.removeprefix("http://")},
        )
    assert "is not ready: the broker at 127.0.0.1:1 cannot be reached" in checked.said("warn", "http")


@pytest.mark.mosquitto
def test_files_with_secrets_that_others_may_read_are_a_warning(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A password file that every user of the machine can read is named, with the command that mends it."""
    file = tmp_path / "password"
    file.write_text("secret")
    file.chmod(0o644)
    section = broker_section(mosquitto.port, username="joe", password_file=str(file))
    checked = Checked(tmp_path, broker=section)
    assert f"chmod 600 {file}" in checked.said("warn", "secrets")
    file.chmod(0o600)
    assert not Checked(tmp_path, broker=section).said("warn", "secrets")
    file.unlink()
    missing = Checked(tmp_path, code=1, broker=section)
    assert "broker.password_file" in missing.said("FAIL", "secrets")
