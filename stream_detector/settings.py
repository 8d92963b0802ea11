"""The whole configuration: composed of the sections that stand beside the code that uses them.

A file, then environment variables (``STREAM_DETECTOR__BROKER__URL``) over it. Every mistake is refused
before anything connects, in a sentence that names the file, the line, the key path, what came and
what is legal.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.errors import ConfigurationError
from stream_detector.formats.settings import IntakeSettings
from stream_detector.formats.topics import TopicPattern
from stream_detector.mqtt.settings import BrokerSettings
from stream_detector.outputs.home_assistant import HomeAssistantSettings

ENV_PREFIX = "STREAM_DETECTOR__"
BUILT_IN_MODELS = ("default",)
NAME = r"^[A-Za-z0-9_.-]{1,64}$"
SECOND = 1_000_000
SECRET_KEYS = ("password", "token", "url")  # people write passwords into URLs


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlertSettings(_Section):
    """When an alert opens, speaks again and closes."""

    raise_after: tuple[int, int] | None = Field(
        None,
        description="[N, M]: raise at N anomalous readings of the last M. null: what the model recommends"
        " (1 of 1 for the built-in detector, 3 of 5 for a bundle).",
    )
    clear_after: int = Field(10, ge=1, le=10_000, description="Normal readings in a row that clear an alert.")
    cooldown_s: float = Field(
        60.0, ge=0, le=86_400, description="A relapse within this time opens the same alert again."
    )
    min_severity: Literal["warning", "critical"] = Field(
        "warning", description="Anomalies below it raise nothing (they are counted)."
    )
    critical_from: float = Field(2.0, ge=1.0, le=1000, description="Score from which an alert is critical.")
    update_every_s: float = Field(
        60.0, ge=0, le=86_400, description="An open alert is told again at most this often."
    )

    @field_validator("raise_after")
    @classmethod
    def _n_of_m(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 1 <= value[0] <= value[1] <= 1000:  # noqa: PLR2004 - as the text says
            raise ValueError("[N, M] needs 1 <= N <= M <= 1000")
        return value

    def policy(self) -> AlertPolicy:
        """Return the policy as the core knows it."""
        n, m = self.raise_after or (1, 1)
        return AlertPolicy(
            raise_n=n,
            raise_m=m,
            clear_after=self.clear_after,
            cooldown=round(self.cooldown_s * SECOND),
            min_severity=self.min_severity,
            critical_from=self.critical_from,
            update_every=round(self.update_every_s * SECOND),
        )


class StreamSettings(IntakeSettings):
    """Topics of one kind of device: one schema, one model, one alert policy."""

    qos: Literal[0, 1] = Field(
        1, description="Subscribe with; 2 is refused: delivery is made exact by us, not by QoS 2."
    )
    durability: Literal["journal", "checkpoint", "none"] | None = Field(
        None,
        description="What outlives a crash. journal: everything, before it is acknowledged; checkpoint:"
        " windows as they were some seconds before, and all alerts; none. null: journal at QoS 1, checkpoint"
        " at QoS 0, where the broker promises nothing either.",
    )
    window: int = Field(64, ge=2, le=8192, description="Readings in a device's rolling window.")
    lateness_s: float = Field(
        0.0, ge=0, le=86_400, description="How much older than its device's newest a reading may be."
    )
    model: str = Field(
        "default",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$",
        description="A built-in detector, or the name of a folder under models_dir.",
    )
    alerts: AlertSettings = Field(default_factory=AlertSettings, description="The alert policy.")
    stuck: bool = Field(True, description="Raise an alert when a value does not move for unusually long.")
    silence: bool = Field(True, description="Raise an alert when a device says nothing for unusually long.")
    silence_at_least_s: float = Field(
        3.0,
        ge=0.1,
        le=86_400,
        description="Quiet time that is always allowed, however often a device speaks.",
    )
    labels: tuple[str, str] = Field(
        ("Normal", "Anomaly"), description="The words for prediction 0 and 1 in alerts."
    )
    publish_scores: bool = Field(False, description="Publish every score on {base}/score/{stream}/{device}.")

    @property
    def kept(self) -> str:
        """Return what outlives a crash: ``journal``, ``checkpoint`` or ``none``."""
        return self.durability or ("journal" if self.qos else "checkpoint")

    def spec(self, name: str) -> StreamSpec:
        """Return what the core has to know of the stream."""
        return StreamSpec(
            name=name,
            channels={
                channel: Limits(unit=said.unit, low=said.min, high=said.max)
                for channel, said in self.channels.items()
            },
            window=self.window,
            lateness=round(self.lateness_s * SECOND),
            policy=self.alerts.policy(),
            own_raise_after=self.alerts.raise_after is None,
            watch_stuck=self.stuck,
            silence_at_least=round(self.silence_at_least_s * SECOND) if self.silence else None,
        )


class TopicSettings(_Section):
    """Where the service publishes."""

    base: str = Field(
        "stream_detector",
        pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$",
        max_length=128,
        description="Everything that the service publishes stands below this topic.",
    )


class HistorySettings(_Section):
    """How long the journal is kept for replay and training."""

    days: float = Field(7.0, ge=0, le=3650, description="Older readings are dropped; 0 keeps none.")
    max_mb: int = Field(
        2048, ge=0, le=10_000_000, description="Where there is more, the oldest is dropped; 0 keeps none."
    )


class HttpSettings(_Section):
    """The page, /metrics, and health."""

    listen: str = Field(
        "127.0.0.1:8808", description="Address and port; port 0 picks a free one and prints it."
    )

    token: SecretStr | None = Field(
        None, description="Bearer token; needed to listen on anything but loopback. Better: token_file."
    )
    token_file: Path | None = Field(None, description="File with the token.")

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - TCP
            raise ValueError("must be address:port, such as 127.0.0.1:8808")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError("the address must be numeric, such as 127.0.0.1 or 0.0.0.0") from None
        return value

    @model_validator(mode="after")
    def _guarded(self) -> HttpSettings:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both set; keep one of them")
        if not ipaddress.ip_address(self.host).is_loopback and self.token is None and self.token_file is None:
            raise ValueError(
                f"listening on {self.host} needs token_file (or token); without one listen on 127.0.0.1"
            )
        return self

    @property
    def host(self) -> str:
        """Return the address to listen on."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port to listen on."""
        return int(self.listen.rpartition(":")[2])


