"""TLS against Mosquitto with certificates of our own: what is right works, all else is refused in words.

`GOOD` and `BAD` are the matrix: a broker, what we show it, and what comes of it. Nothing in it may hang or
raise, and each refusal is one sentence that says what to do.
"""

from __future__ import annotations

import re
import ssl
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from stream_detector.mqtt.dial import new_client
from stream_detector.mqtt.settings import BrokerSettings
from stream_detector.settings import Settings
from tests.brokers import EXPIRED, NOT_YET, Mosquitto, Peer, accepts, free_port, wait_for

from .driving import Driver, ScriptedBroker, wait_for_the_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.certificates import Certificates

pytestmark = pytest.mark.mosquitto

HERE = "subjectAltName=IP:127.0.0.1,DNS:localhost"
FOR_CLIENTS = "extendedKeyUsage=clientAuth"
OURS = {"cert_file": "client.pem", "key_file": "client.key"}


@dataclass(frozen=True)
class Case:
    """A broker and a client.

    Attributes:
        server: How its certificate is made; empty: a good one for 127.0.0.1 and localhost.
        asks: Whether it wants a certificate of ours.
        tls: The only version that it speaks; empty: 1.2 and 1.3.
        plain: Whether it speaks no TLS at all.
        client: How our certificate is made; empty: we show none.
        revoked: Whether it is on the broker's list of revoked ones.
        url: How we reach the broker; its port follows.
        ours: Our files, in the folder of the certificates.
        says: Words of the sentence that names the cause, then of what to do.
    """

    server: dict[str, Any] = field(default_factory=dict)
    asks: bool = False
    tls: str = ""
    plain: bool = False
    client: dict[str, Any] = field(default_factory=dict)
    revoked: bool = False
    url: str = "mqtts://127.0.0.1"
    ours: dict[str, str] = field(default_factory=dict)
    says: tuple[str, str] = ("", "")


def _made(name: str, extension: str, **how: Any) -> dict[str, Any]:
    """Return how `Certificates.issue` makes a certificate."""
    return {"name": name, "extension": extension, **how}


GOOD = {
    "a name that it certifies": Case(url="mqtts://localhost"),
    "an address that it certifies": Case(),
    "its name stands in the common name only": Case(
        server=_made("by-name", "basicConstraints=CA:false", common_name="localhost"), url="mqtts://localhost"
    ),
    "it asks for our certificate": Case(asks=True, ours=OURS),
    "we show one that it does not ask for": Case(ours=OURS),
    "TLS 1.2": Case(tls="TLSv1.2"),
    "TLS 1.2, and our certificate": Case(tls="TLSv1.2", asks=True, ours=OURS),
    "TLS 1.3": Case(tls="TLSv1.3"),
    "TLS 1.3, and our certificate": Case(tls="TLSv1.3", asks=True, ours=OURS),
    "signed by itself, and named as CA": Case(
        server=_made("itself", HERE, authority="self"),
        ours={"ca_file": "itself.pem"},
    ),
    "wss://": Case(url="wss://127.0.0.1"),
    "wss://, and our certificate": Case(url="wss://127.0.0.1", asks=True, ours=OURS),
}

