"""Claims about the trial: whatever happens to the child, this process learns why and goes on.

What a child does is its program, so most of these tests give it another one: the first says what a
crafted file would do to it if one of our checks were missing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.errors import BundleError
from stream_detector.models import bundle, trial
from stream_detector.models.reload import Loaded, ModelWatcher
from tests.models.examples import feature_rows, trained
from tests.models.hostile.numbers import tree_out_of_range, tree_with_a_cycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.models.files import Files

UNCHECKED = """
import dataclasses
from stream_detector.detectors import pyod
kind = dataclasses.replace(pyod.KINDS["iforest"], scorer=lambda estimator, _columns: pyod._own(estimator))
pyod.KINDS = pyod.KINDS | {"iforest": kind}
"""
"""Lets a child score forests by scikit-learn's compiled code, without our check of the trees."""

TELL = """
import os, resource, signal
from stream_detector.errors import BundleError
from stream_detector.models import probe

def tell(files):
    names = ("AS", "CPU", "CORE", "FSIZE", "NOFILE", "NPROC")
    told = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] for name in names}
    told["alarm"] = signal.alarm(0)
    told["environment"] = open("/proc/self/environ").read().split(chr(0))
    told["folder"] = os.getcwd()
    told["goes_first"] = int(open("/proc/self/oom_score_adj").read())
    told["leads"] = os.getsid(0) == os.getpid()
    told["open"] = sorted(os.listdir("/proc/self/fd"))
    raise BundleError(f"{files.folder}: {probe.json.dumps(told)}", reason="crash")

probe._try = tell
"""
"""Lets a child complain of everything that limits it."""

READY = "import os, signal, sys, time; os.write(1, b'\\n'); sys.stdin.buffer.read(); "


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound bundle of a forest."""
    return bundle.save(trained("iforest"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def sound(saved: Path) -> Files:
    """Return its bytes."""
    return bundle.read(saved)


def patched(patch: str) -> str:
    """Return the child's program with something done before it begins."""
    path, _, rest = trial.PROGRAM.partition("; ")[2].partition("; ")
    return f"import sys; {path}\n{patch}\n{rest}"


def open_files() -> list[str]:
    """Return what this process has open, by number."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def refusal(files: Files) -> BundleError:
    """Hold a trial that fails, and return its error."""
    with pytest.raises(BundleError) as caught:
        trial.hold(files, "iforest")
    assert str(caught.value).isprintable()
    assert str(files.folder) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("craft", "reason", "end"),
    [(tree_out_of_range, "crash", "SIGSEGV"), (tree_with_a_cycle, "timeout", "1 s of work")],
)
def test_a_check_that_were_missing_costs_a_child_only(
    craft: Callable[[Path], None],
    reason: str,
    end: str,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crafted tree kills the child, or holds it until its time is up; this process lives and says so."""
    folder = shutil.copytree(saved, tmp_path / "pumps" / "1")
    craft(folder)
    monkeypatch.setattr(trial, "PROGRAM", patched(UNCHECKED))
    monkeypatch.setattr(trial, "CPU_S", 1)
    error = refusal(bundle.read(folder))
    assert (error.reason, end in str(error)) == (reason, True)


