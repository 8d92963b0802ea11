"""What can be wrong between us and the broker, each in one sentence that names what to look at.

These are the words of `Link.problem`: they stand in the log and in /readyz.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Address

LOST_WITH_3_1_1 = (
    "the broker speaks MQTT 3.1.1 only: a publish that it denies looks delivered, only its own limits hold "
    "back a flood, and retained messages come again at each connect."
)

ENCRYPTED_KEY = (
    "broker.key_file is encrypted, and nobody is here to type its passphrase; name a key without one, in a "
    "file that only this user can read."
)


def not_asked(broker: Address) -> str:
    """Nothing has been tried yet."""
    return f"the broker at {broker} has not been asked yet."


def unreachable(broker: Address, error: Exception) -> str:
    """There is no TCP connection, or its TLS or websocket handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the broker at {broker} shows a certificate that we cannot trust ({error.verify_message}); set "
            "broker.ca_file to the CA that signed it, and write the name that it certifies in broker.url."
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"TLS with the broker at {broker} fails ({error.reason or words(error)}); check that broker.url "
            "names a TLS port, and broker.cert_file where the broker asks for a certificate."
        )
    return (
        f"the broker at {broker} cannot be reached ({words(error)}); check that it runs and that broker.url "
        "is right."
    )


def no_answer(broker: Address) -> str:
    """The connection stands, but our login is not answered."""
    return f"the broker at {broker} does not answer our login; check that broker.url names an MQTT port."


def hung_up(broker: Address) -> str:
    """The connection was closed instead of an answer to our login."""
    return (
        f"the broker at {broker} hangs up on our login; check its log, the port in broker.url, and "
        "broker.cert_file where it asks for a certificate."
    )


def login_refused(broker: Address, reason: str) -> str:
    """User or password are wrong, or may not log in."""
    return f"the broker at {broker} refuses our login ({reason}); check broker.username and its password."


def refused(broker: Address, reason: str) -> str:
    """The broker does not want us for another reason."""
    return f"the broker at {broker} refuses the connection ({reason}); check broker.protocol and its log."


def subscription_refused(broker: Address, name: str, reason: str) -> str:
    """We may not read what we are here to read."""
    return (
        f"the broker at {broker} refuses the subscription to '{name}' ({reason}); allow our login to read it "
        "in the broker's access rules."
    )


def taken_over(broker: Address, client_id: str) -> str:
    """Somebody else logs in under our name, and each login throws the other out."""
    return (
        f"the broker at {broker} closes our connection again and again right after login: it seems that "
        f"another program uses the client id '{client_id}'; stop it, or set broker.client_id."
    )


def silent(broker: Address, seconds: float) -> str:
    """Pings are not answered."""
    return f"the broker at {broker} has been silent for {seconds:.0f} s; connecting again."


def lost(broker: Address, error: Exception | None) -> str:
    """A connection that stood has ended."""
    why = "closed by the broker" if error is None else words(error)
    return f"the connection to the broker at {broker} is lost ({why}); connecting again."


def unusable_file(setting: str, error: Exception) -> str:
    """A file that the configuration names is missing, or not what it should be."""
    return f"{setting} cannot be used ({words(error)})."


def words(error: Exception) -> str:
    """Return the system's words for an error, without numbers and file names."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