BAD = {
    "signed by a foreign CA": Case(
        server=_made("foreign", HERE, authority="other-ca"),
        says=("cannot trust (unable to get local issuer", "broker.ca_file"),
    ),
    "our CA is another one": Case(
        ours={"ca_file": "other-ca.pem"}, says=("cannot trust (self", "broker.ca_file")
    ),
    "only the system's CAs are trusted": Case(
        ours={"ca_file": ""}, says=("cannot trust (self", "broker.ca_file")
    ),
    "signed by itself": Case(
        server=_made("itself", HERE, authority="self"), says=("cannot trust (self", "broker.ca_file")
    ),
    "expired": Case(
        server=_made("expired", HERE, days=EXPIRED),
        says=("certificate has expired", "the broker's certificate renewed"),
    ),
    "not yet valid": Case(
        server=_made("not-yet", HERE, days=NOT_YET), says=("not yet valid", "check the clocks")
    ),
    "another name": Case(
        server=_made("elsewhere", "subjectAltName=DNS:elsewhere.example"),
        url="mqtts://localhost",
        says=("not valid for 'localhost'", "write the name that it certifies in broker.url"),
    ),
    "another common name": Case(
        server=_made("elsewhere.example", "basicConstraints=CA:false"),
        url="mqtts://localhost",
        says=("not valid for 'localhost'", "write the name that it certifies in broker.url"),
    ),
    "an address where only the name is certified": Case(
        server=_made("no-address", "subjectAltName=DNS:localhost"),
        says=("not valid for '127.0.0.1'", "have it certify this address"),
    ),
    "made for clients": Case(
        server=_made("no-server", f"{HERE}\n{FOR_CLIENTS}"), says=("certificate purpose", "made for servers")
    ),
    "TLS 1.1 only": Case(tls="TLSv1.1", says=("fails (", "TLS older than 1.2")),
    "it asks and we show none": Case(asks=True, says=("certificate required", "set broker.cert_file")),
    "it asks and we show none, TLS 1.2": Case(
        asks=True, tls="TLSv1.2", says=("handshake failure", "check broker.cert_file")
    ),
    "ours is signed by a foreign CA": Case(
        asks=True,
        client=_made("foreign-client", FOR_CLIENTS, authority="other-ca"),
        says=("unknown ca", "have broker.cert_file signed"),
    ),
    "ours has expired": Case(
        asks=True,
        client=_made("expired-client", FOR_CLIENTS, days=EXPIRED),
        says=("certificate expired", "renew broker.cert_file"),
    ),
    "ours has expired, TLS 1.2": Case(
        asks=True,
        tls="TLSv1.2",
        client=_made("expired-client", FOR_CLIENTS, days=EXPIRED),
        says=("certificate expired", "renew broker.cert_file"),
    ),
    "ours is not yet valid": Case(
        asks=True,
        client=_made("not-yet-client", FOR_CLIENTS, days=NOT_YET),
        says=("bad certificate", "check from when to when broker.cert_file is valid"),
    ),
    "ours is revoked": Case(
        asks=True,
        client=_made("revoked", FOR_CLIENTS),
        revoked=True,
        says=("certificate revoked", "have a new one made"),
    ),
    "ours is made for servers": Case(
        asks=True,
        client=_made("no-client", "extendedKeyUsage=serverAuth"),
        says=("unsupported certificate", "made for clients"),
    ),
    "mqtt:// to a port with TLS": Case(
        url="mqtt://127.0.0.1",
        ours={"ca_file": ""},
        says=("hangs up on our login", "whether that is a TLS port"),
    ),
    "mqtts:// to a port without": Case(plain=True, says=("TLS with the broker", "names a TLS port")),
    "wss:// with another CA": Case(
        url="wss://127.0.0.1", ours={"ca_file": "other-ca.pem"}, says=("cannot trust", "broker.ca_file")
    ),
    "wss:// without the certificate that it asks for": Case(
        url="wss://127.0.0.1", asks=True, says=("certificate required", "set broker.cert_file")
    ),
    "ca_file is missing": Case(
        ours={"ca_file": "missing.pem"}, says=("missing.pem' cannot be used (No such file", "PEM file")
    ),
    "ca_file is empty": Case(
        ours={"ca_file": "empty"}, says=("empty' cannot be used (no certificate", "PEM file")
    ),
    "ca_file holds no certificate": Case(
        ours={"ca_file": "client.key"}, says=("client.key' cannot be used (no certificate", "PEM file")
    ),
    "ca_file is a folder": Case(ours={"ca_file": "."}, says=("cannot be used (Is a directory)", "PEM file")),
    "cert_file is missing": Case(
        ours={**OURS, "cert_file": "missing.pem"}, says=("broker.cert_file", "cannot be used (No such file")
    ),
    "cert_file holds no certificate": Case(
        ours={**OURS, "cert_file": "empty"},
        says=("broker.cert_file", "PEM files of a certificate and its own key"),
    ),
    "the key belongs to another certificate": Case(
        ours={**OURS, "key_file": "server.key"}, says=("key values mismatch", "a certificate and its own key")
    ),
    "the key is encrypted": Case(
        ours={**OURS, "key_file": "encrypted.key"},
        says=("broker.key_file is encrypted", "name a key without one"),
    ),
}


