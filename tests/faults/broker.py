"""Proof 5: whatever the broker does, the service neither hangs nor stops silently, and loses nothing.

Each time it has to say on /readyz what it waits for, and to go on by itself once that is over. The
broker keeps its sessions over a restart, as docs say it should.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from stream_detector.mqtt.frames import publish_frame
from tests.brokers import Peer, wait_for
from tests.faults.order import Packets
from tests.faults.proof import Result
from tests.faults.proxy import Hole
from tests.faults.runs import Run, mosquitto
from tests.faults.scenarios import STREAMS, last_word, seeded, streams
from tests.faults.supervised import Supervised
from tests.mqtt.driving import ScriptedBroker, login_answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.brokers import Mosquitto
    from tests.faults.forks import ForkServer
    from tests.faults.truth import Verdict

KEEPALIVE_S = 1
BACK_S = 90.0
"""After several lost logins in a row the service waits for up to a minute."""
CALM_S = 5.2
"""A login that lasted for so long is no flapping one."""
ROUND = 10
SUBSCRIBE, CONNECT = 0x8, 0x1
REFUSED = 0x87


@dataclass(slots=True)
class Reasons:
    """What the service said while it could not do its job, and how soon it could again."""

    said: set[str] = field(default_factory=set)
    back_s: list[float] = field(default_factory=list)

    def down(self, service: Supervised, what: str, words: str = "") -> None:
        """Wait until it says why it is not ready, in these words."""
        wait_for(lambda: any(words in reason for reason in service.reasons()), BACK_S, f"{what} is noticed")
        self.said |= set(service.reasons())

    def up(self, service: Supervised, what: str) -> None:
        """Wait until it is ready again."""
        begin = monotonic()
        wait_for(service.is_ready, BACK_S, f"ready after: {what}; {service.reasons()}\n{service.tail()}")
        self.back_s.append(monotonic() - begin)


def prove(forks: ForkServer, folder: Path, seed: int, rounds: int = 20, backlog: int = 60_000) -> Result:
    """Restart it, cut its connections, freeze it, and let messages pile up in it."""
    verdict, reasons = _incidents(forks, folder / "incidents", seed, rounds)
    queued, grown_mb = _backlog(forks, folder / "backlog", seed, backlog)
    verdict += queued
    slowest = max(reasons.back_s)
    text = (
        f"{rounds} restarts, {rounds} cuts, {rounds} freezes (back after {slowest:.1f} s at most),"
        f" {backlog:,} messages queued (+{grown_mb:.0f} MB): {verdict}"
    )
    return Result("broker", text, verdict.problems)


def prove_logins(forks: ForkServer, folder: Path, _seed: int, only: str | None = None) -> Result:
    """Let it refuse us, give our name to another one, and forget us."""
    parts = {
        "wrong password": _wrong_password,
        "refused subscription": _refused_subscription,
        "client id taken over": _taken_over,
        "session forgotten": _forgotten_session,
    }
    chosen = [only] if only else list(parts)
    problems = []
    for number, name in enumerate(chosen):
        try:
            problems += parts[name](forks, folder / str(number))
        except AssertionError as error:
            problems.append(f"{name}: {error}")
    return Result("logins", f"{', '.join(chosen)}: said and survived", problems)


# -- what happens to a connection -------------------------------------------------------------------


def _incidents(forks: ForkServer, folder: Path, seed: int, rounds: int) -> tuple[Verdict, Reasons]:
    chance = seeded(seed, "broker")
    happens: list[Callable[[Run, Hole, Reasons], None]] = [_restart, _cut, _freeze] * rounds
    chance.shuffle(happens)
    reasons = Reasons()
    with mosquitto(folder / "broker", persistence=True) as broker:
        hole = Hole(broker.port)
        with Run(
            forks,
            broker,
            folder / "run",
            seed=seed,
            mode="seq",
            readings=len(happens) * 4 * ROUND,
            port=hole.port,
            login={"keepalive_s": KEEPALIVE_S},
        ) as run:
            run.begin()
            for number, happen in enumerate(happens):
                run.publish(ROUND)
                happen(run, hole, reasons)
                run.publish(ROUND)
                if number % 2:
                    _calm(run)
            verdict = run.finish()
            if run.service.starts > 1:
                verdict.problems.append(
                    f"the service ended {run.service.starts - 1} times: {run.service.ends}"
                )
        hole.close()
    return verdict, reasons


def _restart(run: Run, _hole: Hole, reasons: Reasons) -> None:
    run.broker.stop()
    reasons.down(run.service, "a broker that is gone")
    run.broker.start()
    reasons.up(run.service, "a restart")


def _cut(run: Run, hole: Hole, reasons: Reasons) -> None:
    before = run.service.count("mqtt_reconnects_total")
    hole.cut()
    wait_for(
        lambda: run.service.count("mqtt_reconnects_total") > before,
        BACK_S,
        f"it connects again after a cut; {run.service.reasons()}",
    )
    reasons.up(run.service, "a cut")


def _freeze(run: Run, _hole: Hole, reasons: Reasons) -> None:
    run.broker.freeze()
    try:
        reasons.down(run.service, "a frozen broker")
    finally:
        run.broker.thaw()
    reasons.up(run.service, "a freeze")


def _calm(run: Run) -> None:
    """Let a login last, as it does in the world."""
    until = monotonic() + CALM_S
    while monotonic() < until:
        run.service.get("/livez")
        run.publish(1)


def _backlog(forks: ForkServer, folder: Path, seed: int, messages: int) -> tuple[Verdict, float]:
    """Let messages queue while the service is down; return by how much its memory grew at its return."""
    with (
        mosquitto(folder / "broker") as broker,
        Run(forks, broker, folder / "run", seed=seed, mode="ts", readings=messages) as run,
    ):
        run.begin()
        grown: list[float] = []
        before_mb = _memory_mb(run.service)
        run.service.kill()
        run.publish(messages)
        run.begin()
        verdict = run.finish(then=lambda: grown.append(_memory_mb(run.service) - before_mb))
        return verdict, grown[0]


def _memory_mb(service: Supervised) -> float:
    """Return the most memory that its process has had resident."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


