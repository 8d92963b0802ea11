"""Claims about the watcher: what is new is loaded, what is broken changes nothing.

Trials are left out: each takes a second or two, and test_trial has a watcher that holds them.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from stream_detector.errors import BundleError
from stream_detector.models import bundle, trial
from stream_detector.models.reload import Loaded, ModelWatcher, Refused
from tests.models.examples import trained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream_detector.detectors.pyod import FittedModel

WANTED = {"plant": "pumps"}


@pytest.fixture(autouse=True)
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify bundles in this process alone."""
    monkeypatch.setattr(trial, "hold", lambda _files, _detector, _stopped: None)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save a small model as the next version."""
    return lambda seed=0: bundle.save(trained("hbos", seed), tmp_path)


def damage(folder: Path) -> None:
    """Shorten the estimator's file."""
    (folder / "model.skops").write_bytes(b"short")


def all_fit(_stream: str, _model: FittedModel) -> None:
    """Find nothing wrong."""


def annex_takes_only_version_1(stream: str, model: FittedModel) -> str | None:
    """Return a sentence for another version in one of the streams."""
    return (
        f"'annex' cannot use version {model.version}." if stream == "annex" and model.version != "1" else None
    )


def looks(watcher: ModelWatcher, times: int) -> list[Loaded | Refused]:
    """Let the watcher look so often, and return its reports."""
    for _ in range(times):
        watcher.look()
    return watcher.take()


def test_a_new_version_is_loaded_once(save: Callable[..., Path], tmp_path: Path) -> None:
    """Every stream that wants the name gets the same model."""
    save()
    watcher = ModelWatcher(tmp_path, {"plant": "pumps", "annex": "pumps", "other": "fans"}, all_fit)
    assert watcher.load_now("pumps").version == "1"
    assert looks(watcher, 2) == []
    folder = save()
    first, second = looks(watcher, 3)
    assert isinstance(first, Loaded)
    assert isinstance(second, Loaded)
    assert (first.stream, second.stream) == ("plant", "annex")
    assert first.model is second.model
    assert (first.model.version, first.sha256) == ("2", bundle.read(folder).sha256)


