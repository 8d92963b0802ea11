"""The embedded broker: both protocols, 64 kB, its own child, and sentences where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream_detector.errors import ConfigurationError
from stream_detector.mqtt import broker as module
from stream_detector.mqtt.broker import MAX_PAYLOAD, EmbeddedBroker
from stream_detector.mqtt.publisher import Publisher
from tests.brokers import accepts, free_port, wait_for

from .driving import Driver

pytest.importorskip(
    "iotcore", reason="the embedded broker is optional: pip install 'stream-detector[embedded]'"
)


@pytest.mark.parametrize("receive", ["bulk", "stock"])
@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_messages_go_round(protocol: str, receive: str) -> None:
    """What one client publishes another receives, up to 64 kB, and an unacknowledged message comes again."""
    with EmbeddedBroker() as broker:
        url = broker.url(protocol)
        with (
            Driver(url, protocol=protocol, receive=receive, acknowledge=False).until_ready() as driver,
            Driver(
                url, protocol=protocol, client_id="other", subscriptions=(("b", 1),)
            ).until_ready() as other,
        ):
            assert driver.link.protocol == ("3.1.1" if protocol == "3.1.1" else "5")
            publisher = Publisher(other.link)
            for number in range(300):
                publisher.put(f"a/{number % 7}", b"%d" % number)
            publisher.put("a/large", bytes(MAX_PAYLOAD))

            def turn() -> bool:
                other.poll()
                publisher.pump()
                for batch in driver.batches[-1:]:
                    driver.link.acknowledge(batch)
                return len(driver.messages) == 301 and not publisher

            driver.until(turn)
            assert driver.payloads == [b"%d" % number for number in range(300)] + [bytes(MAX_PAYLOAD)]


def test_auto_finds_out_that_a_port_speaks_3_1_1_only() -> None:
    """The broker's first port hangs up on MQTT 5; `auto` goes on with 3.1.1."""
    with EmbeddedBroker() as broker, Driver(f"embedded://127.0.0.1:{broker.port}") as driver:
        driver.until_ready()
        assert driver.link.protocol == "3.1.1"
        assert driver.link.protocol_note


def test_it_listens_on_the_loopback_alone() -> None:
    """Both ports are bound to the host that was asked for."""
    with EmbeddedBroker() as broker:
        listening = Path("/proc/net/tcp").read_text().splitlines()
        for port in (broker.port, broker.port_v5):
            (line,) = [
                row for row in listening if row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A"
            ]
            assert line.split()[1].startswith("0100007F")


def test_a_taken_port_is_one_sentence() -> None:
    """Where its port is taken, the sentence says how to use the broker that runs there."""
    with EmbeddedBroker() as first, pytest.raises(ConfigurationError) as refused:
        EmbeddedBroker(port=first.port).start()
    assert f"broker.url: mqtt://127.0.0.1:{first.port}" in str(refused.value)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without iotcore the sentence names both ways out."""
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError) as refused:
        EmbeddedBroker().start()
    assert "pip install 'stream-detector[embedded]'" in str(refused.value)
    assert "broker.url: mqtt://" in str(refused.value)


def test_it_ends_with_us() -> None:
    """A parent that is killed leaves no broker behind."""
    port = free_port()
    code = (
        "import sys\nfrom stream_detector.mqtt.broker import EmbeddedBroker\n"
        f"broker = EmbeddedBroker(port={port})\nbroker.start()\nprint('up', flush=True)\nsys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert accepts(port)
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(lambda: not accepts(port), what="the broker ends with its parent")


def test_ctrl_c_does_not_reach_it() -> None:
    """It is in a session of its own: we end first, and in order."""
    with EmbeddedBroker() as broker:
        assert broker._process is not None
        assert os.getsid(broker._process.pid) != os.getsid(0)


def test_it_is_silent_and_starts_again(capfd: pytest.CaptureFixture[str]) -> None:
    """It writes nothing to our terminal, whatever it is sent, and can be stopped and started on its ports."""
    broker = EmbeddedBroker()
    with broker:
        ports = broker.port, broker.port_v5
        with Driver(broker.url("3.1.1"), protocol="5") as driver:
            driver.until_problem("hangs up")
    with broker:
        assert (broker.port, broker.port_v5) == ports
    assert capfd.readouterr() == ("", "")
