"""A broker that is a program of its own: started on a free port, waited for, always ended."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import pytest

from tests.brokers import PATIENCE_S, accepts, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START_S = 45.0


def missing(reason: str) -> None:
    """Skip the test, which needs a program that is not here; with REQUIRE_SERVERS=1 it fails."""
    if os.environ.get("REQUIRE_SERVERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Program:
    """A program that listens on one port of the loopback.

    Args:
        folder: Where its files and its log live.
        command: What is run; a process group of its own, so that its children end with it.
        environment: Further variables of its process.
        port: Where it listens.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it speaks MQTT."""
        return f"mqtt://127.0.0.1:{self.port}"

    def log(self) -> str:
        """Return what it has logged so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> Self:
        """Start, and return once it accepts connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        wait_for(
            lambda: accepts(self.port) or process.poll() is not None, START_S, f"{self._command[0]} listens"
        )
        assert process.poll() is None, self.log()
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and what it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self) -> None:
        """Stop in order and start on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()
