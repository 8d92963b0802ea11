"""Where the broker is and how we log in: the section `broker` of the configuration.

There is no switch that turns the verification of certificates off: a broker with its own
certificate is trusted by naming its CA in `ca_file`.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations while running
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

DEFAULT_PORTS = {"embedded": 1883, "mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
DAY_S = 24 * 60 * 60
LONGEST_TEXT = 65_535
"""Bytes: MQTT writes the length in two."""

LEAST_REDELIVERIES = 4096


class Address(NamedTuple):
    """A broker's URL in parts.

    Attributes:
        scheme: One of `DEFAULT_PORTS`.
        host: Name or address, without brackets.
        port: TCP port.
        path: Of a websocket; ``/mqtt`` where the URL has none.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in {"mqtts", "wss"}

    @property
    def websockets(self) -> bool:
        """Whether MQTT is wrapped in websockets."""
        return self.scheme in {"ws", "wss"}

    def __str__(self) -> str:
        """Return host and port as people write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class BrokerSettings(BaseModel):
    """How to reach the broker.

    Example:
        >>> BrokerSettings(url="mqtts://broker.example").address.port
        8883
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[
        str,
        Field(
            description="embedded:// is a broker inside, for trying; mqtt:// mqtts:// ws:// wss:// "
            "connect to yours. Ports, where not given: 1883, 8883, 80, 443."
        ),
    ] = "embedded://127.0.0.1:1883"
    protocol: Annotated[
        Literal["auto", "5", "3.1.1"],
        Field(description="MQTT version; auto takes 5 where the broker speaks it, else 3.1.1."),
    ] = "auto"
    client_id: Annotated[
        str | None,
        Field(
            description="Name of the session at the broker; null: stream-detector-<8 hex kept in state_dir>.",
            min_length=1,
            max_length=128,
        ),
    ] = None
    username: Annotated[str | None, Field(description="Login name.")] = None
    password: Annotated[SecretStr | None, Field(description="Password; better: password_file.")] = None
    password_file: Annotated[
        Path | None, Field(description="File with the password; read at each connect.")
    ] = None
    ca_file: Annotated[
        Path | None,
        Field(description="PEM file of the CA that signed the broker's certificate; null: the system's CAs."),
    ] = None
    cert_file: Annotated[Path | None, Field(description="PEM file of our own certificate.")] = None
    key_file: Annotated[Path | None, Field(description="PEM file of the key of cert_file.")] = None
    keepalive_s: Annotated[
        int,
        Field(
            description="Seconds between pings; a dead connection is noticed after twice that.",
            ge=1,
            le=65535,
        ),
    ] = 15
    connect_timeout_s: Annotated[
        float, Field(description="Seconds that a step of connecting may take.", gt=0, le=20)
    ] = 5.0
    receive: Annotated[
        Literal["bulk", "stock"],
        Field(
            description="How the socket is read: bulk is our own framing, stock is paho's; "
            "websockets are always read by stock."
        ),
    ] = "bulk"
    receive_maximum: Annotated[
        int,
        Field(description="Unacknowledged messages that the broker may send us (MQTT 5).", ge=1, le=65535),
    ] = 1000
    session_expiry_s: Annotated[
        int,
        Field(
            description="Seconds that the broker keeps our session while we are away (MQTT 5); "
            "0: what arrives meanwhile is lost, with 3.1.1 too.",
            ge=0,
            lt=1 << 32,
        ),
    ] = 14 * DAY_S

    @field_validator("url")
    @classmethod
    def _url_is_ours(cls, url: str) -> str:
        _address(url)
        return url

    @field_validator("protocol", mode="before")
    @classmethod
    def _yaml_reads_five_as_a_number(cls, value: object) -> object:
        return "5" if value == 5 else value  # noqa: PLR2004 - the version

    @field_validator("username", "password")
    @classmethod
    def _fits_into_a_packet(cls, value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
        if len(text.encode()) > LONGEST_TEXT:
            raise ValueError(f"it has more than {LONGEST_TEXT} bytes, which MQTT cannot carry.")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("broker.password and broker.password_file are both set; keep one of them.")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("broker.password needs broker.username, which is not set.")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("broker.cert_file and broker.key_file come together; one of them is not set.")
        if not self.address.tls and (self.ca_file is not None or self.cert_file is not None):
            raise ValueError(
                "broker.ca_file, cert_file and key_file need TLS: write broker.url with mqtts:// or wss://."
            )
        return self

    @property
    def redeliveries(self) -> int:
        """Return how many deliveries are remembered, to know them when they come again."""
        return max(LEAST_REDELIVERIES, 4 * self.receive_maximum)

    @property
    def address(self) -> Address:
        """The URL in parts."""
        return _address(self.url)

    def read_password(self) -> str | None:
        """Return the password, or None.

        Raises:
            OSError: `password_file` cannot be read.
            ValueError: It is not UTF-8, or longer than MQTT allows.
        """
        if self.password_file is not None:
            with self.password_file.open("rb") as file:
                content = file.read(LONGEST_TEXT + 1)
            if len(content) > LONGEST_TEXT:
                raise ValueError(f"it has more than {LONGEST_TEXT} bytes")
            return content.decode().rstrip("\r\n")
        return None if self.password is None else self.password.get_secret_value()


def _address(url: str) -> Address:
    """Take a URL apart; its errors never repeat it, because it might hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        legal = ", ".join(f"{scheme}://" for scheme in DEFAULT_PORTS)
        raise ValueError(f"broker.url must begin with one of {legal}.")
    if "@" in parts.netloc:
        raise ValueError(
            "broker.url holds a login, which logs would show; use broker.username and broker.password_file."
        )
    if not parts.hostname:
        raise ValueError("broker.url names no host; write it like mqtt://broker.example:1883.")
    if parts.query or parts.fragment or (parts.path not in {"", "/"} and parts.scheme not in {"ws", "wss"}):
        raise ValueError("broker.url ends after the port; only ws:// and wss:// take a path.")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("broker.url has a port that is no number from 1 to 65535.") from None
    if port == 0 and parts.scheme != "embedded":  # inside, 0 takes a free one
        raise ValueError("broker.url has port 0; write a number from 1 to 65535.")
    path = parts.path if parts.path not in {"", "/"} else "/mqtt"
    return Address(parts.scheme, parts.hostname, DEFAULT_PORTS[parts.scheme] if port is None else port, path)
