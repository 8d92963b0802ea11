"""Somebody who has nothing but the pages: every block that they tell to type is typed, in order.

What stands on a page for something else (an address, a port, a program that is installed already) is
replaced by a small table; the rest is literal. A fresh clone gets an environment of its own, so this
takes minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.brokers import free_port, wait_for
from tests.pages import DOCS, ROOT, blocks
from tests.peers.nodered import PROGRAM, NodeRed
from tests.peers.program import missing
from tests.ports import usual_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.brokers import Mosquitto
    from tests.pages import Block

pytestmark = [
    pytest.mark.stack,
    pytest.mark.mosquitto,
    pytest.mark.timeout(900),
]

STAYS = ("make demo", "run --config", "mosquitto_sub", "node-red")
"""Who types a line with one of these keeps a terminal for it."""
A_MINUTE_S = 60.0
INSTALLING_S = 600.0


class Terminal:
    """A window in which a command stays.

    Args:
        command: For bash.
        folder: Where it is typed.
        log: Gets what it prints.
        environment: Its variables.
    """

    def __init__(self, command: str, folder: Path, log: Path, environment: dict[str, str]) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                ["bash", "-ec", command],
                cwd=folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def screen(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def shows(self, pattern: str, timeout_s: float = A_MINUTE_S) -> re.Match[str]:
        """Return what matches on the screen once it is there."""
        wait_for(
            lambda: re.search(pattern, self.screen) or self.process.poll() is not None, timeout_s, pattern
        )
        found = re.search(pattern, self.screen)
        assert found, f"it ended without {pattern!r}:\n{self.screen[-3000:]}"
        return found

    def interrupt(self) -> str:
        """Press Ctrl-C, and return what was on the screen in the end."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return self.screen


