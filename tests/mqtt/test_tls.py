"""TLS against Mosquitto with certificates of our own: what is right works, all else is refused in words."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.brokers import Certificates, Mosquitto, Peer, free_port

from .driving import Driver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.mosquitto


def tls_url(broker: Mosquitto, host: str = "127.0.0.1") -> str:
    """Return the address of a broker with TLS."""
    return f"mqtts://{host}:{broker.port}"


@pytest.mark.parametrize("receive", ["bulk", "stock"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_messages_pass_through_tls(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, receive: str, host: str
) -> None:
    """With the CA in `ca_file`, small, many and large messages arrive as without TLS."""
    broker = start_mosquitto(listener=certificates.listener())
    context = ssl.create_default_context(cafile=certificates.ca)
    driver = Driver(tls_url(broker, host), receive=receive, ca_file=certificates.ca)
    with driver, Peer(broker.port, tls=context) as peer:
        driver.until_ready()
        for number in range(300):
            peer.client.publish("a/x", b"%d" % number, qos=1)
        peer.publish("a/large", bytes(1_000_000))
        driver.until(lambda: len(driver.messages) == 301 and driver.link.drained)
        assert driver.payloads == [b"%d" % number for number in range(300)] + [bytes(1024)]


def test_websockets_pass_through_tls(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    """A wss:// connection verifies and carries messages like the others."""
    port = free_port()
    lines = f"listener {port} 127.0.0.1\nprotocol websockets\n{certificates.listener()}"
    broker = start_mosquitto(config=lines)
    url = f"wss://127.0.0.1:{port}"
    with Driver(url, ca_file=certificates.other_ca) as stranger:
        stranger.until_problem("certificate that we cannot trust")
    with Driver(url, ca_file=certificates.ca).until_ready() as driver, Peer(broker.port) as peer:
        for number in range(20):
            peer.publish("a/x", b"%d" % number)
        driver.until(lambda: driver.payloads == [b"%d" % number for number in range(20)])


def test_another_ca_is_refused(start_mosquitto: Callable[..., Mosquitto], certificates: Certificates) -> None:
    """A certificate that neither our CA nor the system's vouches for ends the attempt in words."""
    broker = start_mosquitto(listener=certificates.listener())
    for trusted in ({"ca_file": certificates.other_ca}, {}):
        with Driver(tls_url(broker), **trusted) as driver:
            driver.until_problem("certificate that we cannot trust")
            assert "broker.ca_file" in str(driver.link.problem)
            assert not driver.link.connected


def test_another_name_is_refused(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    """A good certificate for another host is not good for this one."""
    broker = start_mosquitto(listener=certificates.listener())
    with Driver(tls_url(broker, "127.0.0.2"), ca_file=certificates.ca) as driver:
        driver.until(lambda: "127.0.0.2" in str(driver.link.problem) and driver.link.last_error)
        assert not driver.link.connected


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_a_client_certificate_is_asked_for(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, protocol: str
) -> None:
    """A broker that wants our certificate lets us in with it; without it the problem names `cert_file`."""
    broker = start_mosquitto(listener=certificates.listener(ask_for_client=True))
    with Driver(tls_url(broker), ca_file=certificates.ca, protocol=protocol) as driver:
        driver.until_problem("broker.cert_file")
    ours = {"cert_file": certificates.client, "key_file": certificates.client_key}
    with Driver(tls_url(broker), ca_file=certificates.ca, protocol=protocol, **ours) as driver:
        driver.until_ready()


def test_files_that_are_no_certificates_are_named(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> None:
    """A missing or broken file is a problem that names the setting and the file."""
    broker = start_mosquitto(listener=certificates.listener())
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for file in (broken, tmp_path / "missing.pem"):
        with Driver(tls_url(broker), ca_file=file) as driver:
            driver.until_problem(f"broker.ca_file '{file}' cannot be used")
        with Driver(tls_url(broker), ca_file=certificates.ca, cert_file=file, key_file=file) as driver:
            driver.until_problem(f"broker.cert_file '{file}'")


def test_an_encrypted_key_is_named_and_nobody_is_asked(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> None:
    """A key with a passphrase is a problem in words; OpenSSL does not prompt on the terminal for it."""
    broker = start_mosquitto(listener=certificates.listener(ask_for_client=True))
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkey", "-in", certificates.client_key, "-aes256", "-passout", "pass:secret"]
    subprocess.run([*command, "-out", encrypted], check=True, capture_output=True)
    ours = {"cert_file": certificates.client, "key_file": encrypted}
    with Driver(tls_url(broker), ca_file=certificates.ca, **ours) as driver:
        driver.until_problem("broker.key_file is encrypted")


def test_a_plain_port_is_no_tls_port(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    """TLS to a listener without it fails in words, in time."""
    broker = start_mosquitto()
    with Driver(tls_url(broker), ca_file=certificates.ca, connect_timeout_s=0.5) as driver:
        driver.until(lambda: driver.link.last_error)
        assert not driver.link.connected
