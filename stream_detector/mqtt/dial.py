"""Open one connection to the broker: TCP, TLS, websocket, and the CONNECT packet.

Everything that can go wrong here becomes one sentence that names the setting to look at.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stream_detector.errors import BrokerError

from .client import BulkClient, Client

if TYPE_CHECKING:
    from .settings import BrokerSettings

STOCK_PACKET_LIMIT = 16 << 20
"""Bytes: the stock path holds a packet in memory, so the broker is asked to skip larger ones."""


def new_client(
    settings: BrokerSettings, *, client_id: str, mqtt5: bool, will: tuple[str, bytes], max_payload: int
) -> Client:
    """Return a client that knows its login, its last will (retained, QoS 1) and its certificates.

    Raises:
        BrokerError: A file that the settings name cannot be used.
    """
    address = settings.address
    bulk = settings.receive == "bulk" and not address.websockets
    client = (BulkClient if bulk else Client)(
        client_id, mqtt5=mqtt5, websockets=address.websockets, max_payload=max_payload
    )
    client.connect_timeout = settings.connect_timeout_s
    client.will_set(will[0], will[1], qos=1, retain=True)
    if address.websockets:
        client.ws_set_options(path=address.path)
    if address.tls:
        client.tls_set_context(_tls_context(settings))
    if settings.username is not None:
        try:
            client.username_pw_set(settings.username, settings.read_password())
        except (OSError, UnicodeDecodeError) as error:
            raise BrokerError(f"broker.password_file cannot be read: {_words(error)}.") from error
    return client


def dial(client: Client, settings: BrokerSettings, *, mqtt5: bool) -> None:
    """Connect and send CONNECT; the answer is read later. Each step is bounded by `connect_timeout_s`.

    Raises:
        BrokerError: There is no connection; the sentence says why.
    """
    address = settings.address
    try:
        if mqtt5:
            client.connect(
                address.host,
                address.port,
                settings.keepalive_s,
                clean_start=False,
                properties=_connect_properties(settings, client),
            )
        else:
            client.connect(address.host, address.port, settings.keepalive_s)
    except (OSError, ValueError, IndexError) as error:  # the last two: a websocket answer that is none
        client.drop()
        raise BrokerError(explain(error, settings)) from error


def explain(error: Exception, settings: BrokerSettings) -> str:
    """Return one sentence on why there is no connection, and what to look at."""
    where = f"the broker at {settings.address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{where} shows a certificate that we cannot trust ({error.verify_message}); set broker.ca_file "
            "to the CA that signed it, and write the name that it certifies in broker.url."
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"TLS with {where} fails ({error.reason or _words(error)}); check that broker.url names a TLS "
            "port, and broker.cert_file where the broker asks for a certificate."
        )
    return f"{where} cannot be reached ({_words(error)}); check that it runs and that broker.url is right."


def _connect_properties(settings: BrokerSettings, client: Client) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = settings.receive_maximum
    if not isinstance(client, BulkClient):
        properties.MaximumPacketSize = STOCK_PACKET_LIMIT
    return properties


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name, always."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise BrokerError(f"broker.ca_file '{settings.ca_file}' cannot be used: {_words(error)}.") from error
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        except OSError as error:
            raise BrokerError(
                f"broker.cert_file '{settings.cert_file}' and its key_file cannot be used: {_words(error)}."
            ) from error
    return context


def _words(error: Exception) -> str:
    """Return the system's words for an error, without numbers and file names."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