class MetricsSettings(_Section):
    """Metrics of single devices, on /metrics."""

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


def load(path: Path) -> Settings:
    """Return the configuration of a file and the environment.

    Raises:
        ConfigurationError: It cannot be read, or cannot be meant like that.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such file; name your configuration with --config, or copy config.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {_reason(error)}") from None
    content, lines = _parse(path, text)
    return validate(content, where=str(path), lines=lines)


def validate(
    content: dict[str, Any], *, where: str, lines: dict[tuple[str, ...], int] | None = None
) -> Settings:
    """Return the settings that a mapping and the environment mean; see `load`."""
    for name in os.environ:
        first = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
        if name.startswith(ENV_PREFIX) and first not in Settings.model_fields:
            raise ConfigurationError(
                f"environment variable {name}: there is no setting {first!r};"
                f" legal are {', '.join(Settings.model_fields)}",
                key=first,
            )
    try:
        return Settings(**content)
    except ValidationError as error:
        raise _first_mistake(error, where, lines or {}, content) from None
    except Exception as error:  # pydantic-settings' own, for JSON in variables
        if type(error).__name__ != "SettingsError":
            raise
        raise ConfigurationError(
            f"environment: {error}; write a value as JSON or one key a variable"
        ) from None


def _first_mistake(
    error: ValidationError, where: str, lines: dict[tuple[str, ...], int], content: dict[str, Any]
) -> ConfigurationError:
    mistakes = error.errors(include_url=False, include_context=True)
    # A misspelt key is also a missing one: the key that came says more.
    mistake = min(mistakes, key=lambda found: found["type"] != "extra_forbidden")
    path = tuple(str(step) for step in mistake["loc"] if step != "[key]")
    key = _printable(".".join(path))
    place = _place(path, where, lines)
    what = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        what = f"there is no such key; legal are {', '.join(_legal(path[:-1]))}"
    elif mistake["type"] == "missing":
        what = "this key is missing"
    elif mistake["type"] != "value_error":
        came = _value_at(content, path)
        if mistake["type"] == "model_type":  # a text where a section belongs may well hold a login
            what = "Input should be a section with keys of its own, such as " + ", ".join(_legal(path)[:3])
        elif came is not _ABSENT and not any(secret in step for step in path for secret in SECRET_KEYS):
            what = f"{what}, not {_shown(came)}"
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return ConfigurationError(f"{place}: {key + ': ' if key else ''}{what}{more}", key=key)


def _place(path: tuple[str, ...], where: str, lines: dict[tuple[str, ...], int]) -> str:
    """Return where the value of a key was written."""
    wanted = (ENV_PREFIX + "__".join(path)).upper()
    for name in os.environ:
        if name.upper() == wanted:
            return f"environment variable {name}"
    line = next((lines[path[:k]] for k in range(len(path), 0, -1) if path[:k] in lines), None)
    return f"{where}, line {line}" if line else where


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


_ABSENT = object()


def _value_at(content: object, path: tuple[str, ...]) -> object:
    for step in path:
        if isinstance(content, dict) and step in content:
            content = content[step]
        elif isinstance(content, list) and step.isdigit() and int(step) < len(content):
            content = content[int(step)]
        else:
            return _ABSENT
    return content


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"  # noqa: PLR2004 - a line's rest


def _legal(path: tuple[str, ...]) -> list[str]:
    """Return the keys that may stand at a path."""
    model: Any = Settings
    for step in path:
        field = model.model_fields.get(step) if hasattr(model, "model_fields") else None
        if field is None:
            continue  # a name of the user's, such as a stream's
        model = field.annotation
        for inner in getattr(model, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(getattr(model, "model_fields", {}))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = str(key_node.value)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return cast("dict[str, Any]", loader.construct_mapping(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path}{line}: this is no YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(f"{path}: this is no YAML: {_reason(error)}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(
            f"{path}: the configuration must be a mapping of settings, such as 'broker:'"
        )
    return content, _lines(node)


def _lines(node: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Return the line of each key path."""
    found: dict[tuple[str, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            found[here] = key.start_mark.line + 1
            found.update(_lines(value, here))
    return found


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]
