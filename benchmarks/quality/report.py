"""What a suite found, and what it writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.quality.figures import Speed


@dataclass(slots=True)
class Report:
    """What a suite found.

    Attributes:
        values: The figures by name.
        speed: Of the product.
        details: Blocks of lines for a person.
        parts: Figures of the parts, by name of the part, for ``--json``.
    """

    values: dict[str, float]
    speed: Speed
    details: list[list[str]] = field(default_factory=list)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)

    def everything(self) -> dict[str, Any]:
        """Return what is in it for JSON, where NaN is null."""
        return {
            "figures": _plain(self.values),
            "parts": {name: _plain(values) for name, values in self.parts.items()},
            "readings_a_second": self.speed.rate,
        }


def write(out: Path, suite: str, series: str, score: NDArray[np.float64], alert: NDArray[np.bool_]) -> None:
    """Write what a series' rows got; a row that was not scored has 0."""
    path = out / suite / (series if series.endswith(".csv") else f"{series}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{x:.9g},{a:d}" for x, a in zip(np.nan_to_num(score).tolist(), alert.tolist(), strict=True)]
    path.write_text("\n".join(["score,alert", *lines, ""]), encoding="utf-8")


def mean(xs: Sequence[float | None]) -> float:
    """Return the mean of those that are there; NaN of nothing."""
    there = [float(x) for x in xs if x is not None and x == x]  # noqa: PLR0124 - not NaN
    return sum(there) / len(there) if there else nan


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {key: x if isfinite(x) else None for key, x in values.items()}
