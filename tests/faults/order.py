"""Proof 4: nothing is acknowledged or published before the disk has it.

A kill cannot show that: what a process has written outlives it in the kernel's memory, whether it was
synchronised or not. So the system calls are read. Each PUBLISH that was read from the broker's socket
has to be followed by a write to SQLite's journal, that by a synchronisation of the same file, and only
then may its PUBACK be sent, or an alert about its device.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.brokers import wait_for
from tests.faults.proof import Result
from tests.faults.runs import Run, mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.faults.forks import ForkServer

CALLS = "connect,recvfrom,sendto,pwrite64,fdatasync,fsync"
STRACE = f"strace -D -f -y -xx -q -s 1000000 -e signal=none -e trace={CALLS} -o".split()
PUBLISH, PUBACK = 0x3, 0x4
JOURNAL = "state.db-wal"
READINGS = 2_000
DEVICES = 6
BURST = 50
START_S = 180.0

LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(.*)")
FILE = re.compile(r"\((\d+)<([^>]*)>")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """One system call.

    Attributes:
        name: Of it.
        number: Descriptor.
        path: What stands behind it.
        data: What was read or written.
        port: That it connects to.
        result: What it returned.
        began: Its place among all lines of the trace.
        ended: The place of its end.
    """

    name: str
    number: int
    path: str
    data: bytes
    port: int
    result: int
    began: int
    ended: int


def read(lines: Iterable[str]) -> list[Call]:
    """Return the calls of a trace, in the order of their ends.

    Where two threads call at one time, a call stands in two lines: one ends with ``<unfinished ...>``,
    the other begins with ``<... name resumed>``.
    """
    calls: list[Call] = []
    open_: dict[tuple[str, str], tuple[int, str]] = {}
    for place, line in enumerate(lines):
        found = LINE.match(line)
        if found is None:
            continue
        thread, name, rest = found.groups()
        began = place
        if " resumed>" in rest:
            began, before = open_.pop((thread, name), (place, ""))
            rest = before + rest.partition(" resumed>")[2]
        if rest.endswith("<unfinished ...>"):
            open_[thread, name] = place, rest.removesuffix("<unfinished ...>")
            continue
        file, text = FILE.match(rest), TEXT.search(rest)
        result = re.search(r"\) += (-?\d+)", rest)
        port = re.search(r"htons\((\d+)\)", rest)
        if file is None or result is None:
            continue
        calls.append(
            Call(
                name,
                int(file[1]),
                _bytes(file[2]).decode(errors="replace"),
                _bytes(text[1]) if text else b"",
                int(port[1]) if port else 0,
                int(result[1]),
                began,
                place,
            )
        )
    return calls


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass(slots=True)
class Packets:
    """One direction of a connection: bytes that become packets."""

    rest: bytes = b""

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield first byte and body of each packet that is complete now."""
        self.rest += data
        while len(self.rest) >= 2:
            length, used = 0, 1
            while used < len(self.rest):
                byte = self.rest[used]
                length |= (byte & 0x7F) << (7 * (used - 1))
                used += 1
                if byte < 0x80:
                    break
            else:
                return
            if len(self.rest) < used + length:
                return
            packet, self.rest = self.rest[: used + length], self.rest[used + length :]
            yield packet[0], packet[used:]


