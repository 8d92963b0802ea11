"""The section `broker`: what is refused is refused before anything connects, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from stream_detector.mqtt.settings import BrokerSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("embedded://127.0.0.1", "127.0.0.1", 1883, "/mqtt"),
        ("mqtt://broker.example", "broker.example", 1883, "/mqtt"),
        ("mqtts://broker.example/", "broker.example", 8883, "/mqtt"),
        ("ws://broker.example", "broker.example", 80, "/mqtt"),
        ("wss://broker.example:444/a/b", "broker.example", 444, "/a/b"),
        ("mqtt://[::1]:1884", "::1", 1884, "/mqtt"),
    ],
)
def test_ports_have_defaults(url: str, host: str, port: int, path: str) -> None:
    """Each scheme has its usual port, and a websocket its usual path."""
    address = BrokerSettings(url=url).address
    assert (address.host, address.port, address.path) == (host, port, path)


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"url": "http://broker.example"}, "mqtts://"),
        ({"url": "broker.example"}, "must begin with"),
        ({"url": "mqtt://"}, "no host"),
        ({"url": "mqtt://broker.example:99999"}, "1 to 65535"),
        ({"url": "mqtt://broker.example:0"}, "1 to 65535"),
        ({"url": "mqtt://broker.example/topic"}, "ends after the port"),
        ({"url": "mqtt://joe:hunter2@broker.example"}, "broker.username"),
        ({"username": "joe", "password": "hunter2", "password_file": "p"}, "keep one"),
        ({"password": "hunter2"}, "broker.username"),
        ({"url": "mqtts://b", "cert_file": "c.pem"}, "come together"),
        ({"url": "mqtt://b", "ca_file": "ca.pem"}, "need TLS"),
        ({"keepalive_s": 0}, "greater than or equal to 1"),
        ({"connect_timeout_s": 21}, "less than or equal to 20"),
        ({"receive": "turbo"}, "'bulk' or 'stock'"),
        ({"protocol": "3.1"}, "'auto', '5' or '3.1.1'"),
        ({"protocol": 4}, "'auto', '5' or '3.1.1'"),
        ({"tls_insecure": True}, "Extra inputs"),
        ({"username": "ä" * 32_768}, "more than 65535 bytes"),
        ({"username": "joe", "password": "hunter2" * 9_363}, "more than 65535 bytes"),
    ],
)
def test_impossible_sections_are_refused(section: dict[str, Any], word: str) -> None:
    """The sentence says what is legal, and never repeats a secret."""
    with pytest.raises(ValidationError) as refused:
        BrokerSettings(**section)
    assert word in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_version_may_be_a_number() -> None:
    """YAML reads `protocol: 5` as a number."""
    assert BrokerSettings.model_validate({"protocol": 5}).protocol == "5"


def test_the_password_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    """Editors end files with a newline; passwords do not."""
    file = tmp_path / "password"
    file.write_text(" hunter2 \n")
    assert BrokerSettings(username="joe", password_file=file).read_password() == " hunter2 "


def test_a_password_is_never_shown() -> None:
    """Neither repr nor a dump of the section holds it."""
    settings = BrokerSettings.model_validate({"username": "joe", "password": "hunter2"})
    assert settings.read_password() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
