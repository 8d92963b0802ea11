"""A configuration that cannot work ends the service at once, in one sentence and with exit code 2."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stream_detector.mqtt.broker import EmbeddedBroker

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {
    "broker": "{url: mqtt://127.0.0.1:1883}",
    "streams": "{pumps: {topic: 'plant/{device}'}}",
    "http": "{listen: '127.0.0.1:0'}",
}


def refused(folder: Path, *, code: int = 2, **changed: str) -> str:
    """Run the service with a configuration; return its one sentence."""
    text = "".join(f"{key}: {value}\n" for key, value in {**GOOD, **changed}.items())
    (folder / "config.yaml").write_text(text)
    return run(folder, code=code)


def run(folder: Path, *, code: int = 2) -> str:
    """Run the service; return its one sentence."""
    ended = subprocess.run(
        [sys.executable, "-m", "stream_detector", "run"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("stream-detector: ")
    return line.removeprefix("stream-detector: ")


def test_no_file(tmp_path: Path) -> None:
    """The sentence names the file and the option."""
    assert run(tmp_path) == (
        "config.yaml: there is no such file; name your configuration with --config, or copy config.yaml"
    )


def test_an_unknown_key(tmp_path: Path) -> None:
    """The sentence names file, line, key, and what is legal."""
    sentence = refused(tmp_path, topics="{bsae: x}")
    assert sentence == "config.yaml, line 4: topics.bsae: there is no such key; legal are base"


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    """The sentence names the stream's key and the folder."""
    sentence = refused(tmp_path, streams="{pumps: {topic: 'plant/{device}', model: fine}}")
    assert sentence.startswith("streams.pumps.model: ")
    assert "models/fine" in sentence


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The sentence names http.listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sentence = refused(tmp_path, http=f"{{listen: '127.0.0.1:{taken.getsockname()[1]}'}}")
    assert sentence.startswith("http.listen: 127.0.0.1:")


def test_the_embedded_brokers_port_is_taken(tmp_path: Path) -> None:
    """The sentence names the key that uses the broker which is there."""
    with EmbeddedBroker() as other:
        sentence = refused(tmp_path, broker=f"{{url: 'embedded://127.0.0.1:{other.port}'}}")
        assert f"broker.url: mqtt://127.0.0.1:{other.port}" in sentence


@pytest.mark.parametrize("text", ["a file", None])
def test_a_state_dir_that_cannot_be_used(text: str | None, tmp_path: Path) -> None:
    """The sentence names state_dir and the folder."""
    if text is None:
        (tmp_path / "state" / "instance").mkdir(parents=True)
    else:
        (tmp_path / "state").write_text(text)
    sentence = refused(tmp_path, code=3)
    assert sentence.startswith("state_dir state cannot be used (")
