"""A Mosquitto of our own, on the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_S = 10.0
CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
# A receiver that is slower than the flood must lose nothing (never 0: some versions then drop).
max_queued_messages 2000000
# What a 3.1.1 client has unacknowledged at most; an MQTT 5 client asks for its own number.
max_inflight_messages 1000
"""


def find() -> str:
    """Return the path of Mosquitto; end the program with a sentence where there is none."""
    path = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        sys.exit("benchmarks: there is no mosquitto on PATH or in /usr/sbin; install it")
    return path


def version(path: str) -> str:
    """Return what it calls itself."""
    said = subprocess.run([path, "-h"], capture_output=True, text=True, check=False).stdout
    return said.splitlines()[0].removeprefix("mosquitto version ") if said else "unknown"


def free_port() -> int:
    """Return a TCP port of the loopback on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(path: str, folder: Path) -> Iterator[int]:
    """Run a broker; yield its port."""
    port = free_port()
    file = folder / "mosquitto.conf"
    # As root it would give its rights away and then not be able to read its files.
    file.write_text(CONFIG.format(port=port) + ("user root\n" if os.geteuid() == 0 else ""))
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([path, "-c", str(file)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not _accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"benchmarks: mosquitto does not start: {(folder / 'mosquitto.log').read_text()}")
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait(START_S)


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
