"""The guides: their commands run, as far as they can without the machine that they are for.

For systemd and the Raspberry Pi, each block of shell runs in the order of the page, in a folder that stands
for the root of the file system. What talks to the machine itself (apt, systemctl) only notes that it was
called; what installs the packages is another test's (test_image.py), and finds them installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from stream_detector.settings import load
from tests.brokers import Mosquitto, free_port
from tests.peers.program import missing

from .composing import DEPLOY, IS_ROOT, compose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = DEPLOY.parent
FENCE = re.compile(r"(?ms)^```sh\n(.*?)^```")
NOTED = ("apt-get", "systemctl", "journalctl", "curl", "dpkg", "systemd-analyze")
AS_ROOT = 'sudo() { "$@"; }\n'


def blocks(page: str) -> list[str]:
    """Return the shell blocks of a page, in order."""
    return FENCE.findall((ROOT / "docs" / page).read_text())


class Machine:
    """A folder in the place of a machine's root, and what was asked of the machine."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.calls = folder / "calls"
        tools = folder / "tools"
        tools.mkdir(parents=True)
        for name in ("opt/stream-detector/bin", "etc/mosquitto", "etc/systemd/system", "run"):
            (self.root / name).mkdir(parents=True)
        entry = self.root / "opt/stream-detector/bin/stream-detector"
        entry.symlink_to(Path(sys.executable).with_name("stream-detector"))
        for name in NOTED:
            self._tool(tools / name, f'echo "{name} $*" >> {self.calls}')
        # Debian's package makes the user and group mosquitto
        self._tool(tools / "chown", f'echo "chown $*" >> {self.calls}')
        given = "case $1 in -o) shift 4;; esac"
        self._tool(tools / "install-as", f'mode="$1 $2"; shift 2; {given}; exec install $mode "$@"')
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}:/usr/sbin"}
        self.calls.touch()

    @staticmethod
    def _tool(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, block: str, typed: str = "") -> str:
        """Run a block as the guide says, in the checkout; return what it printed."""
        for place in ("/opt/", "/etc/", "/run/"):
            block = re.sub(rf"(?<![\w/.]){place}", f"{self.root}{place}", block)
        block = re.sub(r"sh deploy/build-image\.sh (\w+) \S+", r"sh -n deploy/build-image.sh", block)
        block = re.sub(r"install (-m \d+ -o)", r"install-as \1", block)
        done = subprocess.run(
            ["/bin/bash", "-euc", AS_ROOT + block],
            cwd=ROOT,
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def said_to(self, program: str) -> list[str]:
        """Return the words of each call of a program that talks to the machine."""
        calls = self.calls.read_text().splitlines()
        return [call.partition(" ")[2] for call in calls if call.startswith(f"{program} ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Give an empty machine."""
    return Machine(tmp_path / "machine")


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """Assert that a guide writes nothing into the checkout."""
    names = {path.name for path in (ROOT, DEPLOY) for path in path.iterdir()}
    yield
    assert {path.name for path in (ROOT, DEPLOY) for path in path.iterdir()} <= names


@pytest.mark.mosquitto
@pytest.mark.usefixtures("nothing_left_behind")
def test_the_guide_for_systemd_can_be_followed(
    machine: Machine, start_mosquitto: Callable[..., Mosquitto]
) -> None:
    """Configuration, secret and unit stand where the unit looks for them, and `check` is content."""
    broker = start_mosquitto(passwords={"detector": "word"})
    checked = ""
    for block in blocks("systemd.md"):
        local = block.replace("mqtt://127.0.0.1:1883", broker.url)
        if " check --config" in block:
            local = local.replace(
                "sudo env", f"sudo env STREAM_DETECTOR__HTTP__LISTEN=127.0.0.1:{free_port()}"
            )
            checked = machine.run(local)
        else:
            machine.run(local, typed="word\n" if "/dev/stdin" in block else "")
    assert "FAIL" not in checked
    assert "broker" in checked
    config, secret = (
        machine.root / "etc/stream-detector" / name for name in ("config.yaml", "broker-password")
    )
    assert load(config).broker.username == "detector"
    assert [oct(path.stat().st_mode & 0o777) for path in (config, secret)] == ["0o644", "0o600"]
    unit = machine.root / "etc/systemd/system/stream-detector.service"
    assert unit.read_text() == (DEPLOY / "systemd" / unit.name).read_text()
    assert f"--config {Path('/') / config.relative_to(machine.root)}" in unit.read_text()
    assert f"LoadCredential=broker-password:/{secret.relative_to(machine.root)}" in unit.read_text()
    assert "enable --now stream-detector" in machine.said_to("systemctl")


@pytest.mark.mosquitto
@pytest.mark.usefixtures("nothing_left_behind")
def test_the_guide_for_the_raspberry_pi_can_be_followed(machine: Machine, tmp_path: Path) -> None:
    """Debian's Mosquitto starts with what the guide lays down, `check` is content, and a reading is taken."""
    if shutil.which("mosquitto_passwd") is None:
        missing("Mosquitto is not installed (Debian: apt install mosquitto)")
    broker = Mosquitto(tmp_path / "broker")
    checked = ""
    try:
        for block in blocks("raspberry-pi.md"):
            port = f"mqtt://127.0.0.1:{broker.port}"
            local = block.replace("mqtt://127.0.0.1:1883", port)
            local = local.replace("mosquitto_pub ", f"mosquitto_pub -p {broker.port} ")
            # nothing answers there: the unit is not started here
            local = local.replace("| grep readings_accepted_total", "")
            local = local.replace(
                "sudo env", f"sudo env STREAM_DETECTOR__HTTP__LISTEN=127.0.0.1:{free_port()}", 1
            )
            if "mosquitto_passwd" in block:
                machine.run(local)
                text = (machine.root / "etc/mosquitto/mosquitto.conf").read_text()
                text = text.replace("/etc/mosquitto/", f"{machine.root}/etc/mosquitto/")
                text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/broker/")
                text = text.replace("listener 1883", f"listener {broker.port}")
                (tmp_path / "broker" / "mosquitto.conf").write_text(f"user root\n{text}")
                assert "autosave_interval 60\n" in text
                broker.start()
            else:
                checked += machine.run(local)
    finally:
        broker.stop()
    assert "ok    canary" in checked
    assert "FAIL" not in checked
    assert "--print-architecture" in machine.said_to("dpkg")
    assert {"restart mosquitto", "enable --now stream-detector"} <= set(machine.said_to("systemctl"))
    log = (tmp_path / "broker" / "log").read_text()
    assert "as pump-017" in log or "u'pump-017'" in log


def test_the_guide_for_docker_names_what_is_there() -> None:
    """Each `docker compose` command names services, profiles and files that exist."""
    lines = [
        shlex.split(line, comments=True)
        for block in blocks("docker.md")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    commands = [words[words.index("compose") + 1 :] for words in lines if words[:2] == ["docker", "compose"]]
    assert len(commands) > 10
    for words in commands:
        file = words[words.index("-f") + 1] if "-f" in words else "compose.yaml"
        services = compose(file)["services"]
        profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
        if "--profile" in words:
            assert words[words.index("--profile") + 1] in profiles
        named = next((verb for verb in ("exec", "run", "logs", "build") if verb in words), None)
        if named:
            rest = [word for word in words[words.index(named) + 1 :] if not word.startswith("-")]
            assert set(rest) & services.keys(), words
        if "--force-recreate" in words:
            assert set(words[words.index("--force-recreate") + 1 :]) <= services.keys()


@pytest.mark.usefixtures("nothing_left_behind")
def test_the_secrets_of_the_minimal_plant_are_made_as_the_guide_says() -> None:
    """Two files that user 10001 alone can read, and an .env with the variables that the file asks for."""
    if not IS_ROOT:
        missing("files are given to user 10001 by root only")
    block = next(block for block in blocks("docker.md") if ".env.example" in block)
    with tempfile.TemporaryDirectory() as here:
        shutil.copy(DEPLOY / ".env.example", here)
        subprocess.run(["/bin/bash", "-euc", AS_ROOT + block], cwd=here, check=True)
        made = compose("compose.minimal.yaml")["secrets"].values()
        for secret in made:
            status = (Path(here) / secret["file"]).stat()
            assert (oct(status.st_mode & 0o777), status.st_uid) == ("0o400", 10001)
            assert status.st_size > 8
        said = dict(
            line.split("=", 1)
            for line in (Path(here) / ".env").read_text().splitlines()
            if not line.startswith("#")
        )
    text = (DEPLOY / "compose.minimal.yaml").read_text()
    assert said.keys() == set(re.findall(r"\$\{(\w+):", text))
    assert yaml.safe_load(text)
