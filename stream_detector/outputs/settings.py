"""Settings of what leaves the service, and where to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_SCORES = 200
"""Devices whose scores Home Assistant may get: it records every one."""


class TopicSettings(BaseModel):
    """Where the service publishes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field(
        "stream_detector",
        pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$",
        max_length=128,
        description="Everything that the service publishes stands below this topic.",
    )


class MetricsSettings(BaseModel):
    """Metrics of single devices, on /metrics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_series: int = Field(
        0,
        ge=0,
        le=10_000,
        description="So many devices, whichever come first, have series of their own: score, values, expected"
        " values. Each has about 4 for each of its channels. 0: none.",
    )
    device_series_ttl_s: float = Field(
        3600.0,
        ge=1,
        le=31_536_000,
        description="A device not heard for so long loses its series, and its place goes to another.",
    )
    device_series_public: bool = Field(
        False,
        description="Show them also where http.listen is no loopback address: whoever reaches /metrics then"
        " reads the names and values of devices, without a token.",
    )


class HomeAssistantSettings(BaseModel):
    """Whether and how devices are announced to Home Assistant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(False, description="Announce devices to Home Assistant by MQTT discovery.")
    prefix: str = Field(
        "homeassistant",
        pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$",
        max_length=128,
        description="Home Assistant's discovery prefix, as its MQTT integration is configured.",
    )
    streams: list[str] | None = Field(
        None, description="Streams whose devices are announced; null: all of them."
    )
    score_devices: list[str] = Field(
        default_factory=list,
        max_length=MOST_SCORES,
        description="Devices that get a sensor for their score, as `stream/device`; their scores are then"
        " published, at most one in 30 s each.",
    )

    @field_validator("score_devices")
    @classmethod
    def _stream_and_device(cls, value: list[str]) -> list[str]:
        for each in value:
            if not all(each.partition("/")):
                raise ValueError(f"{each!r} must be stream/device, such as pumps/pump-017")
        return value

    @property
    def status_topic(self) -> str:
        """Return where Home Assistant says that it has started."""
        return f"{self.prefix}/status"

    @property
    def filters(self) -> list[str]:
        """Return what is to be subscribed to."""
        return [self.status_topic] if self.enabled else []

    def owns(self, topic: str) -> bool:
        """Return whether a topic is between Home Assistant and us, so never telemetry."""
        return topic.startswith(f"{self.prefix}/device/sd_") or topic in self.filters
