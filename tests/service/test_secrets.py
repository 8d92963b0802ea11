"""A password or token that is planted in the configuration is found nowhere else, whatever goes wrong."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stream_detector.errors import ConfigurationError
from stream_detector.settings import Settings, validate
from tests.brokers import Mosquitto, Peer, free_port, wait_for
from tests.service.running import RunningService

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSWORD = "planted-passw0rd-7f3a"  # noqa: S105 - that is what is looked for
TOKEN = "planted-t0ken-91cc"  # noqa: S105
SECRETS = (PASSWORD, TOKEN)
STREAMS = {"pumps": {"topic": "plant/{device}"}}
SOURCES = ["config", "file", "environment"]


def found_in(text: str | bytes) -> list[str]:
    """Return the secrets that stand in a text, as they are or as base64."""
    data = text.encode() if isinstance(text, str) else text
    shapes = {secret: (secret.encode(), base64.b64encode(secret.encode())[:-4]) for secret in SECRETS}
    return [secret for secret, shapes_of in shapes.items() if any(shape in data for shape in shapes_of)]


@pytest.fixture(params=SOURCES)
def planted(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Any]]:
    """Plant both secrets in one of the ways there are; return the sections `broker` and `http`."""
    broker: dict[str, Any] = {"username": "detector"}
    http: dict[str, Any] = {"listen": "127.0.0.1:0"}
    if request.param == "config":
        broker["password"], http["token"] = PASSWORD, TOKEN
    elif request.param == "file":
        for section, key, secret in ((broker, "password_file", PASSWORD), (http, "token_file", TOKEN)):
            file = tmp_path / key
            file.write_text(secret + "\n")
            file.chmod(0o600)
            section[key] = str(file)
    else:
        monkeypatch.setenv("STREAM_DETECTOR__BROKER__PASSWORD", PASSWORD)
        monkeypatch.setenv("STREAM_DETECTOR__HTTP__TOKEN", TOKEN)
    return {"broker": broker, "http": http}


@pytest.mark.mosquitto
def test_a_service_that_runs_tells_nobody(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto], planted: dict[str, dict[str, Any]]
) -> None:
    """Log at debug, metrics, health, every message it publishes and every file that it keeps."""
    users = {"detector": PASSWORD, "joe": "joe"}
    broker = start_mosquitto(passwords=users)
    planted["broker"]["url"] = broker.url
    service = RunningService(tmp_path / "service", streams=STREAMS, log_level="debug", **planted)
    with Peer(broker.port, username="joe", password="joe") as peer, service:  # noqa: S106
        peer.subscribe("#")
        service.wait_ready()
        service.wait_online()
        for payload in (b"garbage", b'{"values": {"x": "y"}}', *[b'{"values": {"x": 1}}'] * 20):
            peer.publish("plant/pump-1", payload)
        service.wait_for_count("readings_accepted_total", 20)
        peer.wait_for(lambda messages: sum("/deadletter/" in message.topic for message in messages) == 2)
        pages = [service.get(path)[1] for path in ("/metrics", "/readyz", "/livez", "/nowhere")]
        service.stop()
        messages = b"\n".join(message.payload + message.topic.encode() for message in peer.messages)
    kept = b"\n".join(path.read_bytes() for path in (service.folder / "state").rglob("*") if path.is_file())
    assert b"pump-1" in kept
    assert b"stream_detector/info" in messages
    for text in (service.log(), *pages, messages, kept):
        assert found_in(text) == []


@pytest.mark.mosquitto
def test_a_service_that_is_not_let_in_tells_nobody(
    tmp_path: Path, start_mosquitto: Callable[..., Mosquitto], planted: dict[str, dict[str, Any]]
) -> None:
    """A refused login is told in the log, on /readyz and by `check`: without what was refused."""
    broker = start_mosquitto(passwords={"detector": "another"})
    planted["broker"]["url"] = broker.url
    service = RunningService(tmp_path / "service", streams=STREAMS, log_level="debug", **planted)
    with service:
        wait_for(lambda: "check broker.username" in str(service.reasons()))
        wait_for(lambda: "check broker.username" in service.log())
        page = service.get("/readyz")[1]
        service.stop()
    for text in (service.log(), page):
        assert found_in(text) == []


@pytest.mark.mosquitto
@pytest.mark.parametrize("right", [PASSWORD, "another"])
def test_check_tells_nobody(
    tmp_path: Path,
    start_mosquitto: Callable[..., Mosquitto],
    planted: dict[str, dict[str, Any]],
    right: str,
) -> None:
    """--verbose shows everything that was found, and no secret, whether it finds faults or not."""
    broker = start_mosquitto(passwords={"detector": right})
    planted["broker"]["url"] = broker.url
    done = command(tmp_path, "check", "--verbose", streams=STREAMS, **planted)
    assert done.returncode == (0 if right == PASSWORD else 1), done.stdout + done.stderr
    assert found_in(done.stdout + done.stderr) == []


CRASH = """
import sys
from stream_detector.service import assembly as service
from stream_detector.cli import main
def crash(self):
    raise RuntimeError(f"{self.settings!r} {self.settings} {self.settings.broker} {self.settings.http}")