@pytest.fixture
def prepare(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> Callable[[Case], tuple[str, dict[str, Any]]]:
    """Start the broker of a case; return the URL and the settings for it."""

    def start(case: Case) -> tuple[str, dict[str, Any]]:
        ours = {"ca_file": "ca.pem", **case.ours}
        if case.client:
            cert, key = certificates.issue(**case.client)
            ours |= {"cert_file": cert.name, "key_file": key.name}
        more = "tls_version tlsv1.1\n" if case.tls else ""
        if case.revoked:
            more += f"crlfile {certificates.revoke(case.client['name'])}\n"
        server = certificates.issue(**case.server) if case.server else None
        listener = (
            "" if case.plain else certificates.listener(ask_for_client=case.asks, server=server, more=more)
        )
        environment = {"OPENSSL_CONF": str(speaking_only(case.tls, tmp_path))} if case.tls else None
        if case.url.startswith("wss"):
            port = free_port()
            config = f"listener {port} 127.0.0.1\nprotocol websockets\n{listener}"
            start_mosquitto(config=config, environment=environment)
            wait_for(lambda: accepts(port))
        else:
            port = start_mosquitto(listener=listener, environment=environment).port
        files = {name: certificates.ca.parent / file for name, file in ours.items() if file}
        return f"{case.url}:{port}", files

    return start


@pytest.fixture(scope="module", autouse=True)
def _odd_files(certificates: Certificates) -> None:
    """Put an empty file and an encrypted key beside the certificates."""
    folder = certificates.ca.parent
    (folder / "empty").touch()
    command = ["openssl", "pkey", "-in", certificates.client_key, "-aes256", "-passout", "pass:secret"]
    subprocess.run([*command, "-out", folder / "encrypted.key"], check=True, capture_output=True)


def speaking_only(version: str, folder: Path) -> Path:
    """Return a configuration of OpenSSL that allows one version of TLS, however old."""
    path = folder / "openssl.cnf"
    path.write_text(
        "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\n"
        f"MinProtocol={version}\nMaxProtocol={version}\nCipherString=DEFAULT:@SECLEVEL=0\n"
    )
    return path


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
def test_what_is_right_works(prepare: Callable[[Case], tuple[str, dict[str, Any]]], case: Case) -> None:
    """The login succeeds, with the version of TLS that the broker speaks, and nothing is complained of."""
    url, files = prepare(case)
    with Driver(url, **files).until_ready() as driver:
        assert driver.link.last_error is None


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused_in_words(
    prepare: Callable[[Case], tuple[str, dict[str, Any]]], case: Case
) -> None:
    """We never log in; one sentence names the cause and what to do, and stays the problem."""
    url, files = prepare(case)
    with Driver(url, connect_timeout_s=1, **files) as driver:
        driver.until(lambda: driver.link.last_error)
        sentence = str(driver.link.problem)
        for words in case.says:
            assert words in sentence
        assert re.fullmatch(r"[^\n]*[^\n.]\.", sentence)
        assert "_ssl.c" not in sentence
        assert (driver.link.epoch, driver.link.connected, driver.link.ready) == (0, False, False)


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
@pytest.mark.parametrize("receive", ["bulk", "stock"])
def test_the_brokers_alert_is_heard_each_time(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, receive: str, protocol: str
) -> None:
    """With TLS 1.3 the refusal comes while we write: it is read all the same, and named."""
    broker = start_mosquitto(listener=certificates.listener(ask_for_client=True))
    for _ in range(20):
        with Driver(
            f"mqtts://127.0.0.1:{broker.port}", ca_file=certificates.ca, receive=receive, protocol=protocol
        ) as driver:
            driver.until(lambda driver=driver: driver.link.last_error)  # type: ignore[misc]
            assert "certificate required" in str(driver.link.problem)


@pytest.mark.parametrize("receive", ["bulk", "stock"])
def test_messages_pass_through_tls(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, receive: str
) -> None:
    """Small, many and large messages arrive as without TLS."""
    broker = start_mosquitto(listener=certificates.listener())
    context = ssl.create_default_context(cafile=certificates.ca)
    driver = Driver(f"mqtts://127.0.0.1:{broker.port}", receive=receive, ca_file=certificates.ca)
    with driver, Peer(broker.port, tls=context) as peer:
        driver.until_ready()
        for number in range(300):
            peer.client.publish("a/x", b"%d" % number, qos=1)
        peer.publish("a/large", bytes(1_000_000))
        driver.until(lambda: len(driver.messages) == 301 and driver.link.drained)
        assert driver.payloads == [b"%d" % number for number in range(300)] + [bytes(1024)]


def test_messages_pass_through_websockets_in_tls(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    """A wss:// connection carries messages like the others."""
    port = free_port()
    broker = start_mosquitto(
        config=f"listener {port} 127.0.0.1\nprotocol websockets\n{certificates.listener()}"
    )
    with Driver(f"wss://127.0.0.1:{port}", ca_file=certificates.ca).until_ready() as driver:
        with Peer(broker.port) as peer:
            for number in range(20):
                peer.publish("a/x", b"%d" % number)
        driver.until(lambda: driver.payloads == [b"%d" % number for number in range(20)])


def test_a_connection_outlives_the_brokers_certificate(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    """A certificate that expires meanwhile ends nothing; the next connection is refused."""
    now = datetime.now(UTC)
    end = now + timedelta(seconds=4)
    days = tuple(f"{when:%Y%m%d%H%M%SZ}" for when in (now - timedelta(days=1), end))
    server = certificates.issue("short", HERE, days=(days[0], days[1]))
    broker = start_mosquitto(listener=certificates.listener(server=server))
    url = f"mqtts://127.0.0.1:{broker.port}"
    context = ssl.create_default_context(cafile=certificates.ca)
    with Driver(url, ca_file=certificates.ca, keepalive_s=1).until_ready() as driver:
        with Peer(broker.port, tls=context) as peer:
            driver.until(lambda: datetime.now(UTC) > end + timedelta(seconds=1))
            peer.publish("a/x", b"still here")
            driver.until(lambda: driver.payloads == [b"still here"])
        assert (driver.link.ready, driver.link.epoch) == (True, 1)
        with Driver(url, ca_file=certificates.ca, client_id="newcomer") as newcomer:
            newcomer.until_problem("certificate has expired")


def test_a_broker_that_never_shakes_hands_is_left(certificates: Certificates) -> None:
    """A port that takes the connection and says nothing ends in words after the connect timeout."""
    with ScriptedBroker(wait_for_the_end) as silent:
        url = silent.url.replace("mqtt:", "mqtts:")
        with Driver(url, ca_file=certificates.ca, connect_timeout_s=0.2) as driver:
            driver.until_problem("names a TLS port")
            assert "timed out" in str(driver.link.problem)


def test_a_certificate_may_be_mended_while_we_run(
    start_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> None:
    """The files are read at each attempt: a renewed one needs no restart."""
    broker = start_mosquitto(listener=certificates.listener())
    ca_file = tmp_path / "ca.pem"
    with Driver(f"mqtts://127.0.0.1:{broker.port}", ca_file=ca_file) as driver:
        driver.until_problem("No such file")
        ca_file.write_bytes(certificates.ca.read_bytes())
        driver.until_ready()


def test_no_setting_turns_the_verification_off() -> None:
    """No key of the configuration is about trusting less, and each context verifies chain and name."""
    names = {name for name, _ in _settings(Settings)}
    assert {"url", "ca_file", "cert_file", "key_file"} <= names
    suspicious = re.compile("insecure|verif|skip|trust|ignore|allow|unsafe|hostname|check|cipher|tls|ssl")
    assert {name for name in names if suspicious.search(name)} == set()
    switches = {name for name, kind in _settings(BrokerSettings) if kind is bool}
    assert switches == set()


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
def test_every_context_verifies(certificates: Certificates, scheme: str) -> None:
    """Whatever files are named: a certificate is required, its name is checked, and TLS is 1.2 at least."""
    for files in (
        {},
        {"ca_file": certificates.ca},
        {"ca_file": certificates.ca, "cert_file": certificates.client, "key_file": certificates.client_key},
    ):
        settings = BrokerSettings.model_validate({"url": f"{scheme}://localhost", **files})
        client = new_client(settings, client_id="x", mqtt5=True, will=("a", b""), max_payload=1)
        context = client._ssl_context
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname is True
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def _settings(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Walk over all settings, whatever sections they stand in."""
    for name, its in model.model_fields.items():
        yield name, its.annotation
        kinds = [its.annotation, *getattr(its.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _settings(kind)
