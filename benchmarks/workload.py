"""The messages that are sent: 1000 devices, 4 channels, about 130 bytes of JSON, 1 % out of range.

Every reading is one second after the one before it of the same device, whatever the speed at which it
is sent, so event time passes as it would in a plant. An anomalous reading is a lone one beyond the
declared range: it raises an alert that ten normal readings clear, the most an anomaly can cost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

DEVICES = 1000
ANOMALIES = 0.01
STREAM = "pumps"
SITE, BARE_SITE = b"a", b"b"
"""The service listens to the first, the bare client to the second."""
HIGHEST = 20.0
CHANNELS: dict[str, dict[str, Any]] = {
    "vibration": {"unit": "mm/s", "min": 0, "max": HIGHEST},
    "temperature": {"unit": "°C"},
    "pressure": {"unit": "bar"},
    "current": {"unit": "A"},
}
HISTORY = timedelta(hours=6)
"""The first reading is so old: there is room for as many before "now"."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Readings as they travel.

    Attributes:
        topics: One a message.
        payloads: Likewise.
        anomalous: Place of each message that is out of range -> (device, event time as alerts tell it).
    """

    topics: list[bytes]
    payloads: list[bytes]
    anomalous: dict[int, tuple[str, str]]

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.topics)

    def packets(self, qos: int) -> list[bytes]:
        """Return each message as a PUBLISH packet of MQTT 3.1.1."""
        out = []
        for place, (topic, payload) in enumerate(zip(self.topics, self.payloads, strict=True)):
            packet_id = (place % 65_535 + 1).to_bytes(2, "big") if qos else b""
            body = len(topic).to_bytes(2, "big") + topic + packet_id + payload
            out.append(bytes((0x30 | qos << 1, len(body) & 127 | 128, len(body) >> 7)) + body)
        return out


def device(number: int) -> str:
    """Return the name of a device."""
    return f"pump-{number:04d}"


def topic(number: int, site: bytes = SITE) -> bytes:
    """Return the topic of a device."""
    return b"plant/%s/%s/telemetry" % (site, device(number).encode())


def messages(first: int, passes: int, *, site: bytes = SITE, start: datetime | None = None) -> Messages:
    """Return `passes` readings of each device, device by device.

    Args:
        first: Number of the first reading of each device: later readings are newer.
        passes: Readings of each device.
        site: Where the devices stand.
        start: Event time of reading 0.
    """
    start = start or datetime.now(UTC).replace(microsecond=0) - HISTORY
    random = np.random.default_rng(first)
    names = [device(number) for number in range(DEVICES)]
    topics = [topic(number, site) for number in range(DEVICES)]
    payloads: list[bytes] = []
    anomalous: dict[int, tuple[str, str]] = {}
    for number in range(first, first + passes):
        at = start + timedelta(seconds=number)
        told = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        vibration = random.normal(3.0, 0.3, DEVICES)
        out = np.flatnonzero(random.random(DEVICES) < ANOMALIES)
        vibration[out] = random.uniform(1.5 * HIGHEST, 3 * HIGHEST, len(out))
        others = random.normal((41.5, 5.1, 12.4), (0.5, 0.1, 0.4), (DEVICES, 3))
        for place in out.tolist():
            anomalous[len(payloads) + place] = names[place], told.replace("Z", "000Z")
        payloads += [
            b'{"ts":"%s","seq":%d,"values":{"vibration":%.3f,"temperature":%.2f,"pressure":%.3f,"current":%.2f}}'
            % (told.encode(), number, x, *rest)
            for x, rest in zip(vibration.tolist(), others.tolist(), strict=True)
        ]
    return Messages(topics * passes, payloads, anomalous)


def configuration(
    port: int, http_port: int, folder: str, *, qos: int = 1, durability: str | None = None
) -> str:
    """Return the configuration of the service; JSON is YAML too."""
    return json.dumps(
        {
            "broker": {"url": f"mqtt://127.0.0.1:{port}"},
            "streams": {
                STREAM: {
                    "topic": f"plant/{SITE.decode()}/{{device}}/telemetry",
                    "channels": CHANNELS,
                    "qos": qos,
                    "durability": durability,
                }
            },
            "http": {"listen": f"127.0.0.1:{http_port}"},
            "state_dir": f"{folder}/state",
            "models_dir": f"{folder}/models",
            "new_devices_per_minute": 1_000_000,
        }
    )
