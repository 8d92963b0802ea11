"""The image, built and started without a container engine: by its own scripts, in a mount namespace.

A process started here has what a container of compose.yaml has: the image's variables and its user, a root
file system that it cannot write, a /tmp of its own without the right to execute, and no capability.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.brokers import PATIENCE_S
from tests.peers.program import missing

from .composing import DEPLOY, IS_ROOT, image_environment, instructions

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).with_name("contain.sh")
UID = 10001
BUILD_S = 300


def python_of_the_image() -> str:
    """Return what to put in the place of /usr/local, so that python3 there is of the image's version."""
    version = instructions("FROM")[-1].removeprefix("python:").split("-")[0]
    found = shutil.which(f"python{version}") or "python3"
    told = subprocess.run(
        [found, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, check=False
    )
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*"))
    if told.returncode:  # a shim of a version manager that has it, but not switched on
        return str(pyenv[-1]) if pyenv else "-"
    prefix = told.stdout.decode().strip()
    return "-" if prefix in {"/usr", "/usr/local"} else prefix


class Image:
    """The image, built from what the Dockerfile copies, in a folder."""

    def __init__(self, folder: Path) -> None:
        if not IS_ROOT:
            missing("a file system like a container's can be put together by root only")
        self.folder = folder
        self.python = python_of_the_image()
        source = folder / "source"
        for line in instructions("COPY"):
            *names, target = line.split()
            if line.startswith("--from"):
                continue
            for name in names:
                place = source / target / (Path(name).name if target.endswith("/") else "")
                place.parent.mkdir(parents=True, exist_ok=True)
                if (DEPLOY.parent / name).is_dir():
                    hidden = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(DEPLOY.parent / name, place, ignore=hidden)
                else:
                    shutil.copy(DEPLOY.parent / name, place)
        for name in ("etc", "secrets", "data"):
            (folder / name).mkdir()
        os.chown(folder / "data", UID, UID)
        done = subprocess.run(
            ["unshare", "--mount", "/bin/sh", SCRIPT, "build", self.python, folder],
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def kernels(self) -> dict[str, bytes]:
        """The kernels that were compiled with it, by their names."""
        return files_of(self.folder / "image" / "kernels")

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> Container:
        """Start its entry with these words, as a container would."""
        entry = [word.strip(' "') for word in instructions("ENTRYPOINT")[0].strip("[]").split(",")]
        variables = {**image_environment(), **(environment or {})}
        command = [
            *("unshare", "--mount", "/bin/sh", SCRIPT, "run", self.python, self.folder, str(UID)),
            *("env", "-i", *(f"{name}={value}" for name, value in variables.items())),
            *("env", "-C", "/var/lib/stream-detector", *entry, *words),
        ]
        return Container([str(word) for word in command], self.folder / f"log-{words[0]}")

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run its entry to the end; return the exit code and what it said."""
        container = self.start(*words, environment=environment)
        return container.process.wait(60), container.log()


class Container:
    """A process as in a container, and what it says."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)

    def log(self) -> str:
        """Return what it has said so far."""
        return self._log.read_text(errors="replace")

    def status(self, name: str) -> str:
        """Return a line of its /proc/self/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))

    def files(self, path: str) -> dict[str, bytes]:
        """Return the files below a path, as this process sees them."""
        return files_of(Path(f"/proc/{self.process.pid}/root") / path.lstrip("/"))

    def stop(self) -> int:
        """End it as an engine does, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.Signals[instructions("STOPSIGNAL")[0]])
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, by their relative names."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
