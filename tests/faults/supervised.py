"""The service under a supervisor, as it runs in the world: whenever it ends, it is started anew."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, cast

from tests.brokers import wait_for
from tests.service.running import START_S, RunningService

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.faults.forks import ForkServer

END_S = 30.0


class Supervised(RunningService):
    """A service whose starts are forks, or the real command.

    Args:
        forks: What forks it.
        folder: See `RunningService`.
        broker: Likewise.
        streams: Likewise.
        clock: File of the clock that it lives by; None: its own.
        others: Likewise.

    Attributes:
        starts: How often it was started.
        ends: Exit codes of the times when it ended by itself or was killed by a fault of its own.
    """

    def __init__(
        self,
        forks: ForkServer,
        folder: Path,
        *,
        broker: dict[str, Any],
        streams: dict[str, Any],
        clock: Path | None = None,
        **others: Any,
    ) -> None:
        super().__init__(folder, broker=broker, streams=streams, **others)
        (folder / "log").touch()
        self.starts = 0
        self.ends: list[int] = []
        self._forks = forks
        self._began = 0.0
        self._clock = clock

    def fork(self, fault: Mapping[str, Any] | None = None) -> None:
        """Start it, and do not wait for anything."""
        self.starts += 1
        self._began = monotonic()
        self._log_begins = (self.folder / "log").stat().st_size
        child = self._forks.start(
            self.folder / "config.yaml", self.folder / "log", clock=self._clock, fault=fault
        )
        self.process = cast("subprocess.Popen[bytes]", child)

    def run_command(self, *before: str) -> None:
        """Start it as a person would, with the command, and do not wait for anything.

        Args:
            before: What the command is an argument of.
        """
        self.starts += 1
        self._log_begins = (self.folder / "log").stat().st_size
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "stream_detector", "run", "--config", "config.yaml"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """End it with SIGKILL, and return once it is gone."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(END_S)

    def wait_up(self) -> float:
        """Return once it has said where it serves HTTP: the seconds since it was forked."""
        wait_for(lambda: self._find_url() or self.ended, START_S, "it says where it is")
        return monotonic() - self._began

    def wait_url(self) -> None:
        """Return once it serves HTTP."""
        self.wait_up()
        wait_for(lambda: self.ended or self._answers(), what="it serves HTTP")

    def keep_alive(self, until: Callable[[], object], timeout_s: float, what: str) -> None:
        """Start it anew whenever it ends, until something is true."""

        def done() -> bool:
            if self.ended:
                assert self.process is not None
                self.ends.append(self.process.returncode)
                self.fork()
            return bool(until())

        try:
            wait_for(done, timeout_s, what)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; ended with {self.ends}; {self.reasons()}\n{self.tail()}"
            ) from None

    def end_in_order(self) -> None:
        """End it with SIGTERM; it must obey."""
        self.wait_url()  # before, it does not know yet what to do at a signal
        code = self.stop(signal.SIGTERM)
        assert code == 0, f"exit code {code} after SIGTERM\n{self.tail()}"

    def end_somehow(self) -> None:
        """End it with SIGTERM although a fault may happen just then, and once more without one."""
        self.wait_url()
        self.ends.append(self.stop(signal.SIGTERM))
        self.fork()
        wait_for(self.is_ready, START_S, "it is ready once more")
        self.end_in_order()

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        return "\n".join(self.log().splitlines()[-lines:])

    def reasons(self) -> list[str]:
        """Return why it is not ready; empty also while nobody can be asked."""
        with suppress(OSError):
            return super().reasons() if self._find_url() else []
        return []

    def is_ready(self) -> bool:
        """Return whether it says that it does its job."""
        with suppress(OSError):
            return self._find_url() and self.get("/readyz")[0] == 200
        return False

    def __enter__(self) -> Self:
        """Nothing to do: it is started by other means."""
        return self

    def _find_url(self) -> bool:
        with (self.folder / "log").open("rb") as log:
            log.seek(self._log_begins)
            found = re.search(rb"metrics and health on (http://\S+)", log.read())
        if found:
            self.url = found[1].decode()
        return found is not None
