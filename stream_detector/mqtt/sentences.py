"""What can be wrong between us and the broker, each in one sentence that names what to look at.

These are the words of `Link.problem`: they stand in the log and in /readyz.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Address

LOST_WITH_3_1_1 = (
    "the broker speaks MQTT 3.1.1 only: a publish that it denies, or that nobody hears, looks delivered, "
    "only its own limits hold back a flood, and retained messages come again at each connect."
)

SESSION_GONE = (
    "the broker has no session of ours, so what was sent to us while we were away is lost; let it keep "
    "sessions, over its own restarts too."
)

UNTRUSTED = {
    9: "check the clocks here and there",
    10: "have the broker's certificate renewed",
    26: "the broker needs a certificate made for servers",
    62: "write the name that it certifies in broker.url",
    64: "write the name that it certifies in broker.url, or have it certify this address",
}
"""What to do about a broker's certificate, by OpenSSL's number (X509_V_ERR_*) of what is wrong with it."""

NO_TLS = "check that broker.url names a TLS port"
TLS_REMEDIES = (
    ("certificate required", "the broker asks for a certificate: set broker.cert_file and broker.key_file"),
    ("certificate expired", "renew broker.cert_file"),
    ("certificate revoked", "the broker does not take broker.cert_file any more: have a new one made"),
    ("unknown ca", "have broker.cert_file signed by a CA that the broker trusts"),
    ("unsupported certificate", "have broker.cert_file made for clients"),
    ("bad certificate", "check from when to when broker.cert_file is valid, and the clocks here and there"),
    ("handshake failure", "check broker.cert_file where the broker asks for one, and the broker's ciphers"),
    ("protocol", "the broker speaks only TLS older than 1.2, which protects nothing: update it"),
)
"""What to do about a TLS handshake, by a part of OpenSSL's words; the broker's words are its alerts."""

REFUSALS = {
    0x85: "it does not like the client id '{}': set broker.client_id",
    0x86: "check broker.username and its password",
    0x87: "check broker.username and its password, and whether it allows the client id '{}'",
    0x8A: "it has banned us: see its log",
    0x97: "it allows no more: raise its limit of connections",
    0x9A: "let it keep retained messages, which status and state need",
    0x9B: "let it take QoS 1, which nothing is safe without",
}
"""What to do about a refused login, by the code in CONNACK (MQTT 5, section 3.2.2.2)."""

ALERT = re.compile("^(SSLV3|TLSV1[0-9]*)_ALERT_")
SOURCE = re.compile(r"^\[SSL\] | \(_ssl\.c:[0-9]+\)$")

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
        why = error.verify_message.rstrip(".")
        remedy = UNTRUSTED.get(error.verify_code, "set broker.ca_file to the CA that signed it")
        return f"the broker at {broker} shows a certificate that we cannot trust ({why}); {remedy}."
    if isinstance(error, ssl.SSLError):
        why = words(error)
        remedy = next((remedy for part, remedy in TLS_REMEDIES if part in why), NO_TLS)
        return f"TLS with the broker at {broker} fails ({why}); {remedy}."
    return (
        f"the broker at {broker} cannot be reached ({words(error)}); check that it runs and that broker.url "
        "is right."
    )


def no_answer(broker: Address) -> str:
    """The connection stands, but our login is not answered."""
    return f"the broker at {broker} does not answer our login; check that broker.url names an MQTT port."


def hung_up(broker: Address) -> str:
    """The connection was closed instead of an answer to our login."""
    tls = "broker.cert_file where it asks for a certificate" if broker.tls else "whether that is a TLS port"
    return f"the broker at {broker} hangs up on our login; check its log, the port in broker.url, and {tls}."


def refused(broker: Address, code: int, reason: str, client_id: str) -> str:
    """The broker answers our login with a refusal; the codes are those of MQTT 5."""
    remedy = REFUSALS.get(code, "check broker.protocol and the broker's log").format(client_id)
    return f"the broker at {broker} refuses our login ({reason}); {remedy}."


def subscription_refused(broker: Address, name: str, reason: str) -> str:
    """We may not read what we are here to read."""
    return (
        f"the broker at {broker} refuses the subscription to '{name}' ({reason}); allow our login to read it "
        "in the broker's access rules."
    )


def session_shortened(granted: int, wish: int) -> str:
    """The broker forgets us sooner than we asked it to."""
    return (
        f"the broker keeps our session for {granted} s while we are away, not for the {wish} s of "
        "broker.session_expiry_s; let it keep sessions for longer."
    )


def taken_over(broker: Address, client_id: str) -> str:
    """Somebody else has logged in under our name, and the broker says so."""
    return (
        f"another program has logged in at the broker at {broker} with our client id '{client_id}', and the "
        "broker gave it our session; stop it, or set broker.client_id."
    )


def flapping(broker: Address, client_id: str) -> str:
    """No login lasts: most likely somebody else has our name, and each throws the other out."""
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


def unusable_file(setting: str, error: Exception, remedy: str = "name a file that this user can read") -> str:
    """A file that the configuration names is missing, or not what it should be."""
    return f"{setting} cannot be used ({words(error)}); {remedy}."


def words(error: Exception) -> str:
    """Return the system's words for an error, without numbers and file names."""
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError) and reason:
        return ALERT.sub("", reason).lower().replace("_", " ")
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return SOURCE.sub("", text)
