"""Settings of what is kept beyond the next start."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class HistorySettings(BaseModel):
    """How long the journal is kept for replay and training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: float = Field(7.0, ge=0, le=3650, description="Older readings are dropped; 0 keeps none.")
    max_mb: int = Field(
        2048, ge=0, le=10_000_000, description="Where there is more, the oldest is dropped; 0 keeps none."
    )
