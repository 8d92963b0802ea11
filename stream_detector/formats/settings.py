"""Settings of a stream that say how its bytes become readings."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from stream_detector.formats.names import name_error
from stream_detector.formats.topics import TopicPattern

MAX_CHANNELS = 32


def _pattern(text: str) -> str:
    TopicPattern.parse(text)
    return text


def _name(text: str) -> str:
    error = name_error(text)
    if error:
        raise ValueError(error)
    return text


class ChannelSettings(BaseModel):
    """A channel that is declared beforehand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: str = Field("", max_length=32, description="Shown in sentences and on the page.")
    min: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Smallest allowed value; below it a `range` alert is raised at once.",
    )
    max: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Largest allowed value; above it a `range` alert is raised at once.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ChannelSettings:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min ({self.min:g}) must be below max ({self.max:g})")
        return self


class MapSettings(BaseModel):
    """Where a payload of another shape keeps what we need: dotted paths, such as `params.switch.apower`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str | None = Field(
        None, description="Path of the device's name; where absent the topic names it."
    )
    time: str | None = Field(
        None, description="Path of the event time; where absent the arrival time counts."
    )
    seq: str | None = Field(None, description="Path of the device's own number of the reading.")
    values: str | dict[Annotated[str, AfterValidator(_name)], str] = Field(
        description="Path of an object whose numbers are the channels (`.` is the whole payload),"
        " or a path for each channel."
    )


class IntakeSettings(BaseModel):
    """Topic, format and channels of a stream."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: Annotated[str, AfterValidator(_pattern)] = Field(
        description="Topics of the stream: `{name}` captures one level, `{device}` names the device."
    )
    device: str = Field(
        "{device}",
        description="How a device is named: a template over the captures and the payload's device.",
    )
    format: Literal["json", "scalar"] = Field(
        "json",
        description="`json`: the canonical object, lists of it, or what `map` says. `scalar`: one number.",
    )
    map: MapSettings | None = Field(None, description="Paths for JSON of another shape.")
    coerce: bool = Field(
        False,
        description="Take true/false as 1/0 and numbers in strings as numbers instead of refusing them.",
    )
    channels: dict[Annotated[str, AfterValidator(_name)], ChannelSettings] = Field(
        default_factory=dict,
        max_length=MAX_CHANNELS,
        description="Declared channels; others are not looked at. Empty: each device's channels are learned.",
    )
    max_channels: int = Field(
        MAX_CHANNELS, ge=1, le=MAX_CHANNELS, description="Learned channels a device may have."
    )
    retained: Literal["ignore", "use"] = Field(
        "ignore", description="Retained messages are old: `ignore` counts them, `use` takes them as readings."
    )

    @model_validator(mode="after")
    def _possible(self) -> IntakeSettings:
        captures = TopicPattern.parse(self.topic).captures
        wanted = re.findall(r"\{(\w+)\}", self.device)
        if not wanted:
            raise ValueError("device must name at least one capture, such as {device}")
        if re.search(r"[{}]", re.sub(r"\{\w+\}", "", self.device)):
            raise ValueError("device has a brace that belongs to no {name}")
        for name in wanted:
            if name not in captures and name != "device":
                raise ValueError(f"device uses {{{name}}}, which topic {self.topic!r} does not capture")
        if self.format == "scalar":
            if "device" in wanted and "device" not in captures:
                raise ValueError(
                    "format scalar needs {device} in topic, or a device template over its captures"
                )
            if self.map is not None or self.coerce:
                raise ValueError("map and coerce are for format json")
        return self
