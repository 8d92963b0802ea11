"""Real brokers for tests, and an independent client to talk to them.

Nothing here sleeps to wait for something: everything waits on a condition with a deadline.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.ports import free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
PATIENCE_S = 60.0
"""When to give up. It proves nothing about speed: other tests may keep all processors busy meanwhile."""


def wait_for(predicate: Callable[[], object], timeout_s: float = PATIENCE_S, what: str = "") -> None:
    """Return once `predicate` holds; fail after the timeout.

    It is asked each 5 ms, or at most a third of the time where the question itself takes longer.
    """
    until = monotonic() + timeout_s
    asked = monotonic()
    while not predicate():
        now = monotonic()
        assert now < until, f"not within {timeout_s} s: {what or predicate}"
        sleep(max(0.005, 2 * (now - asked)))
        asked = monotonic()


def accepts(port: int) -> bool:
    """Return whether somebody listens on a port of the loopback."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Mosquitto:
    """A Mosquitto of our own, on the loopback.

    Args:
        folder: Where its files live; one broker, one folder.
        config: Lines of mosquitto.conf for the whole broker.
        listener: Lines for its listener (TLS, websockets).
        passwords: User -> password; without them everybody may come in.
        acl: Text of an ACL file.
        persistence: Whether sessions outlive an orderly end.
        environment: Further variables of its process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: str = "",
        listener: str = "",
        passwords: dict[str, str] | None = None,
        acl: str | None = None,
        persistence: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} 127.0.0.1",
            listener,
            f"allow_anonymous {'false' if passwords else 'true'}",
            "max_queued_messages 1000000",
            "max_inflight_messages 500",
            config,
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it gives its rights away and cannot read its files
        if passwords:
            file = folder / "passwords"
            file.touch(mode=0o600)
            for user, password in passwords.items():
                subprocess.run(["mosquitto_passwd", "-b", file, user, password], check=True)
            lines.append(f"password_file {file}")
        if acl is not None:
            file = folder / "acl"
            file.write_text(acl)
            file.chmod(0o600)
            lines.append(f"acl_file {file}")
        if persistence:
            lines += ["persistence true", f"persistence_location {folder}/"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        """Where it listens, without TLS."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return what it has logged so far."""
        return (self._folder / "log").read_text()

    def start(self) -> Self:
        """Start, and return once it accepts connections."""
        assert MOSQUITTO is not None
        with (self._folder / "log").open("ab") as log:
            command = [MOSQUITTO, "-v", "-c", str(self._folder / "mosquitto.conf")]
            self._process = process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        wait_for(lambda: accepts(self.port) or process.poll() is not None, what="mosquitto listens")
        assert process.poll() is None, self.log()
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it: orderly, or with SIGKILL.

        It forgets a signal that comes after it listens and before its loop runs, so it is asked again.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # frozen, it would not hear

        def ended() -> bool:
            process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            return process.returncode is not None

        wait_for(ended, what="mosquitto ends")

    def kill(self) -> None:
        """End it at once: it saves nothing."""
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Stop in order and start on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang: connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


class Proxy:
    """A TCP proxy whose connections can be cut while both ends live."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._carry, args=(source, sink), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Reset all connections, as a router that restarts would."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def close(self) -> None:
        """Cut everything and stop to listen."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._threads[0].join(PATIENCE_S)
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE_S)


class Peer:
    """Another program at the broker: stock paho on a thread of its own.

    Args:
        port: Of the broker, on the loopback.
        mqtt5: Else 3.1.1.
        username: With `password`, where the broker asks for one.
        password: Likewise.
        tls: Context, where the broker wants TLS.

    Attributes:
        messages: What came on its subscriptions, in order.
    """

    def __init__(
        self,
        port: int,
        *,
        mqtt5: bool = True,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._changed = threading.Condition()
        self._subscribed: set[int] = set()
        protocol = paho.MQTTv5 if mqtt5 else paho.MQTTv311
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.client.username_pw_set(username, password)
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        wait_for(self.client.is_connected, what="the peer is connected")

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def _on_subscribe(self, _client: object, _userdata: object, packet_id: int, *_: object) -> None:
        with self._changed:
            self._subscribed.add(packet_id)
            self._changed.notify_all()

    def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe, and return once the broker has answered."""
        _, packet_id = self.client.subscribe(topic, qos)
        with self._changed:
            assert self._changed.wait_for(lambda: packet_id in self._subscribed, PATIENCE_S), "no SUBACK"

    def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        qos: int = 1,
        *,
        retain: bool = False,
        properties: Any = None,
    ) -> None:
        """Publish, and return once the broker has it."""
        self.client.publish(topic, payload, qos, retain, properties).wait_for_publish(PATIENCE_S)

    def wait_for(
        self, predicate: Callable[[list[paho.MQTTMessage]], object], timeout_s: float = PATIENCE_S
    ) -> list[paho.MQTTMessage]:
        """Return the messages once `predicate` holds for them."""
        with self._changed:
            found = self._changed.wait_for(lambda: predicate(self.messages), timeout_s)
            assert found, f"not within {timeout_s} s; came: {[m.topic for m in self.messages][-20:]}"
            return list(self.messages)

    def close(self) -> None:
        """Leave in order."""
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        """Nothing to do: a peer is connected when it is made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self.close()


EXPIRED = ("20200101000000Z", "20200201000000Z")
NOT_YET = ("20900101000000Z", "20990101000000Z")
