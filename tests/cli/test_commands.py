"""The command line as a person uses it: real processes, real brokers, words and exit codes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stream_detector.cli import replay
from stream_detector.errors import BrokerError
from stream_detector.outputs.messages import Publication
from tests.brokers import PATIENCE_S, Mosquitto, Peer, free_port, wait_for
from tests.ports import usual_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream_detector.mqtt.broker import EmbeddedBroker

COMMAND = (sys.executable, "-m", "stream_detector")


def run(*words: object, cwd: Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a traceback is a defect, whatever the test is about."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def history(folder: Path, *, spike_at: int | None = None, rows: int = 400) -> Path:
    """Write a recording of two channels, a second apart, with a spike if wanted."""
    lines = ["ts,temperature,pressure"]
    for k in range(rows):
        swing = math.sin(k / 5)
        odd = 30 if k == spike_at else 0
        lines.append(f"{1767225600 + k},{20 + swing + odd:.3f},{3 + 0.1 * swing:.4f}")
    path = folder / "history.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def configuration(folder: Path, port: int, model: str = "default") -> Path:
    """Write a configuration for the channels of `history`."""
    path = folder / "config.yaml"
    path.write_text(
        f"broker: {{url: 'mqtt://127.0.0.1:{port}'}}\n"
        "streams:\n"
        "  lines:\n"
        "    topic: hall/{device}\n"
        "    channels: {temperature: {unit: °C}, pressure: {}}\n"
        f"    model: {model}\n"
        f"http: {{listen: '127.0.0.1:{free_port()}'}}\n"
    )
    return path


def test_replay_prints_the_alerts_of_a_recording(tmp_path: Path) -> None:
    """A spike in a recording is raised at its time, with its reason, and cleared."""
    done = run("replay", history(tmp_path, spike_at=300), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    raised, cleared = done.stdout.splitlines()
    assert raised.startswith("2026-01-01 00:05:00  RAISED   history  point critical score")
    assert "temperature 49" in raised
    assert cleared.startswith("2026-01-01 00:05:10  CLEARED")
    assert "400 readings of 1 devices, channels temperature, pressure" in done.stderr


def test_replay_gives_alert_events_as_json_lines(tmp_path: Path) -> None:
    """The lines are the events that the live service would have published."""
    done = run("replay", history(tmp_path, spike_at=300), "--json", cwd=tmp_path)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["raise", "clear"]
    assert {event["schema"] for event in events} == {"stream_detector.alert/1"}
    assert {event["started_at"] for event in events} == {"2026-01-01T00:05:00.000000Z"}


def test_replay_publishes_on_a_broker(tmp_path: Path, broker: Mosquitto | EmbeddedBroker) -> None:
    """With --broker the alerts go where Node-RED can hear them, and nothing is printed."""
    with Peer(broker.port, mqtt5=False) as listener:
        listener.subscribe("stream_detector/alert/#")
        done = run(
            "replay",
            history(tmp_path, spike_at=300),
            "--broker",
            f"mqtt://127.0.0.1:{broker.port}",
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stdout
        came = listener.wait_for(lambda messages: len(messages) >= 2)
        assert {message.topic for message in came} == {"stream_detector/alert/replay/history"}


def _refuse(_: Mosquitto) -> None:
    """Do nothing: its access rules do."""


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("act", "acl", "sentence"),
    [
        (_refuse, "topic read #\n", "refuses what we publish; allow our login to write stream_detector/#"),
        (Mosquitto.stop, None, "127.0.0.1"),
        (Mosquitto.freeze, None, "confirms none of 1 messages"),
    ],
)
def test_replay_ends_where_the_broker_takes_nothing(
    start_mosquitto: Callable[..., Mosquitto],
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Mosquitto], None],
    acl: str | None,
    sentence: str,
) -> None:
    """Refused, gone or frozen: it waits for a while without any progress, then says what is wrong."""
    monkeypatch.setattr(replay, "PATIENCE_S", 1.0)
    mosquitto = start_mosquitto(acl=acl)
    settings, _ = replay.settings_for(None, None, mosquitto.url)
    send = replay._sender(settings)
    act(mosquitto)
    send([Publication("stream_detector/alert/replay/a", b"{}")])
    with pytest.raises(BrokerError, match=re.escape(sentence)):
        send(None)


@pytest.mark.mosquitto
def test_a_killed_replay_leaves_nothing_behind(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Its last will is empty, so that no broker keeps it."""
    words = ("replay", history(tmp_path), "--broker", mosquitto.url, "--speed", "0.001")
    with Peer(mosquitto.port, mqtt5=False) as listener:
        listener.subscribe("stream_detector/#")
        process = subprocess.Popen([*COMMAND, *map(str, words)], cwd=tmp_path, stderr=subprocess.DEVNULL)
        wait_for(lambda: "as stream-detector-replay-" in mosquitto.log(), what="it is connected")
        process.kill()
        process.wait(PATIENCE_S)
        (will,) = listener.wait_for(lambda messages: len(messages) >= 1)
    assert (will.topic, will.payload) == ("stream_detector/replay/status", b"")


