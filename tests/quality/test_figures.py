"""The figures of public data agree with values that are known, or worked out by hand."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.quality import nab, ranking
from benchmarks.quality.figures import GOALS, table
from benchmarks.quality.public_suites import confusion, raising, rates, run_nab, run_skab, run_tabular

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

START_S = 1_772_409_600


def at(n: int, *rows: int) -> NDArray[np.bool_]:
    """Return detections on some of n rows."""
    detected = np.zeros(n, dtype=np.bool_)
    detected[list(rows)] = True
    return detected


def sigmoid(x: float) -> float:
    """Return what a detection at a place is worth."""
    return 2 / (1 + math.exp(5 * x)) - 1


# -- NAB -------------------------------------------------------------------------------------------------


def test_nab_gives_0_for_silence_and_100_for_the_first_row_of_each_window() -> None:
    """That is what its scale means."""
    truths = [nab.Truth(1000, [(300, 399), (600, 699)])]
    assert nab.score(truths, [at(1000)], nab.STANDARD) == 0
    assert nab.score(truths, [at(1000, 300, 600)], nab.STANDARD) == pytest.approx(100)


def test_nab_counts_the_best_detection_of_a_window_once() -> None:
    """More of them in a window neither help nor harm; late ones are worth less."""
    truths = [nab.Truth(1000, [(300, 399)])]
    middle = nab.score(truths, [at(1000, 350)], nab.STANDARD)
    assert middle == nab.score(truths, [at(1000, 350, 351, 390)], nab.STANDARD)
    assert middle == pytest.approx(50 * (1 + sigmoid(-0.5) / sigmoid(-1.0)))
    assert nab.score(truths, [at(1000, 399)], nab.STANDARD) < middle


def test_nab_takes_off_for_false_detections_by_their_distance() -> None:
    """Long before a window all, shortly after it a part; twice as much in the profile for few of them."""
    truths = [nab.Truth(1000, [(300, 399)])]
    assert nab.score(truths, [at(1000, 200)], nab.STANDARD) == pytest.approx(50 * -0.11)
    assert nab.score(truths, [at(1000, 200)], nab.LOW_FP) == pytest.approx(50 * -0.22)
    after = nab.score(truths, [at(1000, 409)], nab.STANDARD)
    assert after == pytest.approx(50 * 0.11 * sigmoid(10 / 99))
    assert nab.score(truths, [at(1000, 900)], nab.STANDARD) == pytest.approx(50 * -0.11)


def test_nab_leaves_the_probation_out() -> None:
    """15 % of the rows, at most 750: a false detection there costs nothing."""
    assert [nab.Truth(n, []).first for n in (1000, 5000, 20_000)] == [150, 750, 750]
    truths = [nab.Truth(1000, [(300, 399)])]
    assert nab.score(truths, [at(1000, 149)], nab.STANDARD) == 0
    assert nab.score(truths, [at(1000, 150)], nab.STANDARD) < 0


def test_the_best_threshold_is_the_best_of_all_there_are() -> None:
    """Found in one walk down the scores, and equal to trying each."""
    rng = np.random.default_rng(5)
    truths = [nab.Truth(900, [(200, 260), (500, 540)]), nab.Truth(700, [(400, 470)])]
    scores = [np.round(rng.exponential(1, n), 1) for n in (900, 700)]
    for profile in (nab.STANDARD, nab.LOW_FP):
        tried = {
            float(t): nab.score(truths, nab.at_threshold(scores, t), profile)
            for t in np.unique(np.concatenate(scores))
        }
        best = nab.best_threshold(truths, scores, profile)
        assert nab.score(truths, nab.at_threshold(scores, best), profile) == max(0.0, *tried.values())
    assert nab.best_threshold(truths, [np.ones(900), np.ones(700)], nab.LOW_FP) == math.inf


def test_the_own_optimum_is_judged_where_it_was_not_chosen() -> None:
    """A detector that is right by a score of its own for each series cannot be set by the other half."""
    truths = [nab.Truth(1000, [(300, 399)]) for _ in range(8)]
    false = at(1000, 700, 800, 900)
    scores = [np.where(at(1000, 300), 1.0, np.where(false, 0.5, 0.0)) * 10.0**k for k in range(8)]
    assert nab.own_optimum(truths, scores, nab.STANDARD) < 90
    same = [np.where(at(1000, 300), 1.0, np.where(at(1000, 700), 0.5, 0.0)) for _ in range(8)]
    assert nab.own_optimum(truths, same, nab.STANDARD) == pytest.approx(100)


def test_at_threshold_1_the_raised_rows_are_those_of_the_product() -> None:
    """So the shipped figure and the swept one meet there; while an alert is open nothing more is raised."""
    score = np.array([0.2, 0.9, 1.4, 1.6, 0.8, 1.2, 0.1, 0.6])
    is_open = np.array([0, 0, 1, 1, 0, 0, 0, 0], dtype=np.bool_)
    raised = at(8, 2)
    found = raising(score, is_open, raised)
    np.testing.assert_array_equal(found >= 1.0, raised)
    assert found.tolist() == [0.2, 0.9, 1.4, 0, 0, 0.999, 0, 0.6]


# -- ranking ---------------------------------------------------------------------------------------------


def test_the_volume_of_a_perfect_score_is_1_without_a_margin() -> None:
    """And that of a useless one is the share of the labelled rows."""
    label = np.zeros(2000, dtype=np.int64)
    label[700:800] = 1
    rng = np.random.default_rng(1)
    assert ranking.vus_pr(label, label + 0.01 * rng.random(2000), 0) == pytest.approx(1.0, abs=0.02)
    assert ranking.vus_pr(label, rng.random(2000), 0) == pytest.approx(0.05, abs=0.03)


def test_the_volume_forgives_a_detection_beside_its_label() -> None:
    """With a margin as wide as it is late; not one that is far away."""
    label = np.zeros(2000, dtype=np.int64)
    label[700:740] = 1
    late = np.roll(label, 20).astype(float)
    far = np.roll(label, 400).astype(float)
    assert ranking.vus_pr(label, late, 80) > 1.4 * ranking.vus_pr(label, late, 0)
    assert ranking.vus_pr(label, far, 80) < 0.1


def test_the_volume_is_that_of_its_authors() -> None:
    """Made once by the package that they publish (TSB-AD 1.5, `generate_curve`, version opt, thre 250)."""
    n = 1200
    label = np.zeros(n, dtype=np.int64)
    for first, last in ((50, 90), (300, 301), (310, 350), (900, 1020)):
        label[first:last] = 1
    x = np.arange(n)
    score = np.abs(np.sin(x / 7)) + 0.25 * label + 0.3 * np.roll(label, 15)
    for widest, volume in PUBLISHED.items():
        assert ranking.vus_pr(label, score, widest) == pytest.approx(volume, abs=1e-9)


PUBLISHED = {0: 0.7038226476463365, 33: 0.7772137892705936, 125: 0.8619323917194401}


def test_the_period_of_a_wave_is_its_length() -> None:
    """Of one without any, or longer than can be seen, it is 125."""
    x = np.arange(4000)
    assert ranking.period(np.sin(2 * np.pi * x / 48)) == 48
    assert ranking.period(np.ones(4000)) == 125
    assert ranking.period(x.astype(float)) == 125
    assert ranking.period(np.sin(2 * np.pi * x / 1500)) == 125


# -- rows that are labelled --------------------------------------------------------------------------------


def test_rates_of_rows() -> None:
    """Of 10 labelled rows 6 told, of 20 others 5: F1 by hand."""
    label = np.repeat([True, False], (10, 20))
    alert = np.concatenate((np.repeat([True, False], (6, 4)), np.repeat([True, False], (5, 15))))
    found = rates(confusion(label, alert))
    assert found["f1"] == pytest.approx(12 / (12 + 4 + 5))
    assert (found["far"], found["mar"]) == (25.0, 40.0)


# -- the whole way, on small data of our own ---------------------------------------------------------------


def wave(n: int) -> NDArray[np.float64]:
    """Return a day's wave with noise."""
    return 20 + 5 * np.sin(np.arange(n) / 40) + np.random.default_rng(2).normal(0, 0.1, n)