@dataclass(slots=True)
class Order:
    """What the trace of a service says.

    Attributes:
        acknowledged: PUBACKs that were sent.
        published: Alerts that were.
        synchronised: How often the journal was.
        problems: What was sent too early.
    """

    acknowledged: int = 0
    published: int = 0
    synchronised: int = 0
    problems: list[str] = field(default_factory=list)
    _arrived: dict[int, int] = field(default_factory=dict)  # by packet id
    _spoke: dict[bytes, int] = field(default_factory=dict)  # by the levels of the topic
    _writes: list[int] = field(default_factory=list)
    _safe: int = -1

    def follow(self, calls: Iterable[Call], port: int) -> None:
        """Take the calls of one life of the service in.

        Args:
            calls: In the order of their ends.
            port: Of the broker.
        """
        broker, inward, outward = -1, Packets(), Packets()
        for call in calls:
            if call.name == "connect":
                if call.port == port:
                    broker, inward, outward = call.number, Packets(), Packets()
            elif call.path.endswith(JOURNAL):
                self._journal(call)
            elif call.number == broker and call.result > 0:
                data = call.data[: call.result]
                if call.name == "recvfrom":
                    self._hear(inward.take(data), call.ended)
                elif call.name == "sendto":
                    self._say(outward.take(data), call.began)

    def _journal(self, call: Call) -> None:
        if call.name == "pwrite64":
            self._writes.append(call.ended)
        elif call.result == 0:
            self.synchronised += 1
            before = [place for place in self._writes if place < call.began]
            self._safe = max([self._safe, *before[-1:]])
            self._writes = self._writes[len(before) :]

    def _hear(self, packets: Iterable[tuple[int, bytes]], ended: int) -> None:
        for first, body in packets:
            if first >> 4 == PUBLISH and first & 0x06:
                topic, rest = _topic(body)
                self._arrived[int.from_bytes(rest[:2], "big")] = ended
                self._spoke |= dict.fromkeys(topic.split(b"/"), ended)

    def _say(self, packets: Iterable[tuple[int, bytes]], began: int) -> None:
        for first, body in packets:
            if first >> 4 == PUBACK:
                self.acknowledged += 1
                packet_id = int.from_bytes(body[:2], "big")
                self._check(f"packet {packet_id}", self._arrived.pop(packet_id, None), began)
            elif first >> 4 == PUBLISH and b"/alert/" in (topic := _topic(body)[0]):
                self.published += 1
                device = topic.rpartition(b"/")[2]
                self._check(f"alert of {device.decode()}", self._spoke.get(device), began)

    def _check(self, what: str, arrived: int | None, began: int) -> None:
        """Note a problem where what is sent now is about something that is not safe yet."""
        if arrived is None:
            self.problems.append(f"{what}: sent in line {began} of the trace, but its cause never came")
        elif self._safe < arrived:
            self.problems.append(
                f"{what}: sent in line {began} of the trace; its cause came in line {arrived},"
                f" but the journal was safe up to line {self._safe} only"
            )


def _topic(body: bytes) -> tuple[bytes, bytes]:
    """Return the topic of a PUBLISH, and what follows it."""
    end = 2 + int.from_bytes(body[:2], "big")
    return body[2:end], body[end:]


def prove(forks: ForkServer, folder: Path, seed: int, readings: int = READINGS) -> Result:
    """Trace the real command while it takes readings in."""
    if shutil.which("strace") is None:
        return Result("order", "", ["strace is not installed (Debian: apt install strace)"])
    trace = folder / "trace"
    with (
        mosquitto(folder / "broker") as broker,
        Run(forks, broker, folder / "run", seed=seed, mode="ts", readings=readings, devices=DEVICES) as run,
    ):
        run.service.run_command(*STRACE, str(trace))
        wait_for(run.service.is_ready, START_S, "it is ready under strace")
        for _ in range(0, len(run.messages), BURST):
            run.publish(BURST)
        verdict = run.finish()
        assert run.service.process is not None
        end = re.compile(rf"^{run.service.process.pid} +\+\+\+ exited", re.MULTILINE)
        wait_for(lambda: end.search(trace.read_text()), START_S, "strace has written everything")
        port = broker.port
    order = Order()
    with trace.open() as lines:
        order.follow(read(lines), port)
    problems = [*verdict.problems, *order.problems]
    if order.acknowledged < len(run.messages):
        problems.append(f"{len(run.messages)} messages were sent, {order.acknowledged} acknowledgements seen")
    text = (
        f"{order.acknowledged:,} PUBACKs and {order.published} alerts,"
        f" {len(order.problems)} before their fsync ({order.synchronised} of the journal)"
    )
    return Result("order", f"{text}: {verdict}", problems)