# -- what happens to a login ------------------------------------------------------------------------


def _wrong_password(forks: ForkServer, folder: Path) -> list[str]:
    """The password is wrong, then it is corrected in its file; nobody starts anything anew."""
    login, words = {"username": "detector", "password": "right"}, "password"
    with mosquitto(folder / "broker", passwords={"detector": "right"}) as broker:
        file = folder / "password"
        file.write_text("wrong")
        with _service(forks, folder, broker, username="detector", password_file=str(file)) as service:
            Reasons().down(service, "a wrong password", words)
            file.write_text("right")
            Reasons().up(service, "the right password")
            return _works(broker, service, **login)


def _taken_over(forks: ForkServer, folder: Path) -> list[str]:
    """Another client with our id comes and stays; it is named, and once it is gone we go on."""
    with mosquitto(folder / "broker") as broker, _service(forks, folder, broker) as service:
        Reasons().up(service, "its start")
        name = f"stream-detector-{(folder / 'run' / 'state' / 'instance').read_text().strip()}"
        thief = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        thief.reconnect_delay_set(1, 1)
        thief.connect("127.0.0.1", broker.port)
        thief.loop_start()
        Reasons().down(service, "another client with our id", name)
        thief.disconnect()
        thief.loop_stop()
        Reasons().up(service, "the other one is gone")
        return _works(broker, service)


def _works(broker: Mosquitto, service: Supervised, **login: Any) -> list[str]:
    """Return what is wrong where a reading that is out of range does not come back as an alert."""
    message = last_word("ts")
    with Peer(broker.port, **login) as peer:
        peer.subscribe("stream_detector/alert/#")
        peer.publish(message.topic, message.payload)
        peer.wait_for(lambda found: any(json.loads(one.payload)["device"] == message.device for one in found))
    service.end_in_order()
    return []


def _service(forks: ForkServer, folder: Path, broker: Mosquitto | ScriptedBroker, **login: Any) -> Supervised:
    login = {"url": broker.url, "keepalive_s": KEEPALIVE_S, **login}
    service = Supervised(forks, folder / "run", broker=login, streams=streams("ts"))
    service.fork()
    service.wait_url()
    return service


# -- a broker that says what a proof wants it to ----------------------------------------------------