def stamps(n: int, step_s: int) -> list[str]:
    """Return times as the data sets write them."""
    moments = np.datetime64(START_S, "s") + np.arange(n) * np.timedelta64(step_s, "s")
    return [str(moment).replace("T", " ") for moment in moments]


def test_nab_from_files(tmp_path: Path) -> None:
    """A gross fault is found in its window, and the written alert stands on its row."""
    n, value = 2000, wave(2000)
    value[1500:1520] += 60
    ts = stamps(n, 300)
    (tmp_path / "nab" / "series" / "real").mkdir(parents=True)
    with gzip.open(tmp_path / "nab" / "series" / "real" / "a.csv.gz", "wt") as file:
        file.write("timestamp,value\n" + "".join(f"{t},{x:.3f}\n" for t, x in zip(ts, value, strict=True)))
    (tmp_path / "nab" / "windows.json").write_text(json.dumps({"real/a.csv": [[ts[1480], ts[1540]]]}))
    report = run_nab(tmp_path / "nab", tmp_path / "out")
    assert report.values["windows_found"] == 1.0
    assert report.values["standard"] > 50
    written = np.loadtxt(tmp_path / "out" / "nab" / "real" / "a.csv", delimiter=",", skiprows=1)
    assert written.shape == (n, 2)
    assert written[1500, 1] == 1
    assert written[:, 1].sum() < 10
    np.testing.assert_array_equal(written[:, 0] >= 1.0, written[:, 1] == 1)


