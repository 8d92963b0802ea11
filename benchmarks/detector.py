"""The real service, ``stream-detector run`` as a process of its own, seen from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.bare import Drained
from benchmarks.broker import free_port
from benchmarks.workload import STREAM, configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 60.0
LOOK_S = 0.2
"""A look at /metrics takes time from the service, so there are few."""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Running:
    """A service that is subscribed.

    Args:
        pid: Of its process.
        url: Where it serves HTTP.
        start_s: From the start of the process to subscribed.
    """

    def __init__(self, pid: int, url: str, start_s: float) -> None:
        self.start_s = start_s
        self._pid = pid
        self._url = url

    def drain(self, count: int, send: Callable[[], float]) -> Drained:
        """Let it take `count` messages that `send` sends."""
        before, cpu_before = self.taken(), self.cpu_s()
        began = send()
        deadline = time.monotonic() + PATIENCE_S
        while self.taken() - before < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the service took {self.taken() - before:.0f} of {count} messages")
            time.sleep(LOOK_S)
        ended = self._sample("last_message_timestamp_seconds")
        return Drained(count / (ended - began), (self.cpu_s() - cpu_before) / count * 1e6)

    def taken(self) -> float:
        """Return how many messages it has taken."""
        return self._sample("messages_accepted_total")

    def cpu_s(self) -> float:
        """Return the CPU time that it has used."""
        with open(f"/proc/{self._pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - no path to speak of
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def rss_mb(self) -> float:
        """Return the memory that it holds."""
        return rss_bytes(self._pid) / 1e6

    def _sample(self, name: str) -> float:
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=10) as answer:  # noqa: S310 - our own
            text = answer.read().decode()
        found = re.search(rf'^stream_detector_{name}{{stream="{STREAM}"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="utf-8") as file:  # noqa: PTH123 - no path to speak of
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(port: int, folder: Path, *, qos: int = 1, durability: str | None = None) -> Iterator[Running]:
    """Run the service against a broker; its second start finds compiled kernels."""
    http_port = free_port()
    url = f"http://127.0.0.1:{http_port}"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(
        configuration(port, http_port, str(folder), qos=qos, durability=durability)
    )
    began = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stream_detector", "run", "--config", "config.yaml"],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        while not _ready(url):
            if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                sys.exit(f"benchmarks: the service does not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.005)
        yield Running(process.pid, url, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310 - our own
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP
    except OSError:  # not there yet, or 503
        return False
