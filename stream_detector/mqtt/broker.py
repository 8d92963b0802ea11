"""A broker inside, for trying: `embedded://`.

It is a child process, so it cannot take our memory down with it, and it ends when we do: it watches
a pipe that only we hold. MQTT 5 has a port of its own. It keeps nothing over a restart.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Self

from stream_detector.errors import BrokerError, ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

MAX_PAYLOAD = 65_536
START_S = 10.0

# What the child runs. Its standard input is a pipe that only we hold: it ends with us, however we end.
CHILD = """
import os, sys, threading
from iotcore import Broker
def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
Broker(config_path=sys.argv[1]).run_forever()
"""

SERVER = """
[{version}.1]
name = "{version}"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_packet}
max_inflight_count = 200
dynamic_filters = true
"""

CONFIG = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 16777216
max_segment_count = 8
"""


class EmbeddedBroker:
    """The broker inside.

    Args:
        host: Address to listen on; nothing asks for a login, so it should stay on loopback.
        port: Of MQTT 3.1.1; 0 takes a free one. MQTT 5 takes a free one, always.

    Example:
        >>> with EmbeddedBroker() as broker:
        ...     broker.url("5") == f"mqtt://127.0.0.1:{broker.port_v5}"
        True
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.port_v5 = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def url(self, protocol: str) -> str:
        """Return the address for clients that speak `protocol`: ``3.1.1``, else 5 (``auto`` too)."""
        return f"mqtt://{self.host}:{self.port if protocol == '3.1.1' else self.port_v5}"

    def start(self) -> None:
        """Start, and return once both ports accept connections.

        Raises:
            ConfigurationError: It is not installed, or its port is taken.
            BrokerError: It does not come up.
        """
        if find_spec("iotcore") is None:
            raise ConfigurationError(
                "broker.url is embedded://, but the embedded broker is not installed; run pip install "
                "'stream-detector[embedded]', or set broker.url: mqtt://... to a broker of yours.",
                key="broker.url",
            )
        self.port = self._free_port(self.port)
        self.port_v5 = self._free_port(self.port_v5)
        self._folder = tempfile.TemporaryDirectory(prefix="stream-detector-broker-")
        config = Path(self._folder.name, "broker.toml")
        config.write_text(
            CONFIG
            + "".join(
                SERVER.format(version=version, host=self.host, port=port, max_packet=2 * MAX_PAYLOAD)
                for version, port in (("v4", self.port), ("v5", self.port_v5))
            ),
            encoding="utf-8",
        )
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-P", "-c", CHILD, str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: we still have to say goodbye to it
        )
        until = monotonic() + START_S
        for port in (self.port, self.port_v5):
            while not self._accepts(port):
                if self._process.poll() is not None or monotonic() > until:
                    self.stop()
                    raise BrokerError(f"the embedded broker does not start on {self.host}:{port}.")
                sleep(0.01)

    def stop(self) -> None:
        """End the broker, and with it all that it held."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _free_port(self, port: int) -> int:
        """Return `port` if nobody listens there, or any free one for 0."""
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((self.host, port))
            except OSError as error:
                raise ConfigurationError(
                    f"the embedded broker cannot listen on {self.host}:{port} ({error.strerror}); if a "
                    f"broker runs there already, use it with broker.url: mqtt://127.0.0.1:{port}.",
                    key="broker.url",
                ) from error
            return int(sock.getsockname()[1])

    def _accepts(self, port: int) -> bool:
        try:
            with socket.create_connection((self.host, port), timeout=0.2):
                return True
        except OSError:
            return False