class Session:
    """The broker's side of one connection, in MQTT 5.

    Attributes:
        acknowledged: Packet ids of the PUBACKs that came, in order.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.acknowledged: list[int] = []
        self._sock = sock
        self._packets = Packets()

    def log_in(self) -> None:
        """Let it in, as one that is not known here."""
        self._sock.sendall(login_answer(0))

    def serve(self, code: Callable[[bytes], int], until: Callable[[], bool] = lambda: False) -> None:
        """Answer what comes until the other side hangs up, or something is true.

        Args:
            code: What is said to a filter: 1 grants it.
            until: Asked now and then.
        """
        self._sock.settimeout(0.05)
        while not until():
            try:
                data = self._sock.recv(65_536)
            except TimeoutError:
                continue
            if not data:
                return
            for first, body in self._packets.take(data):
                self._answer(first, body, code)

    def deliver(self, topic: str, payloads: list[bytes]) -> None:
        """Send messages at QoS 1 with the packet ids 1, 2, 3 and so on."""
        for number, payload in enumerate(payloads, 1):
            frame = publish_frame(
                topic.encode(), payload, qos=1, retain=False, dup=False, packet_id=number, mqtt5=True
            )
            self._sock.sendall(frame)

    def _answer(self, first: int, body: bytes, code: Callable[[bytes], int]) -> None:
        if first >> 4 == SUBSCRIBE:
            codes = bytes(code(name) for name in _filters(body))
            self._sock.sendall(bytes([0x90, 3 + len(codes)]) + body[:2] + b"\0" + codes)
        elif first >> 4 == 0xA:  # UNSUBSCRIBE
            self._sock.sendall(b"\xb0\x04" + body[:2] + b"\0\0")
        elif first >> 4 == 0x3 and first & 0x06:  # a PUBLISH of the service
            topic = int.from_bytes(body[:2], "big")
            self._sock.sendall(b"\x40\x02" + body[2 + topic : 4 + topic])
        elif first >> 4 == 0x4:
            self.acknowledged.append(int.from_bytes(body[:2], "big"))
        elif first >> 4 == 0xC:
            self._sock.sendall(b"\xd0\x00")


def _filters(body: bytes) -> list[bytes]:
    """Return the filters of a SUBSCRIBE (without properties, or with short ones)."""
    rest, found = body[3 + body[2] :], []
    while rest:
        length = int.from_bytes(rest[:2], "big")
        found.append(rest[2 : 2 + length])
        rest = rest[3 + length :]
    return found


def _refused_subscription(forks: ForkServer, folder: Path) -> list[str]:
    """A filter is refused, then granted; meanwhile it is named."""
    refused = STREAMS["fans"]["topic"].replace("{device}", "+").encode()
    granted = False

    def play(sock: socket.socket) -> None:
        session = Session(sock)
        session.log_in()
        session.serve(lambda name: 1 if granted or name != refused else REFUSED)

    with ScriptedBroker(play) as broker, _service(forks, folder, broker, protocol="5") as service:
        Reasons().down(service, "a refused subscription", refused.decode())
        granted = True
        Reasons().up(service, "the subscription is granted")
        service.end_in_order()
    return []


def _forgotten_session(forks: ForkServer, folder: Path) -> list[str]:
    """While the disk is full the broker forgets us, and numbers its messages anew.

    What came before is written in the end, but its acknowledgements must not reach the broker: there
    the same packet ids mean messages that are not written yet.
    """
    full = folder / "the disk is full"
    sessions: list[Session] = []
    payloads = [
        json.dumps({"ts": 1_750_000_000 + k, "values": {"vibration": 20.0 + k}}).encode() for k in range(10)
    ]

    def waits() -> bool:
        return any("input waits" in reason for reason in service.reasons())

    def play(sock: socket.socket) -> None:
        session = Session(sock)
        sessions.append(session)
        first = len(sessions) == 1
        session.log_in()
        session.serve(lambda _: 1, until=full.exists)
        session.deliver("hall/fan-1", payloads[:5] if first else payloads[5:])
        session.serve(lambda _: 1, until=lambda: first and waits())

    with ScriptedBroker(play) as broker:
        login = {"url": broker.url, "protocol": "5", "keepalive_s": 60}
        service = Supervised(forks, folder / "run", broker=login, streams=streams("ts"))
        service.fork({"fault": "disk full", "failpoint": "in the transaction", "while_exists": str(full)})
        with service:
            Reasons().up(service, "its start")
            full.touch()
            wait_for(lambda: len(sessions) == 2 and waits(), BACK_S, "the second login")
            wait_for(lambda: service.count("mqtt_connected") == 1, BACK_S, "the second login stands")
            full.unlink()
            wait_for(lambda: len(sessions[-1].acknowledged) >= 5, BACK_S, "the new messages are acknowledged")
            service.wait_for_count("readings_accepted_total", len(payloads))
            service.end_in_order()
    if sessions[-1].acknowledged != [1, 2, 3, 4, 5]:
        return [f"after a forgotten session these were acknowledged: {sessions[-1].acknowledged}"]
    return []