service.Service.run = crash
sys.argv = ["stream-detector", "run"]
main()
"""


def test_a_crash_tells_nobody(tmp_path: Path, planted: dict[str, dict[str, Any]]) -> None:
    """An error that nobody expected, with all settings in its text, shows no secret."""
    planted["broker"]["url"] = f"mqtt://127.0.0.1:{free_port()}"
    write(tmp_path, streams=STREAMS, **planted)
    done = subprocess.run(
        [sys.executable, "-c", CRASH], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "this should not happen (RuntimeError: Settings(" in done.stderr
    assert "detector" in done.stderr
    assert found_in(done.stdout + done.stderr) == []


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({"broker": {"url": f"mqtt://joe:{PASSWORD}@broker"}}, id="a login in the URL"),
        pytest.param({"broker": {"url": f"mqtt://{PASSWORD}@broker:70000"}}, id="and a bad port"),
        pytest.param({"broker": {"url": f"smoke://{PASSWORD}"}}, id="a scheme that is none"),
        pytest.param({"broker": f"mqtt://joe:{PASSWORD}@broker"}, id="a URL where a section belongs"),
        pytest.param({"broker": [PASSWORD]}, id="a list where a section belongs"),
        pytest.param({"broker": {"password": PASSWORD}}, id="a password without a user"),
        pytest.param({"broker": {"username": "joe", "password": [PASSWORD]}}, id="a password in a list"),
        pytest.param({"broker": {"username": "joe", "passwort": PASSWORD}}, id="a misspelt key"),
        pytest.param(
            {"broker": {"username": "joe", "password": PASSWORD, "password_file": "p"}},
            id="both ways at once",
        ),
        pytest.param({"broker": {"username": "joe", "password": PASSWORD * 4000}}, id="too long"),
        pytest.param({"broker": {"username": "joe", "password_file": {PASSWORD: 1}}}, id="no path"),
        pytest.param({"http": {"token": TOKEN, "token_file": "t"}}, id="two tokens"),
        pytest.param({"http": {"token": {TOKEN: TOKEN}}}, id="a token that is a mapping"),
        pytest.param({"http": {"listen": "0.0.0.0:1", "tokn": TOKEN}}, id="a misspelt token"),
        pytest.param({"http": TOKEN}, id="a token where a section belongs"),
    ],
)
def test_a_configuration_that_is_refused_shows_none(sections: dict[str, Any]) -> None:
    """The sentence names the key, never what stood there."""
    with pytest.raises(ConfigurationError) as refused:
        validate({"streams": STREAMS, **sections}, where="config.yaml")
    assert found_in(str(refused.value) + repr(refused.value)) == []
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER", f'{{"username": "joe", "password": "{PASSWORD}"'),
        ("BROKER", f'{{"username": "joe", "passwort": "{PASSWORD}"}}'),
        ("BROKER__URL", f"mqtt://joe:{PASSWORD}@broker"),
        ("BROKER__PASSWORD", PASSWORD),
        ("HTTP", TOKEN),
        ("HTTP__TOKEN__X", TOKEN),
    ],
)
def test_an_environment_that_is_refused_shows_none(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the sentence on a variable show what it holds."""
    monkeypatch.setenv(f"STREAM_DETECTOR__{name}", value)
    with pytest.raises(ConfigurationError) as refused:
        validate({"streams": STREAMS}, where="config.yaml")
    assert found_in(str(refused.value) + repr(refused.value)) == []


def test_settings_show_none(planted: dict[str, dict[str, Any]]) -> None:
    """Neither repr nor str, nor a dump in any form, holds a secret."""
    settings = validate({"streams": STREAMS, **planted}, where="config.yaml")
    assert isinstance(settings, Settings)
    assert settings.broker.read_password() == PASSWORD
    for section in (settings, settings.broker, settings.http):
        dumps = (repr(section), str(section), str(section.model_dump()), section.model_dump_json())
        assert found_in("".join(dumps)) == []
        assert found_in(json.dumps(section.model_dump(mode="json"))) == []


def write(folder: Path, **sections: Any) -> None:
    """Write a configuration."""
    (folder / "config.yaml").write_text(yaml.safe_dump(sections))


def command(folder: Path, *words: str, **sections: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of ours with a configuration."""
    write(folder, **sections)
    return subprocess.run(
        [sys.executable, "-m", "stream_detector", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