def test_skab_from_files(tmp_path: Path) -> None:
    """An alert is open on the rows of a gross fault, and the written column says so."""
    n, label = 1000, np.zeros(1000, dtype=int)
    label[700:800] = 1
    (tmp_path / "series").mkdir()
    columns = [wave(n) + 90 * label, np.random.default_rng(3).normal(5, 0.2, n)]
    rows = zip(stamps(n, 1), *columns, label, label, strict=True)
    with gzip.open(tmp_path / "series" / "valve1_0.csv.gz", "wt") as file:
        file.write("datetime,Pressure,Current,anomaly,changepoint\n")
        file.writelines(f"{t},{a:.3f},{b:.3f},{c},{d}\n" for t, a, b, c, d in rows)
    report = run_skab(tmp_path, tmp_path / "out")
    written = np.loadtxt(tmp_path / "out" / "skab" / "valve1_0.csv", delimiter=",", skiprows=1)
    assert written.shape == (n, 2)
    assert written[700, 1] == 1
    assert report.values == rates(confusion(label[400:] == 1, written[400:, 1] == 1))


def test_tabular_from_files(tmp_path: Path) -> None:
    """Both forests tell far rows from near ones, and the gain is the difference between them."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(0, 1, (800, 3)), np.zeros(800, dtype=int)
    y[::20] = 1
    x[::20] += 9
    np.savez(tmp_path / "small.npz", X=x.astype(np.float32), y=y)
    values = run_tabular(tmp_path, tmp_path / "out").values
    assert min(values["auc_roc"], values["pyod_auc_roc"]) > 0.95
    assert values["auc_pr_gain"] == pytest.approx(values["auc_pr"] - values["pyod_auc_pr"])
    assert len((tmp_path / "out" / "tabular" / "small.csv").read_text().splitlines()) == 801


# -- the table -------------------------------------------------------------------------------------------


def test_the_table_judges_each_figure_by_its_bound() -> None:
    """Unrounded: 97.6 % is not 98 %. What was not measured has no verdict; suites left out have no line."""
    lines = "\n".join(table({"plant.caught": 0.976, "plant.false": 0.3, "plant.named": math.nan}))
    (caught,) = [line for line in lines.splitlines() if "judged faults" in line]
    (false,) = [line for line in lines.splitlines() if "false alerts" in line]
    (named,) = [line for line in lines.splitlines() if "named first" in line]
    assert "98 %" in caught
    assert "not reached" in caught
    assert "not reached" not in false
    assert "reached" in false
    assert "reached" not in named
    assert "nab" not in lines
    assert len({goal.key for goal in GOALS}) == len(GOALS)


def test_the_command_says_what_it_leaves_out(tmp_path: Path) -> None:
    """And writes the rows of what it does."""
    folders = ["--out", str(tmp_path), "--data", str(tmp_path)]
    options = ["--only", "plant:water,nab", "--seeds", "3", "--json", "--processes", "1", *folders]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality", *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert "nab: left out" in done.stderr
    found = json.loads(done.stdout)
    assert found["plant"]["figures"]["caught"] is not None
    assert found["plant"]["readings_a_second"] > 0
    header, *rows = (tmp_path / "plant" / "3" / "water_meter-4.csv").read_text().splitlines()
    assert header == "score,alert"
    assert len(rows) == 84 * 96
