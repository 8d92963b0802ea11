"""The figures: what is to be reached, what others have published, and the table of both beside ours.

Published figures are named with who published them; ``measured`` stands where nobody has and we measured a
plain detector on the same rows, one configuration for all series.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAB_STANDARD = "NAB's scoreboard: ARTime 74.9, HTM 70.1, CAD OSE 69.9, Skyline 58.2, KNN CAD 58.0"
NAB_LOW_FP = "NAB's scoreboard: CAD OSE 67.0, ARTime 65.1, HTM 63.1, Skyline 46.2, KNN CAD 43.4"
SKAB_F1 = "SKAB's table: MSET .78, Conv-AE .78, T2+Q .76, LSTM-AE .74, IForest .29; always alarm .70"
SKAB_FAR = "SKAB's table: Conv-AE 13.6, T2+Q 26.6, LSTM-AE 30.0, MSET 39.7"
SKAB_MAR = "SKAB's table: MSET 14.1, T2+Q 24.9, LSTM-AE 25.9, Conv-AE 28.0"


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure.

    Attributes:
        key: ``<suite>.<name>``.
        text: For a person.
        bound: To reach.
        at_most: The bound is an upper one.
        unit: ``%`` (of a share), ``.2f`` or another format.
        beside: Published figures, with who published them.
    """

    key: str
    text: str
    bound: float
    at_most: bool = False
    unit: str = "%"
    beside: str = ""

    def shown(self, value: float, sign: str = "") -> str:
        """Return a value of this figure for the table."""
        if isnan(value):
            return "-"
        return f"{sign}{100 * value:.0f} %" if self.unit == "%" else f"{sign}{value:{self.unit}}"

    def reached(self, value: float) -> bool:
        """Return whether a value is good enough; unrounded, as rounding would be kind."""
        return value <= self.bound if self.at_most else value >= self.bound


GOALS = (
    Goal("plant.caught", "judged faults caught", 0.98),
    Goal("plant.covered", "open during shift, drift, stuck, silence", 0.90),
    Goal("plant.alerts_a_fault", "alerts a fault", 1.1, at_most=True, unit=".2f"),
    Goal("plant.named", "faulty channel named first", 0.97),
    Goal("plant.kind_right", "stuck and silence called so", 0.97),
    Goal("plant.normal_handled", "new normals handled", 1.0),
    Goal("plant.hard_caught", "hard faults caught", 0.80),
    Goal("plant.false", "false alerts per device and week", 0.3, at_most=True, unit=".2f"),
    Goal("plant.critical_false", "of these critical", 0.03, at_most=True, unit=".3f"),
    Goal("plant.worst_family", "of the worst family", 2.0, at_most=True, unit=".2f"),
    Goal("nab.standard", "standard, shipped threshold", 66, unit=".1f", beside=NAB_STANDARD),
    Goal("nab.low_fp", "low-FP, shipped threshold", 60, unit=".1f", beside=NAB_LOW_FP),
    Goal("nab.standard_own", "standard, own optimum", 72, unit=".1f", beside=NAB_STANDARD),
    Goal("nab.low_fp_own", "low-FP, own optimum", 66, unit=".1f", beside=NAB_LOW_FP),
    Goal("skab.f1", "F1, online", 0.78, unit=".3f", beside=SKAB_F1),
    Goal("skab.far", "false alarm rate %, online", 30, at_most=True, unit=".1f", beside=SKAB_FAR),
    Goal("skab.mar", "missed %, online", 20, at_most=True, unit=".1f", beside=SKAB_MAR),
    Goal("skab.f1_commissioned", "F1, commissioned", 0.85, unit=".3f", beside=SKAB_F1),
    Goal(
        "skab.far_commissioned",
        "false alarm rate %, commissioned",
        15,
        at_most=True,
        unit=".1f",
        beside=SKAB_FAR,
    ),
    Goal("skab.mar_commissioned", "missed %, commissioned", 15, at_most=True, unit=".1f", beside=SKAB_MAR),
    Goal(
        "nasa.vus_pr",
        "VUS-PR of the score",
        0.55,
        unit=".3f",
        beside="measured: KNN lag-16 .43, PCA .32, IForest .28",
    ),
    Goal(
        "ecg.vus_pr", "VUS-PR of the score", 0.85, unit=".3f", beside="measured: KNN lag-64 .86, IForest .23"
    ),
    Goal(
        "tabular.auc_roc_gain",
        "AUC-ROC above PyOD's IForest",
        0.02,
        unit="+.3f",
        beside="ADBench: none is best",
    ),
    Goal(
        "tabular.auc_pr_gain",
        "AUC-PR above PyOD's IForest",
        0.05,
        unit="+.3f",
        beside="ADBench: none is best",
    ),
)


@dataclass(slots=True)
class Speed:
    """How fast the product was in all.

    Attributes:
        readings: Played.
        seconds: In the product, of one process.
    """

    readings: int = 0
    seconds: float = 0.0

    def add(self, readings: int, seconds: float) -> None:
        """Take more in."""
        self.readings += readings
        self.seconds += seconds

    @property
    def rate(self) -> float:
        """Return readings a second."""
        return self.readings / self.seconds if self.seconds else nan


def table(values: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of the table, for the suites of which there is any figure."""
    yield f"{'':9}{'':42}{'target':>9}{'ours':>9}  {'verdict':12}published"
    last = ""
    for goal in GOALS:
        suite = goal.key.partition(".")[0]
        if not any(key.startswith(f"{suite}.") for key in values):
            continue
        value = values.get(goal.key, nan)
        verdict = "-" if isnan(value) else "reached" if goal.reached(value) else "not reached"
        target = goal.shown(goal.bound, "≤ " if goal.at_most else "≥ ")
        name = suite if suite != last else ""
        last = suite
        yield f"{name:9}{goal.text:42}{target:>9}{goal.shown(value):>9}  {verdict:12}{goal.beside}".rstrip()
