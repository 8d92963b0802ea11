"""Start the service quickly and often: one process imports everything, each start is a fork of it.

``python -m tests.faults.forks`` reads requests from its standard input, a line of JSON each, and
answers with a line: ``{"start": …}`` with ``{"pid": …}``, ``{"poll": pid}`` with ``{"status": …}``.
It has no threads (numerical libraries are told so before they are imported), because a fork copies
only the thread that calls it. What a child can do beyond the command ``run`` are the two things that
proofs need: fail at a failpoint, and live by a clock that the proof moves.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

END_S = 60.0
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NUMBA")}


class Clock:
    """A service clock that stands still until somebody moves it, shared over processes by a file.

    Args:
        path: The file, made where it is not there.

    Attributes:
        now: µs since 1970.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._cell = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")

    @property
    def now(self) -> int:
        """The time."""
        return self._cell[0]

    @now.setter
    def now(self, us: int) -> None:
        self._cell[0] = us

    def __call__(self) -> int:
        """Return the time."""
        return self.now


class Forked:
    """A child of the fork server, with what is used of `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Return how it ended; None: it lives."""
        if self.returncode is None:
            self.returncode = self._server.ask(poll=self.pid)["status"]
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Return how it ended, once it has."""
        from tests.brokers import wait_for  # noqa: PLC0415 - a child of the server needs none of it

        wait_for(lambda: self.poll() is not None, timeout, f"process {self.pid} ends")
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, how: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, how)


class ForkServer:
    """The process that forks, seen from outside.

    Args:
        models: Whether its children will load bundles, which takes libraries that take seconds.
    """

    def __init__(self, *, models: bool = False) -> None:
        command = [sys.executable, "-m", "tests.faults.forks", *(["--models"] if models else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **ONE_THREAD}
        )
        self._lock = threading.Lock()
        self.package = str(self._answer()["package"])

    def start(
        self, config: Path, log: Path, *, clock: Path | None = None, fault: Mapping[str, Any] | None = None
    ) -> Forked:
        """Start a service.

        Args:
            config: Its configuration.
            log: The file that its output is appended to.
            clock: File of a `Clock`; None: it has its own.
            fault: What shall fail in it, see `stream_detector.failpoints`.
        """
        request = {"config": str(config), "log": str(log), "clock": clock and str(clock), "fault": fault}
        return Forked(self, int(self.ask(start=request)["pid"]))

    def ask(self, **request: object) -> dict[str, Any]:
        """Send a request and return the answer."""
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the fork server has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        """Nothing to do: it runs when it is made."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it; its children end with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(END_S)
        self._process.stdout.close()


# -- inside the server -----------------------------------------------------------------------------


def serve(*, models: bool) -> None:
    """Answer requests until the input ends."""
    import stream_detector  # noqa: PLC0415 - not where the server is only asked
    import stream_detector.cli  # noqa: PLC0415
    import stream_detector.service.assembly  # noqa: PLC0415
    from stream_detector.service.memory import warm_up  # noqa: PLC0415

    if models:
        import pyod.models.hbos  # noqa: PLC0415
        import skops.io  # noqa: F401, PLC0415

        del pyod
    warm_up()
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"the fork server has {threads} threads"
    out = os.dup(1)
    os.write(out, json.dumps({"package": stream_detector.__file__}).encode() + b"\n")
    children: set[int] = set()
    with os.fdopen(os.dup(0), "rb") as requests:
        for line in requests:
            answer = _answer(json.loads(line), children)
            os.write(out, json.dumps(answer).encode() + b"\n")
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answer(request: dict[str, Any], children: set[int]) -> dict[str, Any]:
    if "start" in request:
        pid = os.fork()
        if pid == 0:
            _become_a_service(request["start"])
        children.add(pid)
        return {"pid": pid}
    pid, status = os.waitpid(request["poll"], os.WNOHANG)
    if pid == 0:
        return {"status": None}
    children.discard(pid)
    return {"status": os.waitstatus_to_exitcode(status)}


def _become_a_service(request: dict[str, Any]) -> None:
    """Do what the command `run` does; never returns."""
    code = 1
    try:
        os.closerange(3, 64)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = _run(request)
    finally:
        os._exit(code)


def _run(request: dict[str, Any]) -> int:
    from stream_detector.cli.common import log_to_stderr  # noqa: PLC0415
    from stream_detector.errors import StreamDetectorError  # noqa: PLC0415
    from stream_detector.service.assembly import Service  # noqa: PLC0415
    from stream_detector.settings import load  # noqa: PLC0415
    from tests.faults.arming import arm  # noqa: PLC0415

    os.chdir(Path(request["config"]).parent)
    try:
        settings = load(Path(request["config"]))
        log_to_stderr(settings.log_level)
        if request["fault"]:
            arm(**request["fault"])
        clock = Clock(Path(request["clock"])) if request["clock"] else None
        service = Service(settings, clock=clock)
        service.stop_on_signals()
        service.run()
    except StreamDetectorError as error:
        print(f"stream-detector: {error}", file=sys.stderr, flush=True)  # noqa: T201 - as the command does
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - as the command does: a sentence, and the exit code 1
        what = f"{type(error).__name__}: {error}"
        print(f"stream-detector: this should not happen ({what})", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    serve(models="--models" in sys.argv)
