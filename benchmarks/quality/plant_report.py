"""What the plant's judge found, for a person who looks for the reason: by kind of fault, and by family."""

from __future__ import annotations

import re
from collections import Counter
from math import inf
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.quality.faults import CHANGE, HARD, JUDGED, KINDS, LASTING
from benchmarks.quality.report import mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.quality.judge import Judgement
    from benchmarks.quality.product import Alert


def by_kind(judgement: Judgement) -> Iterator[str]:
    """Yield a line for each kind of fault that there was."""
    yield f"{'fault':10}{'n':>5}{'caught':>8}{'covered':>9}{'delay':>8}{'alerts':>8}{'channel':>9}{'kind':>7}"
    for kind in KINDS:
        results = [each for each in judgement.results if each.fault.kind == kind]
        if not results:
            continue
        if kind == CHANGE:
            yield f"{kind:10}{len(results):5}   handled {_share([each.handled for each in results])}"
            continue
        caught = [each for each in results if each.caught]
        covered = [each.covered for each in results] if kind in (*LASTING, *HARD) else []
        yield (
            f"{kind:10}{len(results):5}{_share([each.caught for each in results]):>8}{_share(covered):>9}"
            f"{_middle([each.delay for each in caught]):>8}"
            f"{mean([each.alerts for each in caught]) if caught else 0:>8.2f}"
            f"{_share([each.named for each in caught if each.named is not None]):>9}"
            f"{_share([each.kind_right for each in caught if each.kind_right is not None]):>7}"
        )


def by_family(judgement: Judgement) -> Iterator[str]:
    """Yield a line for each family: faults caught, false alerts per device and week, and one of them."""
    yield f"{'family':14}{'judged':>8}{'covered':>9}{'hard':>7}{'false':>8}{'critical':>10}   for example"
    for family, false in judgement.false.items():
        results = [each for each in judgement.results if each.fault.device.rpartition("-")[0] == family]
        weeks = judgement.weeks[family]
        critical = sum(alert.severity == "critical" for alert in false)
        lasting = [each.covered for each in results if each.fault.kind in LASTING]
        example = f"{false[0].device}, {false[0].kind}: {false[0].reason[:90]}" if false else ""
        yield (
            f"{family:14}{_share([each.caught for each in results if each.fault.kind in JUDGED]):>8}"
            f"{_share(lasting):>9}{_share([each.caught for each in results if each.fault.kind in HARD]):>7}"
            f"{len(false) / weeks:>8.2f}{critical / weeks:>10.2f}   {example}".rstrip()
        )


def missed(judgement: Judgement) -> Iterator[str]:
    """Yield a line for each kind and channel of a family whose faults are not all caught, or handled."""
    found: dict[tuple[str, str, str], list[bool]] = {}
    for each in judgement.results:
        fault = each.fault
        good = bool(each.handled) if fault.kind == CHANGE else each.caught
        found.setdefault((fault.device.rpartition("-")[0], fault.kind, fault.channel), []).append(good)
    for (family, kind, channel), told in found.items():
        if not all(told):
            what = "not handled" if kind == CHANGE else "missed"
            yield f"{family:14}{kind:10}{channel:22}{len(told) - sum(told):3} of {len(told)} {what}"


def by_sentence(judgement: Judgement) -> Iterator[str]:
    """Yield a line for each wording of false alerts: how many, how long, where most of them are."""
    found: dict[str, list[tuple[str, Alert]]] = {}
    for family, alerts in judgement.false.items():
        for alert in alerts:
            sentence = alert.reason.partition(" (")[0]
            if alert.channel:
                sentence = sentence.partition(" ")[2]  # without its name, which comes first
            words = re.sub(r"-?\d[\d.e+-]*", "#", sentence)
            found.setdefault(words, []).append((family, alert))
    weeks = sum(judgement.weeks.values())
    yield f"{'a week':>8}{'critical':>10}{'minutes':>9}   false alerts that say"
    for words, those in sorted(found.items(), key=lambda each: -len(each[1])):
        critical = sum(alert.severity == "critical" for _, alert in those)
        minutes = median((alert.spans[0][1] - alert.spans[0][0]) / 60 for _, alert in those)
        most = ", ".join(f"{name} {n}" for name, n in Counter(name for name, _ in those).most_common(3))
        yield f"{len(those) / weeks:>8.3f}{critical / weeks:>10.3f}{minutes:>9.0f}   {words[:70]} ({most})"


def false_alerts(judgement: Judgement) -> Iterator[str]:
    """Yield a line for each false alert: whose, when, how long, what it said."""
    for alerts in judgement.false.values():
        for alert in alerts:
            start, stop = alert.spans[0]
            length = "never closed" if stop == inf else f"{(stop - start) / 60:.0f} min"
            yield f"{alert.device:16}{alert.severity:9}{alert.kind:8}{start:.0f} {length:>12}  {alert.reason}"


def _share(xs: list[bool | float | None]) -> str:
    return f"{100 * mean(xs):.0f} %" if xs else "-"


def _middle(xs: list[float]) -> str:
    return f"{median(xs):.1f}" if xs else "-"