def test_a_broken_version_is_reported_once_and_the_old_one_stays(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    """Another broken content is another report; a mended one is loaded."""
    save()
    watcher = ModelWatcher(tmp_path, WANTED, all_fit)
    watcher.load_now("pumps")
    folder = save()
    good = (folder / "model.skops").read_bytes()
    damage(folder)
    (report,) = looks(watcher, 5)
    assert isinstance(report, Refused)
    assert (report.stream, report.name, report.version, report.reason) == ("plant", "pumps", "2", "hash")
    assert str(folder) in report.message
    (folder / "manifest.json").write_text("{}")
    assert [report.reason for report in looks(watcher, 5) if isinstance(report, Refused)] == ["manifest"]
    shutil.rmtree(folder)
    assert looks(watcher, 2) == []
    assert save().name == "2"
    (folder / "model.skops").write_bytes(good)
    (report,) = looks(watcher, 3)
    assert isinstance(report, Loaded)


def test_what_was_removed_is_news_when_it_comes_back(save: Callable[..., Path], tmp_path: Path) -> None:
    """Who copies the same broken folder again is told again."""
    save()
    watcher = ModelWatcher(tmp_path, WANTED, all_fit)
    watcher.load_now("pumps")
    folder = save()
    damage(folder)
    assert len(looks(watcher, 3)) == 1
    folder.rename(tmp_path / "elsewhere")
    assert looks(watcher, 1) == []
    (tmp_path / "elsewhere").rename(folder)
    assert len(looks(watcher, 3)) == 1


def test_a_folder_that_is_still_being_copied_is_not_refused(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    """Each look sees another content, until it is whole."""
    save()
    watcher = ModelWatcher(tmp_path, WANTED, all_fit)
    watcher.load_now("pumps")
    source = save().rename(tmp_path / "source")
    target = tmp_path / "pumps" / "2"
    target.mkdir()
    assert looks(watcher, 1) == []
    content = (source / "model.skops").read_bytes()
    (target / "manifest.json").write_bytes((source / "manifest.json").read_bytes())
    assert looks(watcher, 1) == []
    (target / "model.skops").write_bytes(content[:100])
    assert looks(watcher, 1) == []
    (target / "model.skops").write_bytes(content)
    (report,) = looks(watcher, 2)
    assert isinstance(report, Loaded)


def test_an_overwritten_version_is_new(save: Callable[..., Path], tmp_path: Path) -> None:
    """What counts is the content, not the number or the time stamp."""
    folder = save()
    watcher = ModelWatcher(tmp_path, WANTED, all_fit)
    before = watcher.load_now("pumps")
    shutil.rmtree(folder)
    assert save(seed=1) == folder
    (report,) = looks(watcher, 2)
    assert isinstance(report, Loaded)
    assert report.model.version == before.version
    assert report.sha256 != before.sha256


def test_it_never_goes_back_by_itself(save: Callable[..., Path], tmp_path: Path) -> None:
    """A deleted version stays in use: going back is a decision."""
    save()
    second = save()
    watcher = ModelWatcher(tmp_path, WANTED, all_fit)
    assert watcher.load_now("pumps").version == "2"
    shutil.rmtree(second)
    assert looks(watcher, 3) == []


def test_a_start_takes_the_newest_sound_version(save: Callable[..., Path], tmp_path: Path) -> None:
    """A broken one above it is reported, once."""
    save()
    damage(save())
    watcher = ModelWatcher(tmp_path, WANTED, all_fit)
    assert watcher.load_now("pumps").version == "1"
    (report,) = looks(watcher, 3)
    assert isinstance(report, Refused)
    assert (report.version, report.reason) == ("2", "hash")


def test_a_start_without_a_sound_version_is_refused(save: Callable[..., Path], tmp_path: Path) -> None:
    """With the newest version's own error, or the sentence that there is none."""
    watcher = ModelWatcher(tmp_path, WANTED, all_fit)
    with pytest.raises(BundleError, match="there is no bundle"):
        watcher.load_now("pumps")
    damage(save())
    with pytest.raises(BundleError, match="is not the file") as caught:
        watcher.load_now("pumps")
    assert caught.value.reason == "hash"


def test_what_does_not_fit_one_of_its_streams_is_passed_over(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    """At the start as while running, so that a restart uses what ran before it; each stream is told."""
    wanted = {"plant": "pumps", "annex": "pumps"}
    save()
    running = ModelWatcher(tmp_path, wanted, annex_takes_only_version_1)
    running.load_now("pumps")
    save()
    found = looks(running, 1)
    started = ModelWatcher(tmp_path, wanted, annex_takes_only_version_1)
    assert started.load_now("pumps").version == "1"
    assert started.take() == found
    assert found == [
        Refused(stream, "pumps", "2", "features", "'annex' cannot use version 2.") for stream in wanted
    ]


def test_a_start_where_no_version_fits_says_what_is_wrong_with_the_newest(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    """The older ones are not what was meant."""
    save()
    save()
    watcher = ModelWatcher(tmp_path, WANTED, lambda _stream, model: f"version {model.version} is too wide.")
    with pytest.raises(BundleError, match=r"version 2 is too wide\.") as caught:
        watcher.load_now("pumps")
    assert caught.value.reason == "features"


def test_a_name_that_is_none_is_reported_once(tmp_path: Path) -> None:
    """It cannot become one, and does not stop the other names."""
    (report,) = looks(ModelWatcher(tmp_path, {"plant": "../pumps"}, all_fit), 4)
    assert isinstance(report, Refused)
    assert (report.name, report.version, report.reason) == ("../pumps", "", "missing")


def test_the_thread_finds_what_comes_later(save: Callable[..., Path], tmp_path: Path) -> None:
    """Also where the folder of all models does not exist when it starts."""
    watcher = ModelWatcher(tmp_path / "later", WANTED, all_fit, interval_s=0.01)
    watcher.start()
    try:
        save()
        shutil.copytree(tmp_path / "pumps", tmp_path / "later" / "pumps")
        reports: list[Loaded | Refused] = []
        deadline = time.monotonic() + 30
        while not reports and time.monotonic() < deadline:
            reports = watcher.take()
            time.sleep(0.005)
    finally:
        watcher.stop()
    assert [type(report) for report in reports] == [Loaded]
