"""Settings of a stream: how its bytes become readings, what scores them, and when alerts are raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stream_detector.core.alerts.policy import AlertPolicy
from stream_detector.core.spec import Limits, StreamSpec
from stream_detector.formats.settings import IntakeSettings

if TYPE_CHECKING:
    from stream_detector.core.records import Role

BUILT_IN_MODELS = ("default", "light")
SECOND = 1_000_000


class AlertSettings(BaseModel):
    """When an alert opens, speaks again and closes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        60.0, ge=0, le=86_400, description="An open alert is published again at most this often."
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
        0.0,
        ge=0,
        le=86_400,
        description="How much older than its device's newest a reading may be. What is older than the 32nd"
        " last one is late, whatever this says: judged by min and max, not scored.",
    )
    model: str = Field(
        "default",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$",
        description="A built-in detector (default; light: cheaper, but marks only beginnings), or the name of"
        " a folder under models_dir.",
    )
    builtin: bool = Field(
        True,
        description="Whether the built-in detector watches, too, where a model of your own does.",
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
    def detectors(self) -> dict[Role, str]:
        """Return what scores the stream, by role: built-in detectors and bundles by their names."""
        if self.model in BUILT_IN_MODELS or not self.builtin:
            return {"live": self.model}
        return {"live": BUILT_IN_MODELS[0], "beside": self.model}

    @property
    def kept(self) -> str:
        """Return what outlives a crash: ``journal``, ``checkpoint`` or ``none``."""
        return self.durability or ("journal" if self.qos else "checkpoint")

    @property
    def about(self) -> dict[str, Any]:
        """Return what `info` says of the stream."""
        return {
            "topic": self.topic,
            "format": self.format,
            "channels": {channel: said.unit for channel, said in self.channels.items()},
            "window": self.window,
        }

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
