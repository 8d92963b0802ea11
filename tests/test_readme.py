"""What the pages tell people to type works: README.md, docs/, CHANGELOG.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import typer
import yaml

from stream_detector.cli import app
from stream_detector.mqtt.broker import EmbeddedBroker
from stream_detector.settings import validate
from tests.brokers import free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).with_name("stream-detector")
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.exists()
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[Path, str]]:
    """Return all code blocks of a language."""
    return [
        (path, text)
        for path in PAGES
        for found, text in FENCE.findall(path.read_text(encoding="utf-8"))
        if found == language
    ]


def named(language: str) -> list[object]:
    """Return the blocks as parameters of a test."""
    return [
        pytest.param(text, id=f"{path.name}-{k}") for k, (path, text) in enumerate(blocks(language), start=1)
    ]


@pytest.mark.parametrize("text", named("yaml"))
def test_every_block_of_configuration_loads(text: str) -> None:
    """A configuration that a page shows is one that the service takes."""
    assert validate(yaml.safe_load(text), where="page").streams


@pytest.mark.parametrize("text", named("json"))
def test_every_json_block_is_json(text: str) -> None:
    """A payload that a page shows can be read."""
    assert msgspec.json.decode(text)


def commands() -> Iterator[tuple[Path, list[str]]]:
    """Yield every `stream-detector …` that a shell block has."""
    for path, text in blocks("sh"):
        for line in text.splitlines():
            if line.startswith(".venv/bin/stream-detector "):
                yield path, line.split()[1:]


def test_commands_in_the_pages_exist() -> None:
    """Every command and option that a page tells to type is there."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    seen = 0
    for path, words in commands():
        options = {name for parameter in known[words[0]].params for name in parameter.opts}
        strange = [word for word in words if word.startswith("-") and word not in options]
        assert not strange, f"{path.name}: {' '.join(words)}"
        seen += 1
    assert seen >= 2


def test_make_targets_in_the_pages_exist() -> None:
    """Every `make` that a page tells to type has a target."""
    targets = set(
        re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for path in PAGES:
        told = set(re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert told <= targets, path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository finds it."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_own_sensor_in_five_minutes(tmp_path: Path) -> None:
    """The README's configuration and its script give the alert that the README shows."""
    script = next(text for path, text in blocks("python") if path.name == "README.md")
    config = next(text for path, text in blocks("yaml") if path.name == "README.md")
    with EmbeddedBroker() as broker:
        http = free_port()
        config += f"broker: {{url: {broker.url('3.1.1')}}}\nhttp: {{listen: '127.0.0.1:{http}'}}\n"
        (tmp_path / "sensors.yaml").write_text(config, encoding="utf-8")
        run = [str(COMMAND), "run", "--config", "sensors.yaml"]
        log_file = tmp_path / "log"
        with log_file.open("wb") as log:
            service = subprocess.Popen(run, cwd=tmp_path, stderr=log)
        try:
            wait_for(
                lambda: b"subscribed to" in log_file.read_bytes() or service.poll() is not None, timeout_s=60
            )
            assert service.poll() is None, log_file.read_text(encoding="utf-8")
            here = script.replace("1883", str(broker.port))
            shown = subprocess.run(
                [sys.executable, "-c", here], capture_output=True, text=True, check=True, timeout=60
            ).stdout
        finally:
            service.terminate()
            assert service.wait(15) == 0
    topic, _, payload = shown.splitlines()[0].partition(" ")
    alert = msgspec.json.decode(payload)
    assert topic == "stream_detector/alert/ovens/oven-1"
    assert (alert["event"], alert["kind"], alert["severity"]) == ("raise", "point", "critical")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert alert["reason"].partition("expected")[0] in readme


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run docs/generate.py."""
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_generated_pages_are_current() -> None:
    """docs/reference says what the code says."""
    found = generate("--check")
    assert found.returncode == 0, found.stderr


def test_a_page_that_is_not_current_is_named(tmp_path: Path) -> None:
    """`--check` finds a page that was changed by hand or is missing, and names it; writing mends both."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "generate.py").write_text(
        (ROOT / "docs/generate.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    script = [sys.executable, str(folder / "generate.py")]
    subprocess.run(script, check=True, timeout=60)
    with (folder / "reference/metrics.md").open("a", encoding="utf-8") as page:
        page.write("by hand\n")
    (folder / "reference/alerts.md").unlink()
    found = subprocess.run([*script, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 1
    told = found.stderr.splitlines()
    assert [line.split()[0] for line in told] == ["docs/reference/metrics.md", "docs/reference/alerts.md"]
    subprocess.run(script, check=True, timeout=60)
    subprocess.run([*script, "--check"], check=True, timeout=60)


def test_a_wrong_argument_is_answered_with_the_usage() -> None:
    """Anything but `--check` gives the usage and exit code 2."""
    found = generate("--write")
    assert found.returncode == 2
    assert "--check" in found.stderr
