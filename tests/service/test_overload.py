"""A broker that delivers but does not confirm: what waits is bounded, QoS 1 is not lost, and it is said."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stream_detector.mqtt.frames import Framer, Received, puback_frames, publish_frame
from tests.brokers import wait_for
from tests.mqtt.driving import ScriptedBroker, login_answer, read_packet

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from tests.service.running import RunningService

LIMIT = 10_000
"""Messages that may wait for the broker before input is held back; each new device makes one."""


class SlowBroker:
    """Lets the service in, delivers what it is told to, and confirms nothing before `confirm` is set."""

    def __init__(self) -> None:
        self.confirm = threading.Event()
        self.acknowledged: list[int] = []
        self._deliver: list[bytes] = []

    def play(self, sock: socket.socket) -> None:
        """Answer one connection until it ends."""
        sock.sendall(login_answer(0))
        sock.sendall(b"\x90\x06" + read_packet(sock)[2:4] + bytes([0, 1, 1, 1]))
        sock.settimeout(0.02)
        framer, heard, answered = Framer(1 << 20, mqtt5=True), Received(), 0
        while True:
            while self._deliver:
                sock.settimeout(20)
                sock.sendall(self._deliver.pop(0))
                sock.settimeout(0.02)
            try:
                data = sock.recv(1 << 18)
            except TimeoutError:
                data = None
            if data == b"":
                return
            for command, body in framer.feed(data or b"", heard):
                if command == 0x40:
                    self.acknowledged.append(int.from_bytes(body[:2], "big"))
            if self.confirm.is_set() and answered < len(heard):
                sock.sendall(puback_frames(heard.packet_ids[answered:]))
                answered = len(heard)

    def deliver(self, devices: Iterable[int], *, qos: int) -> None:
        """Send one reading of each device; the packet id is the device's number."""
        self._deliver.append(
            b"".join(
                publish_frame(
                    b"plant/x/d%d/telemetry" % number,
                    b'{"values": {"v": 1}}',
                    qos=qos,
                    retain=False,
                    dup=False,
                    packet_id=number if qos else 0,
                    mqtt5=True,
                )
                for number in devices
            )
        )


def test_a_broker_that_does_not_confirm(start_service: Callable[..., RunningService]) -> None:
    """QoS 1 is scored but not acknowledged, QoS 0 is ignored in the end, and all heals with the broker."""
    slow = SlowBroker()
    with ScriptedBroker(slow.play) as broker:
        service = start_service(
            int(broker.url.rpartition(":")[2]),
            broker={"keepalive_s": 600, "protocol": "5"},
            max_devices=90_000,
            new_devices_per_minute=90_000,
        )
        service.wait_online()
        slow.deliver(range(1, LIMIT + 1), qos=1)
        service.wait_for_count("messages_accepted_total", LIMIT)
        wait_for(lambda: "input at QoS 1 waits" in " ".join(service.reasons()), what="it says so")
        slow.deliver(range(LIMIT + 1, LIMIT + 501), qos=1)
        service.wait_for_count("messages_accepted_total", LIMIT + 500)
        slow.deliver(range(20_001, 65_001), qos=0)
        service.wait_for_count("messages_received_total", LIMIT + 45_500)
        ignored = service.count("messages_ignored_total", reason="overload")
        assert service.count("messages_accepted_total") + ignored == LIMIT + 45_500
        assert ignored > 5_000
        assert 4 * LIMIT <= service.count("outbox_events") < 5 * LIMIT
        assert "input at QoS 0 is ignored" in " ".join(service.reasons())
        assert max(slow.acknowledged) <= LIMIT
        slow.confirm.set()
        service.wait_ready()
        wait_for(lambda: len(slow.acknowledged) == LIMIT + 500, what="all is acknowledged")
        assert slow.acknowledged == list(range(1, LIMIT + 501))
        assert service.stop() == 0
