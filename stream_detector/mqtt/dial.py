"""Open one connection to the broker: TCP, TLS, websocket, and the CONNECT packet.

Everything that can go wrong here becomes one sentence that names the setting to look at.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stream_detector.errors import BrokerError

from . import sentences
from .client import BulkClient, Client

if TYPE_CHECKING:
    from .settings import BrokerSettings

STOCK_PACKET_LIMIT = 16 << 20
"""Bytes: the stock path holds a packet in memory, so the broker is asked to skip larger ones."""


def new_client(
    settings: BrokerSettings,
    *,
    client_id: str,
    mqtt5: bool,
    will: tuple[str, bytes],
    max_payload: int,
    requests: bytes | None = None,
) -> Client:
    """Return a client that knows its login, its last will (retained, QoS 1) and its certificates.

    Raises:
        BrokerError: A file that the settings name cannot be used.
    """
    address = settings.address
    bulk = settings.receive == "bulk" and not address.websockets
    client = (BulkClient if bulk else Client)(
        client_id,
        mqtt5=mqtt5,
        websockets=address.websockets,
        max_payload=max_payload,
        requests=requests,
        keep_session=settings.session_expiry_s > 0,
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
        except (OSError, ValueError) as error:  # no UTF-8, or too long
            raise BrokerError(sentences.unusable_file("broker.password_file", error)) from error
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
                clean_start=settings.session_expiry_s == 0,
                properties=_connect_properties(settings, client),
            )
        else:
            client.connect(address.host, address.port, settings.keepalive_s)
    except (OSError, ValueError, IndexError) as error:  # the last two: a websocket answer that is none
        client.drop()
        raise BrokerError(sentences.unreachable(address, error)) from error


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
        name = f"broker.ca_file '{settings.ca_file}'"
        remedy = "name a PEM file of certificates that this user can read"
        raise BrokerError(sentences.unusable_file(name, error, remedy)) from error
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, _no_passphrase)
        except OSError as error:
            name = f"broker.cert_file '{settings.cert_file}' with broker.key_file '{settings.key_file}'"
            remedy = "name PEM files of a certificate and its own key that this user can read"
            raise BrokerError(sentences.unusable_file(name, error, remedy)) from error
    return context


def _no_passphrase() -> str:
    """Answer OpenSSL, which would else ask on the terminal and wait there for ever.

    Raises:
        BrokerError: Always.
    """
    raise BrokerError(sentences.ENCRYPTED_KEY)
