"""The whole configuration: sections, most of which stand beside the code that uses them.

What must fit together across sections is checked here.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_detector.formats.topics import TopicPattern
from stream_detector.mqtt.settings import BrokerSettings
from stream_detector.outputs.settings import HomeAssistantSettings, MetricsSettings, TopicSettings
from stream_detector.settings.streams import StreamSettings  # noqa: TC001 - pydantic reads annotations
from stream_detector.storage.settings import HistorySettings
from stream_detector.web.settings import HttpSettings

ENV_PREFIX = "STREAM_DETECTOR__"
NAME = r"^[A-Za-z0-9_.-]{1,64}$"


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    broker: BrokerSettings = Field(default_factory=BrokerSettings, description="How to reach the broker.")
    topics: TopicSettings = Field(default_factory=TopicSettings, description="Where the service publishes.")
    streams: Annotated[dict[str, StreamSettings], Field(min_length=1)] = Field(
        description="Streams by name: topics of one kind of device, one schema, one model, one alert policy."
    )
    http: HttpSettings = Field(default_factory=HttpSettings, description="The page, /metrics, and health.")
    metrics: MetricsSettings = Field(
        default_factory=MetricsSettings, description="Metrics of single devices, on /metrics."
    )
    home_assistant: HomeAssistantSettings = Field(
        default_factory=HomeAssistantSettings,
        description="Whether and how devices are announced to Home Assistant.",
    )
    state_dir: Path = Field(
        Path("state"), description="What has to survive a restart: journal, outbox, windows, open alerts."
    )
    history: HistorySettings = Field(
        default_factory=HistorySettings, description="How long the journal is kept for replay and training."
    )
    models_dir: Path = Field(Path("models"), description="Model bundles: models/<name>/<version>/.")
    max_devices: int = Field(
        50_000,
        ge=1,
        le=10_000_000,
        description="Devices of a stream that are kept in memory. Where there are more, those that spoke only"
        " a few times move to disk, until they speak again.",
    )
    new_devices_per_minute: int = Field(
        6000,
        ge=1,
        le=10_000_000,
        description="Of a stream; further new ones are refused and counted. Known devices are never refused.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")

    @field_validator("streams")
    @classmethod
    def _distinct(cls, streams: dict[str, StreamSettings]) -> dict[str, StreamSettings]:
        for name in streams:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r} is no stream name: 1-64 letters, digits, '_', '.', '-'")
        patterns = {name: TopicPattern.parse(stream.topic) for name, stream in streams.items()}
        for (one, first), (other, second) in itertools.combinations(patterns.items(), 2):
            if first.overlaps(second):
                raise ValueError(
                    f"the topics of {one} ({first.text}) and {other} ({second.text}) can overlap;"
                    " a topic belongs to one stream"
                )
        return streams

    @model_validator(mode="after")
    def _apart_from_what_we_publish(self) -> Settings:
        base = tuple(self.topics.base.split("/"))
        for name, stream in self.streams.items():
            if TopicPattern.parse(stream.topic).levels[: len(base)] == base:
                raise ValueError(
                    f"streams.{name}.topic ({stream.topic}) stands below topics.base ({self.topics.base}),"
                    " where the service publishes and never reads; choose another topics.base"
                )
        return self

    @model_validator(mode="after")
    def _names_no_device_to_strangers(self) -> Settings:
        wanted = self.metrics.device_series and not self.metrics.device_series_public
        if wanted and not ipaddress.ip_address(self.http.host).is_loopback:
            raise ValueError(
                f"metrics.device_series would show names and values of devices to whoever reaches"
                f" {self.http.listen}; set metrics.device_series_public: true if they may be read there,"
                " else metrics.device_series: 0"
            )
        return self

    @model_validator(mode="after")
    def _apart_from_home_assistant(self) -> Settings:
        said, base = self.home_assistant, self.topics.base
        if not said.enabled:
            return self
        if said.prefix == base or said.prefix.startswith(f"{base}/"):
            raise ValueError(
                f"home_assistant.prefix ({said.prefix}) stands below topics.base ({base}); name the prefix"
                " that Home Assistant listens to, or choose another topics.base"
            )
        for name, stream in self.streams.items():
            if stream.topic == said.status_topic:
                raise ValueError(
                    f"streams.{name}.topic ({stream.topic}) is where Home Assistant says that it has"
                    " started; it brings no telemetry"
                )
        announced = list(self.streams) if said.streams is None else said.streams
        scored = [each.split("/", 1)[0] for each in said.score_devices]
        for key, names, legal in (
            ("streams", announced, list(self.streams)),
            ("score_devices", scored, announced),
        ):
            for name in names:
                if name not in legal:
                    raise ValueError(
                        f"home_assistant.{key} names the stream {name!r}; there are {', '.join(legal)}"
                    )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the environment over the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings
