"""What is measured on public data: scores and alerts of the product against labels."""

from __future__ import annotations

import time
from math import nan
from typing import TYPE_CHECKING

import numpy as np
from pyod.models.iforest import IForest
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.quality import nab, public, ranking
from benchmarks.quality.figures import Speed
from benchmarks.quality.product import play, recording_of
from benchmarks.quality.report import Report, mean, write
from stream_detector.core.scoring.detector import significant
from stream_detector.models import training

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.quality.product import Played
    from benchmarks.quality.public import Series

FEWEST_ROWS = 60
"""That a model is trained on, where the first 15 % of a data set are fewer."""
CONTAMINATION = 0.05
"""As ``stream-detector train`` has it."""
PEER_TREES = 100
JUST_BELOW = 0.999
"""The score of a row that would raise an alert, were the threshold any lower."""


def _played(all_series: Sequence[Series]) -> tuple[Played, dict[str, NDArray[np.int64]]]:
    """Play series together, each as a device of its own: what a device is told does not depend on others."""
    recording, rows = recording_of({each.name: (each.ts, each.values) for each in all_series})
    return play(recording), rows


def _score(played: Played, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.nan_to_num(played.score[rows])


def run_nab(folder: Path, out: Path | None) -> Report:
    """Measure NAB: the rows at which an alert is raised, and those that would raise at other thresholds."""
    all_series, windows = map(list, zip(*public.nab(folder), strict=True))
    played, rows = _played(all_series)
    truths = [nab.Truth(len(each.ts), places) for each, places in zip(all_series, windows, strict=True)]
    raised = [played.raised[rows[each.name]] for each in all_series]
    scores = [
        raising(_score(played, r), played.open[r], played.raised[r])
        for r in (rows[each.name] for each in all_series)
    ]
    if out is not None:
        for each, score, alert in zip(all_series, scores, raised, strict=True):
            write(out, "nab", each.name, score, alert)
    values = {}
    for name, profile in (("standard", nab.STANDARD), ("low_fp", nab.LOW_FP)):
        best = nab.best_threshold(truths, scores, profile)
        values[name] = nab.score(truths, raised, profile)
        values[f"{name}_own"] = nab.own_optimum(truths, scores, profile)
        values[f"{name}_best_threshold"] = best
        values[f"{name}_at_best_threshold"] = nab.score(truths, nab.at_threshold(scores, best), profile)
    parts = {
        each.name: {
            "raw_standard": truth.raw(alert, nab.STANDARD),
            "windows": float(len(truth.open_windows)),
            "found": float(len(set(truth.window[truth.first :][alert[truth.first :]].tolist()) - {-1})),
            "false": float((alert & (truth.window < 0))[truth.first :].sum()),
        }
        for each, truth, alert in zip(all_series, truths, raised, strict=True)
    }
    total = {name: sum(part[name] for part in parts.values()) for name in ("windows", "found", "false")}
    values["windows_found"] = total["found"] / total["windows"]
    judged = sum(len(each.ts) - truth.first for each, truth in zip(all_series, truths, strict=True))
    values["false_per_1000_rows"] = 1000 * total["false"] / judged
    return Report(values, _speed(all_series, played), parts=parts)


def raising(
    score: NDArray[np.float64], is_open: NDArray[np.bool_], raised: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return for each row the threshold up to which an alert is raised at it, 0 where there is none.

    Where one was raised that is the score, and at least 1; while one is open nothing more is raised;
    elsewhere it would be raised, were the threshold lower, where the score rises. NAB counts every row that
    reaches the threshold, so a score that stays up as long as its fault would be false on each of them.
    """
    rises = score > np.concatenate(([0.0], score[:-1]))
    below = np.where(rises & ~is_open, np.minimum(score, JUST_BELOW), 0.0)
    return np.where(raised, np.maximum(score, 1.0), below)


def run_skab(folder: Path, out: Path | None) -> Report:
    """Measure SKAB: rows during which an alert is open against rows that are labelled."""
    all_series = list(public.skab(folder))
    played, rows = _played(all_series)
    parts = {}
    counts = np.zeros(4, dtype=np.int64)
    for each in all_series:
        alert = played.open[rows[each.name]]
        if out is not None:
            write(out, "skab", each.name, _score(played, rows[each.name]), alert)
        own = confusion(each.label[each.first :] == 1, alert[each.first :])
        parts[each.name] = rates(own)
        counts += own
    return Report(rates(counts), _speed(all_series, played), parts=parts)


def confusion(label: NDArray[np.bool_], alert: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many rows are right and told, right and not told, false, and missed, (4,)."""
    cases = (label & alert, ~label & ~alert, ~label & alert, label & ~alert)
    return np.array([int(case.sum()) for case in cases])


def rates(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return F1, and false alarm and missed alarm rate in percent."""
    told, quiet, false, missed = counts.tolist()
    return {
        "f1": told / (told + (false + missed) / 2) if told + false + missed else nan,
        "far": 100 * false / (false + quiet) if false + quiet else nan,
        "mar": 100 * missed / (missed + told) if missed + told else nan,
    }


def run_nasa(folder: Path, out: Path | None) -> Report:
    """Measure how the score ranks rows of spacecraft telemetry."""
    return _run_ranked("nasa", list(public.nasa(folder)), out)


def run_ecg(folder: Path, out: Path | None) -> Report:
    """Measure how the score ranks rows of electrocardiograms."""
    return _run_ranked("ecg", list(public.ecg(folder)), out)


def _run_ranked(suite: str, all_series: Sequence[Series], out: Path | None) -> Report:
    played, rows = _played(all_series)
    parts = {}
    for each in all_series:
        score, value = _score(played, rows[each.name]), next(iter(each.values.values()))
        if out is not None:
            own = rows[each.name][each.written :]
            write(out, suite, each.name, score[each.written :], played.open[own])
        label = each.label[each.first :]
        if 0 < label.sum() < len(label):
            parts[each.name] = ranks(label, score[each.first :]) | {
                "vus_pr": ranking.vus_pr(label, score[each.first :], ranking.period(value[each.first :]))
            }
    return Report(_means(parts.values()), _speed(all_series, played), parts=parts)


def run_tabular(folder: Path, out: Path | None) -> Report:
    """Measure a model that `train` makes against PyOD's own, both fitted on the first 15 % of the rows."""
    parts, readings, seconds = {}, 0, 0.0
    for path in public.tabular(folder):
        with np.load(path) as held:
            rows, label = held["X"].astype(np.float64), held["y"].astype(np.int64)
        first = int(public.UNJUDGED * len(rows))
        learn = rows[: max(first, FEWEST_ROWS)]
        ours, alert, took = _trained(learn, rows)
        if out is not None:
            write(out, "tabular", path.stem, ours, alert)
        readings, seconds = readings + len(rows), seconds + took
        found, peer = ranks(label[first:], ours[first:]), ranks(label[first:], _peer(learn, rows)[first:])
        parts[path.stem] = found | {f"pyod_{name}": x for name, x in peer.items()}
    values = _means(parts.values())
    for name in ("auc_roc", "auc_pr"):
        values[f"{name}_gain"] = values[name] - values[f"pyod_{name}"]
    return Report(values, Speed(readings, seconds), parts=parts)


def _trained(
    learn: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Train an isolation forest as ``stream-detector train --features value`` does; return its verdicts."""
    channels = tuple(f"x{k}" for k in range(rows.shape[1]))
    model = training.train(
        learn,
        name="tabular",
        channels=channels,
        features=("value",),
        window=64,
        detector="iforest",
        contamination=CONTAMINATION,
    ).model
    began = time.perf_counter()
    score = model.calibration.score(significant(model.raw(rows)))
    return np.nan_to_num(score), score >= 1.0, time.perf_counter() - began


def _peer(learn: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    peer = IForest(n_estimators=PEER_TREES, contamination=CONTAMINATION, random_state=0).fit(learn)
    return np.asarray(peer.decision_function(rows))


def ranks(label: NDArray[np.int64], score: NDArray[np.float64]) -> dict[str, float]:
    """Return the areas under the curves of hits over false alarms, and of precision over recall."""
    return {
        "auc_roc": float(roc_auc_score(label, score)),
        "auc_pr": float(average_precision_score(label, score)),
    }


def _means(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over the parts."""
    there = list(parts)
    names = dict.fromkeys(name for part in there for name in part)
    return {name: mean([part[name] for part in there]) for name in names}


def _speed(all_series: Iterable[Series], played: Played) -> Speed:
    return Speed(sum(len(each.ts) for each in all_series), played.seconds)