def test_a_child_that_lies_lets_nobody_in(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its yes is needed and is not enough: the checks hold here, too."""
    folder = shutil.copytree(saved, tmp_path / "pumps" / "1")
    tree_out_of_range(folder)
    answer = json.dumps({"reason": None, "sentence": ""})
    monkeypatch.setattr(trial, "PROGRAM", READY + f"print({answer!r})")
    with pytest.raises(BundleError) as caught:
        bundle.load(folder)
    assert caught.value.reason == "detector"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param("raise SystemExit(3)", "unproven", id="does not start"),
        pytest.param("import time; time.sleep(600)", "unproven", id="is not ready in time"),
        pytest.param(READY + "os.kill(os.getpid(), signal.SIGABRT)", "crash", id="aborts"),
        pytest.param(READY + "os._exit(0)", "crash", id="ends without a word"),
        pytest.param(READY + "print('fine')", "crash", id="talks nonsense"),
        pytest.param(READY + 'print(\'{"reason": "why not", "sentence": ""}\')', "crash", id="invents"),
        pytest.param(READY + "print('[' * 60_000)", "crash", id="nests deeply"),
        pytest.param(READY + "\nwhile True: os.write(1, b'x' * 60_000)", "timeout", id="talks without end"),
        pytest.param(READY + "os.kill(os.getpid(), signal.SIGKILL)", "memory", id="is killed from outside"),
        pytest.param(READY + "signal.alarm(1); time.sleep(600)", "timeout", id="sleeps until its alarm"),
        pytest.param(READY + "os.close(1); time.sleep(600)", "timeout", id="closes its mouth and stays"),
        pytest.param(READY + "os.fork(); time.sleep(600)", "timeout", id="starts another and sleeps"),
    ],
)
def test_however_a_child_ends_there_is_a_reason(
    program: str, reason: str, sound: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is left: no process, no pipe."""
    pipes = open_files()
    monkeypatch.setattr(trial, "PROGRAM", program)
    monkeypatch.setattr(trial, "START_S", 2.0)
    monkeypatch.setattr(trial, "WALL_S", 2)
    monkeypatch.setattr(trial, "END_S", 0.2)
    assert refusal(sound).reason == reason
    assert open_files() == pipes
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_where_no_process_can_be_started_the_bundle_is_not_blamed(
    sound: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names what the system said."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    error = refusal(sound)
    assert error.reason == "unproven"
    assert "No such file" in str(error)


def test_a_child_has_limits_before_it_gets_a_byte(sound: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says itself what holds when the bytes come: limits, environment, session, open files."""
    monkeypatch.setenv("STREAM_DETECTOR__BROKER__PASSWORD", "planted")
    monkeypatch.setattr(trial, "PROGRAM", patched(TELL))
    told = json.loads(str(refusal(sound)).partition(": ")[2])
    assert trial.MEMORY_BYTES < told["AS"] < trial.MEMORY_BYTES + 2**30
    assert trial.CPU_S < told["CPU"] < trial.CPU_S + 60
    assert (told["CORE"], told["FSIZE"], told["NOFILE"], told["NPROC"]) == (0, 0, 16, 0)
    assert 0 < told["alarm"] <= trial.WALL_S
    assert told["goes_first"] == 1000
    assert (told["leads"], told["folder"]) == (True, "/")
    assert {name.partition("=")[0] for name in told["environment"]} <= {*trial.KEPT, *trial.ONE_THREAD, ""}
    assert told["open"] == ["0", "1", "2", "3"]  # 3 is for listing them


def test_a_slow_model_is_refused(sound: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes to an end, but not soon enough to follow a stream; here no model is quick enough."""
    patch = "from stream_detector.models import probe; probe.MAX_SCORING_S = -1.0"
    monkeypatch.setattr(trial, "PROGRAM", patched(patch))
    error = refusal(sound)
    assert (error.reason, "for 256 rows" in str(error)) == ("timeout", True)


def test_a_sound_bundle_stands_its_trial(tmp_path: Path) -> None:
    """And scores here as it did when it was trained."""
    model = bundle.load(bundle.save(trained("knn"), tmp_path))
    rows = feature_rows(20, seed=5)
    assert np.array_equal(model.raw(rows), trained("knn").model.raw(rows))


def test_stopping_does_not_wait_for_a_child(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that hangs is left to its end, which is now."""
    started = tmp_path / "started"
    monkeypatch.setattr(
        trial, "PROGRAM", f"open({str(started)!r}, 'w').close(); import time; time.sleep(600)"
    )
    shutil.copytree(saved, tmp_path / "models" / "pumps" / "1")
    watcher = ModelWatcher(tmp_path / "models", {"plant": "pumps"}, lambda _stream, _model: None, 0.01)
    watcher.start()
    deadline = time.monotonic() + 30
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    watcher.stop()
    assert watcher.take() == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_trial_leaves_the_other_threads_alone(saved: Path, tmp_path: Path) -> None:
    """While the watcher's thread waits for the child, another one scores on; then it gets the new model."""
    shutil.copytree(saved, tmp_path / "pumps" / "1")
    watcher = ModelWatcher(tmp_path, {"plant": "pumps"}, lambda _stream, _model: None, 0.01)
    model, rows = trained("iforest").model, feature_rows(5)
    expected = model.raw(rows)
    watcher.start()
    scored = 0
    try:
        deadline = time.monotonic() + 60
        while not (reports := watcher.take()) and time.monotonic() < deadline:
            assert np.array_equal(model.raw(rows), expected)
            scored += 1
    finally:
        watcher.stop()
    assert [type(report) for report in reports] == [Loaded]
    assert scored > 100