def test_what_train_makes_check_loads_and_replay_uses(
    tmp_path: Path, broker: Mosquitto | EmbeddedBroker
) -> None:
    """From a recording to a bundle to alerts, by what the commands print."""
    config = configuration(tmp_path, broker.port, model="lines")
    words = ("train", "lines", "--data", history(tmp_path), "--config", config, "--contamination", "0.01")
    trained = run(*words, cwd=tmp_path, timeout_s=110)
    assert trained.returncode == 0, trained.stderr
    assert "iforest for stream lines, version 1" in trained.stdout
    assert (tmp_path / "models" / "lines" / "1" / "manifest.json").exists()
    checked = run("check", "--config", config, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert "lines version 1 loads and fits stream lines" in checked.stdout
    (tmp_path / "models" / "lines" / "2").mkdir()  # broken, as is passed over by the service
    replayed = run("replay", history(tmp_path, spike_at=300), "--config", config, "--json", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    assert "lines: version 2 is not used: " in replayed.stderr
    checked = run("check", "--config", config, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert "version 1 loads and fits stream lines (version 2 is not used: " in checked.stdout


def test_a_model_that_does_not_fit_is_said_by_check_as_by_run(tmp_path: Path) -> None:
    """The same sentence from both, with the key that would make it fit."""
    words = ("train", "lines", "--data", history(tmp_path), "--detector", "hbos")
    assert run(*words, cwd=tmp_path, timeout_s=110).returncode == 0
    config = configuration(tmp_path, free_port(), model="lines")
    config.write_text(config.read_text().replace("    model:", "    window: 20\n    model:"))
    said = [run(command, "--config", config, cwd=tmp_path) for command in ("check", "run")]
    assert [done.returncode for done in said] == [1, 2]
    for text in (said[0].stdout, said[1].stderr):
        assert re.search(r"streams\.lines\.model: model 'lines' .* Set streams\.lines\.window: \d+", text), (
            text
        )


def test_train_again_makes_the_next_version(tmp_path: Path) -> None:
    """A bundle is never overwritten."""
    for version in ("1", "2"):
        words = ("train", "lines", "--data", history(tmp_path), "--detector", "pca", "--output", "m")
        done = run(*words, cwd=tmp_path, timeout_s=110)
        assert f"version {version}" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("run", "--config", "nowhere.yaml"), 2, "nowhere.yaml: there is no such file"),
        (("replay", "nowhere.csv"), 1, "nowhere.csv: cannot be read"),
        (("train", "x", "--data", "nowhere.csv"), 1, "nowhere.csv: cannot be read"),
        (("train", "x", "--data", "history.csv", "--detector", "magic"), 2, "detector 'magic' is not known"),
        (("train", "x", "--data", "history.csv", "--features", "value,nope"), 2, "'nope' is no feature"),
        (("train", "x", "--data", "history.csv", "--contamination", "0.9"), 2, "contamination 0.9"),
        (("simulate", "--broker", "smoke://signals"), 2, "must begin with one of"),
        (("simulate", "--topic", "plant/{site}/{kind}"), 2, "with {device} in it"),
        (("simulate", "--topic", "plant/{device}/{0}"), 2, "with {device} in it"),
        (("simulate", "--broker", "mqtt://127.0.0.1:1"), 1, "127.0.0.1:1"),
        (("dance",), 2, "No such command 'dance'"),
    ],
)
def test_mistakes_end_in_a_sentence_and_the_right_exit_code(
    tmp_path: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    """2: usage or configuration, 1: failed while running."""
    history(tmp_path)
    done = run(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr


def test_simulate_publishes_the_plant(tmp_path: Path, broker: Mosquitto | EmbeddedBroker) -> None:
    """Canonical readings of three kinds of devices arrive, as many as it says."""
    with Peer(broker.port, mqtt5=False) as listener:
        listener.subscribe("plant/#")
        url = f"mqtt://127.0.0.1:{broker.port}"
        done = run("simulate", "--broker", url, "--devices", 6, "--rate", 10, "--duration", 2, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        published = int(re.search(r"(\d+) readings published", done.stderr)[1])  # type: ignore[index]
        came = listener.wait_for(lambda messages: len(messages) == published)
        assert {message.topic.split("/")[2] for message in came} == {"pumps", "freezers", "meters"}
        assert set(json.loads(came[0].payload)) >= {"ts", "seq", "values"}


def test_the_demo_finds_its_first_fault_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    """One command shows broker, plant and detector: an alert with its reason, and the addresses to join."""
    lines: list[str] = []
    with usual_ports():
        process = subprocess.Popen(
            [*COMMAND, "demo"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.split() == ["end", "Ctrl-C"]:  # the last line that says where it listens
                break
    for line in process.stdout:
        lines.append(line)
        if "CLEARED" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=PATIENCE_S)[0]
    text = "".join(lines) + rest
    assert process.returncode == 0, text
    assert "Traceback" not in text
    assert re.search(r"broker +127\.0\.0\.1:\d+ \(MQTT 3\.1\.1\)", text)
    assert re.search(r"metrics +http://127\.0\.0\.1:\d+/metrics", text)
    assert "24 devices found" in text
    assert re.search(r"RAISED +\w+/[\w-]+ point, critical, score [\d.]+: \w+ ", text)
    assert "alerts raised" in rest


def test_the_demo_takes_a_free_port_where_1883_is_taken(tmp_path: Path) -> None:
    """Somebody's own broker on the usual port is no reason to fail."""
    with usual_ports(), socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # taken by somebody else: as good
            taken.bind(("127.0.0.1", 1883))
            taken.listen()
        done = run("demo", "--duration", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    port = re.search(r"broker +127\.0\.0\.1:(\d+) ", done.stdout)
    assert port is not None
    assert port[1] not in {"0", "1883"}


def test_ctrl_c_while_it_is_still_importing_shows_nothing(tmp_path: Path) -> None:
    """Who changes their mind in the first moment sees no traceback."""
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "stream_detector", "demo"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == "importing\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE_S) == -signal.SIGINT
        assert program.stderr.read() == ""
