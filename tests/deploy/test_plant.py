"""The broker and the secrets of the compose plant: the very files, run by hand."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stream_detector.formats.topics import TopicPattern
from stream_detector.mqtt.broker_check.check import BrokerCheck
from stream_detector.mqtt.settings import BrokerSettings
from tests.brokers import MOSQUITTO, Mosquitto, Peer
from tests.peers.program import missing

from .composing import DEPLOY, IS_ROOT, compose, filled_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mosquitto

ACL = DEPLOY / "mosquitto" / "acl"
OURS = ("detector", "simulator", "node-red", "health", "operator")
ADDED = ("home-assistant", "pump-1", "pump-2")
TELEMETRY = "plant/north/pump-1/telemetry"
ALERT = "stream_detector/alert/plant/pump-1"
DISCOVERY = "homeassistant/device/sd_0123456789abcdef/config"


def make_secrets(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run secrets.sh with the powers that its container has, and no others."""
    if MOSQUITTO is None:
        missing("Mosquitto is not installed (Debian: apt install mosquitto)")
    if not IS_ROOT:
        missing("secrets.sh gives files away: run the tests as root, as the container does")
    powers = ",".join(f"+{power.lower()}" for power in compose()["services"]["secrets"]["cap_add"])
    folder.mkdir(mode=0o755, exist_ok=True)
    return subprocess.run(
        [
            *("setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{powers}"),
            *("/bin/sh", DEPLOY / "secrets.sh", folder, ACL, *words),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the secrets of a plant, with logins for some that come later."""
    folder = tmp_path_factory.mktemp("plant") / "secrets"
    for words in ((), *(("add", name) for name in ADDED)):
        assert make_secrets(folder, *words).returncode == 0
    return folder


@pytest.fixture(scope="module")
def broker(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Start the plant's broker: compose.conf, with other paths and a free port."""
    folder = tmp_path_factory.mktemp("broker")
    broker = Mosquitto(folder)
    text = (DEPLOY / "mosquitto" / "compose.conf").read_text()
    text = text.replace("/mosquitto/data/", f"{folder}/").replace("/secrets/", f"{secrets}/")
    text = text.replace("listener 1883", f"listener {broker.port} 127.0.0.1")
    (folder / "mosquitto.conf").write_text(f"user root\n{text}")
    yield broker.start()
    broker.stop()


def login(secrets: Path, user: str) -> dict[str, str]:
    """Return user and password."""
    return {"username": user, "password": (secrets / "logins" / user).read_text().strip()}


def test_secrets_are_made_once_by_chance_and_belong_to_who_reads_them(tmp_path: Path) -> None:
    """A second run changes nothing, another plant has others, and only the owner can read one."""
    one, other = tmp_path / "one", tmp_path / "other"
    assert make_secrets(one).returncode == 0
    before = {path.relative_to(one): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    assert make_secrets(one).returncode == 0
    assert make_secrets(other).returncode == 0
    for path, content in before.items():
        assert oct((one / path).stat().st_mode & 0o777) == "0o400"
        if "mosquitto" in path.parts:
            continue
        assert (one / path).read_bytes() == content, path
        assert (other / path).read_bytes() != content, path
        assert re.fullmatch(rb"[\w=-]{32}\n", content), path
    assert len(before) == len(OURS) + 6
    users = {(one / path).stat().st_uid for path in before}
    assert 0 not in users
    leftovers = [path.name for path in one.iterdir() if path.name.startswith(".")]
    assert not leftovers


@pytest.mark.parametrize("words", [("add", "../x"), ("add", "a b"), ("add",), ("dance",)])
def test_a_wrong_word_ends_in_a_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A name that could be a path, or no name at all, is refused."""
    done = make_secrets(tmp_path / "secrets", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("secrets.sh: ")


def test_a_login_is_shown_to_who_may_ask_and_works(secrets: Path, broker: Mosquitto) -> None:
    """`add` says the password that the broker takes, `show` says it again."""
    shown = make_secrets(secrets, "show", "pump-1").stdout.strip()
    assert shown == login(secrets, "pump-1")["password"]
    assert make_secrets(secrets, "show", "nobody").returncode == 1
    with Peer(broker.port, username="pump-1", password=shown) as peer:
        assert peer.client.is_connected()


def test_everybody_writes_as_little_as_will_do(secrets: Path, broker: Mosquitto) -> None:
    """The broker takes a message where it belongs to the user's work, and refuses all others."""
    command = "stream_detector/cmd/"
    tries = [
        *(TELEMETRY, ALERT, "stream_detector/status", f"{command}ack", f"{command}reload"),
        *(DISCOVERY, "homeassistant/status", "$SYS/broker/uptime"),
    ]
    allowed: dict[str, list[str]] = {}
    for user in (*OURS, *ADDED):
        with Peer(broker.port, **login(secrets, user)) as peer:
            answers: dict[str, bool] = {}
            peer.client.on_publish = lambda _c, _u, mid, code, _p, seen=answers: seen.update(
                {mid: not code.is_failure}
            )
            numbers = {}
            for topic in tries:
                sent = peer.client.publish(topic, b"", 1)
                sent.wait_for_publish(5)
                numbers[sent.mid] = topic
            allowed[user] = [topic for mid, topic in numbers.items() if answers[mid]]
    assert allowed == {
        "detector": [ALERT, "stream_detector/status", DISCOVERY],
        "simulator": [TELEMETRY],
        "node-red": [f"{command}ack"],
        "health": [],
        "operator": [f"{command}ack", f"{command}reload"],
        "home-assistant": [f"{command}ack", DISCOVERY, "homeassistant/status"],
        "pump-1": [TELEMETRY],
        "pump-2": [],
    }


def test_everybody_reads_as_little_as_will_do(secrets: Path, broker: Mosquitto) -> None:
    """Of telemetry, alerts, commands and discovery each user hears what its work is."""
    state, command = "stream_detector/state/plant/pump-1", "stream_detector/cmd/reload"
    with ExitStack() as stack:
        listeners = {
            user: stack.enter_context(Peer(broker.port, **login(secrets, user))) for user in (*OURS, *ADDED)
        }
        for listener in listeners.values():
            listener.subscribe("#")
        for user, topic in (
            *(("pump-1", TELEMETRY), ("detector", ALERT), ("detector", state), ("operator", command)),
            *(("detector", DISCOVERY), ("home-assistant", "homeassistant/status")),
        ):
            listeners[user].publish(topic, b"1")
        for listener in listeners.values():
            listener.subscribe("fence")  # what was to come, came before this answer
        heard = {user: [message.topic for message in peer.messages] for user, peer in listeners.items()}
    assert heard == {
        "detector": [TELEMETRY, command, "homeassistant/status"],
        "simulator": [],
        "node-red": [ALERT, state],
        "health": [],
        "operator": [TELEMETRY, ALERT, state, command],
        "home-assistant": [ALERT, state, DISCOVERY, "homeassistant/status"],
        "pump-1": [],
        "pump-2": [],
    }


def test_a_command_is_answered_where_the_flow_listens(secrets: Path, broker: Mosquitto) -> None:
    """What Node-RED asks reaches the detector with its response topic, and the answer comes back."""
    with (
        Peer(broker.port, **login(secrets, "detector")) as detector,
        Peer(broker.port, **login(secrets, "node-red")) as flow,
    ):
        detector.subscribe("stream_detector/cmd/#")
        flow.subscribe("stream_detector/reply/#")
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = "stream_detector/reply/ack"
        flow.publish("stream_detector/cmd/ack", json.dumps({"transaction": "1"}), properties=properties)
        asked = detector.wait_for(lambda messages: messages)[0]
        detector.publish(asked.properties.ResponseTopic, b"yes")  # type: ignore[union-attr]
        assert flow.wait_for(lambda messages: messages)[0].payload == b"yes"


def test_check_finds_nothing_to_complain_of(secrets: Path, broker: Mosquitto) -> None:
    """The detector's login may do all that the service does, and the queue is long enough."""
    settings = BrokerSettings.model_validate({"url": broker.url, **login(secrets, "detector")})
    streams = {"plant": (TopicPattern.parse("plant/{site}/{device}/telemetry"), 1)}
    findings = list(BrokerCheck(settings, "stream_detector", streams).examine())
    assert {found.what for found in findings if found.level in {"FAIL", "warn"}} <= {"software"}, findings


def test_the_health_check_of_the_broker_tells_life_from_death(secrets: Path, broker: Mosquitto) -> None:
    """The command of compose.yaml succeeds while the broker answers, and fails when it does not."""
    kind, command = compose()["services"]["mosquitto"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    command = filled_in(command).replace("/secrets/", f"{secrets}/")
    command = command.replace("mosquitto_sub", f"mosquitto_sub -p {broker.port}")

    def healthy() -> bool:
        return subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False).returncode == 0

    assert healthy()
    broker.freeze()
    try:
        assert not healthy()
    finally:
        broker.thaw()