@dataclass
class Newcomer:
    """Follows one page.

    Attributes:
        page: What to follow.
        folder: Where they are; a `cd` in a block moves them.
        replaced: What stands on the page -> what is meant here.
        environment: Variables of all that is typed.
        saved_as: The name of a configuration whose fence has no title.
    """

    page: Path
    folder: Path
    replaced: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    saved_as: str = ""
    terminals: list[Terminal] = field(default_factory=list)
    left: list[Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Open the page."""
        self.left = [block for block in blocks(self.page) if block.language in {"sh", "yaml"}]

    def follow(self, until: str) -> Terminal | str:
        """Do what the page tells, up to the block with these words; return its terminal, or its output."""
        while self.left:
            block = self.left.pop(0)
            result = self.save(block) if block.language == "yaml" else self.type(block.text)
            if until in block.text:
                return result
        raise AssertionError(f"{self.page.name} has no further block with {until!r}")

    def stay(self, until: str) -> Terminal:
        """Follow to a block whose command stays, and return its terminal."""
        terminal = self.follow(until)
        assert isinstance(terminal, Terminal)
        return terminal

    def save(self, block: Block) -> str:
        """Save a file that the page shows."""
        name = block.title or self.saved_as
        assert name, block
        (self.folder / name).write_text(self.meant(block.text), encoding="utf-8")
        return block.text

    def type(self, text: str) -> Terminal | str:
        """Type a block: what stays gets a terminal, what ends is waited for."""
        command = self.meant(text)
        ours = (
            "ARGS",
            "MAKEFLAGS",
            "MAKELEVEL",
            "MAKEOVERRIDES",
            "MFLAGS",
        )  # of the make that runs the tests
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        environment = {**inherited, **self.environment}
        moved = re.search(r"^cd (\S+)$", command, re.MULTILINE)
        folder = self.folder
        if moved:
            self.folder = self.folder / moved[1]
        if any(word in text for word in STAYS):
            log = folder / f"terminal-{len(self.terminals)}"
            self.terminals.append(Terminal(command, folder, log, environment))
            return self.terminals[-1]
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            timeout=INSTALLING_S,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"
        return done.stdout

    def meant(self, text: str) -> str:
        """Return a text of the page with what is meant here."""
        for written, meant in self.replaced.items():
            text = text.replace(written, meant)
        return text


@contextmanager
def newcomer(page: Path, folder: Path, **others: object) -> Iterator[Newcomer]:
    """Give somebody who follows a page, and close their terminals at the end."""
    person = Newcomer(page, folder, **others)  # type: ignore[arg-type]
    try:
        yield person
    finally:
        for terminal in person.terminals:
            terminal.interrupt()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with what this checkout has, also what is not committed yet."""
    if shutil.which("mosquitto_pub") is None:
        missing("mosquitto_pub is not installed (Debian: apt install mosquitto-clients)")
    folder = tmp_path_factory.mktemp("repository") / "stream_detector"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for arguments in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "as it is"]):
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which both pages are followed, so that the clone is made once."""
    return tmp_path_factory.mktemp("home")


def the_alert(line: str) -> dict[str, object]:
    """Return the alert in a line of mosquitto_sub -v."""
    alert: dict[str, object] = msgspec.json.decode(line.partition(" ")[2])
    return alert


def test_first_alert(repository: Path, home: Path, start_mosquitto: Callable[..., Mosquitto]) -> None:
    """docs/first-alert.md: clone, demo, Node-RED sees the alerts, own broker, own sensor, its alert."""
    if not PROGRAM.exists():
        missing("Node-RED is not installed (make stack installs it)")
    http, editor = free_port(), free_port()
    with ExitStack() as stack:
        person = stack.enter_context(
            newcomer(
                DOCS / "first-alert.md",
                home,
                replaced={
                    "https://git.example/stream_detector.git": str(repository),
                    "npx --yes node-red@4.1.10": f"node {PROGRAM}",
                },
                environment={"PORT": str(editor), "PYTHON": getattr(sys, "_base_executable", sys.executable)},
            )
        )

        with usual_ports():
            demo = person.stay("make demo")
            port = demo.shows(r"broker +127\.0\.0\.1:(\d+)", INSTALLING_S)[1]
        first = demo.shows(r"([\d.]+) s +RAISED")
        assert float(first[1]) < A_MINUTE_S, "the first alert comes within a minute"
        person.replaced |= {"-p 1883": f"-p {port}", "MQTT_PORT=1883": f"MQTT_PORT={port}"}

        listening = person.stay("mosquitto_sub")
        listening.shows("stream_detector/alert/.*\n")
        assert the_alert(listening.interrupt().splitlines()[0])["event"] in {"raise", "update", "clear"}

        person.stay("node-red").shows("Connected to broker")
        seen = see_alerts(person, editor)
        assert len(seen) == len(set(seen)), "each event once"
        for terminal in person.terminals:
            terminal.interrupt()
        assert "alerts raised" in demo.screen

        own = start_mosquitto()
        person.replaced |= {"-p 1883": f"-p {own.port}", "127.0.0.1:1883": f"127.0.0.1:{own.port}"}
        person.environment["STREAM_DETECTOR__HTTP__LISTEN"] = f"127.0.0.1:{http}"
        checked = person.follow("check --config")
        assert isinstance(checked, str)
        assert "sensors.yaml is valid; streams: ovens (sensors/{device})" in checked
        assert "FAIL" not in checked
        service = person.stay("run --config")
        service.shows(r"connected to 127.0.0.1:\d+ with MQTT 5, subscribed to sensors/\+")

        listening = person.stay("mosquitto_sub")
        listening.shows("stream_detector/status")
        person.follow("for i in")
        listening.shows(r'stream_detector/state/ovens/oven-1 .*"state":"warming_up"')
        listening.shows(r'stream_detector/state/ovens/oven-1 .*"state":"ok"')
        person.follow("260")
        line = listening.shows(r"stream_detector/alert/ovens/oven-1 .*\n")[0]
        alert = the_alert(line)
        assert (alert["event"], alert["kind"], alert["severity"]) == ("raise", "point", "critical")
        assert str(alert["reason"]) in (DOCS / "first-alert.md").read_text(encoding="utf-8")
        listening.shows('"kind":"silence"')
        assert not person.left, "every block of the page was typed"


def see_alerts(person: Newcomer, editor: int) -> list[tuple[str, int]]:
    """Watch the flow that runs, and return id and seq of the events that it has let through."""
    node_red = NodeRed(person.folder / "watching", flows=None)
    node_red.port = editor
    (node_red.folder / "log").symlink_to(person.terminals[-1]._log.absolute())
    node_red.deploy(node_red.flows())
    node_red.wait_for("every event", timeout_s=A_MINUTE_S)
    return [(message["payload"]["id"], message["payload"]["seq"]) for message in node_red.seen("every event")]


def test_readme(repository: Path, home: Path) -> None:
    """README.md: demo, own sensor, its alert, a model of one's own, and a newer one while it runs."""
    if not (home / "stream_detector").exists():
        subprocess.run(["git", "clone", "-q", repository, home / "stream_detector"], check=True)
    shutil.rmtree(home / "stream_detector" / "state", ignore_errors=True)  # what the other page has left
    port, http = free_port(), free_port()
    with newcomer(
        ROOT / "README.md",
        home / "stream_detector",
        replaced={
            "mosquitto_sub -v": f"mosquitto_sub -p {port} -v",
            "mosquitto_pub": f"mosquitto_pub -p {port}",
        },
        environment={"PYTHON": getattr(sys, "_base_executable", sys.executable)},
        saved_as="sensors.yaml",
    ) as person:
        with usual_ports():
            demo = person.stay("make demo")
            demo.shows(r"broker +127\.0\.0\.1", INSTALLING_S)
        demo.shows("RAISED")
        demo.interrupt()

        person.environment |= {
            "STREAM_DETECTOR__BROKER__URL": f"embedded://127.0.0.1:{port}",
            "STREAM_DETECTOR__HTTP__LISTEN": f"127.0.0.1:{http}",
        }
        service = person.stay("run --config")
        service.shows(r"subscribed to sensors/\+")
        listening = person.stay("mosquitto_sub")
        person.follow("260")
        alert = the_alert(listening.shows(r"stream_detector/alert/ovens/oven-1 .*\n")[0])
        assert (alert["event"], alert["kind"], alert["severity"]) == ("raise", "point", "critical")
        service.shows("raise point ovens/oven-1 critical")
        service.shows("raise silence ovens/oven-1")

        trained = person.follow("train ovens")
        assert isinstance(trained, str)
        assert "models/ovens/1: iforest for stream ovens, version 1" in trained
        service.interrupt()
        person.follow("model: ovens")
        service = person.type(".venv/bin/stream-detector run --config sensors.yaml")
        assert isinstance(service, Terminal)
        service.shows("ovens is now scored by model ovens version 1")
        person.type(
            ".venv/bin/stream-detector train ovens --data history.csv --detector ecod --output models/"
        )
        service.shows("ovens is now scored by model ovens version 2")
        assert not [block for block in person.left if block.language == "sh"], "every block was typed"
