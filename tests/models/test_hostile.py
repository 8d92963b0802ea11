"""Claims about hostile bundles: none gets in, none runs code, and the model in use scores on.

Every one of the corpus comes as version 3 to a watcher that has version 2 loaded.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.models import bundle, trial
from stream_detector.models.reload import ModelWatcher, Refused
from stream_detector.service.scoring_models import misfit
from stream_detector.settings import StreamSettings
from tests.models.examples import feature_rows, trained
from tests.models.hostile import CORPUS
from tests.models.hostile.editing import CANARY, Hostile, evil
from tests.privileges import file_modes_hold

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.detectors.pyod import FittedModel

STREAM = StreamSettings(topic="plant/{device}", model="pumps", window=64)
ROWS = feature_rows(50, seed=3)


class Guarded:
    """A watcher with a sound version 2 loaded, and a sound version 3 that stands elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        store = root / "store"
        saved = [bundle.save(trained("iforest"), store) for _ in range(3)]
        self.sound = saved[2]
        self.folder = root / "models" / "pumps" / "3"
        shutil.copytree(saved[1], self.folder.parent / "2")
        self.watcher = ModelWatcher(root / "models", {"plant": "pumps"}, self._misfit)
        self.model = self.watcher.load_now("pumps")
        self.scores = self.model.raw(ROWS)

    @staticmethod
    def _misfit(stream: str, model: FittedModel) -> str | None:
        return misfit(stream, STREAM, model)

    def clear(self) -> None:
        """Remove version 3, and let the watcher see that."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        else:
            self.folder.unlink()
        self.watcher.look()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    """Load the sound version once; that it never changes is what the tests are about."""
    return Guarded(tmp_path_factory.mktemp("guarded"))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the trials that are held."""
    held: Counter[str] = Counter()
    hold = trial.hold

    def counted(*args: object) -> None:
        held["trials"] += 1
        hold(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "hold", counted)
    return held


@pytest.mark.parametrize("hostile", CORPUS, ids=[hostile.id for hostile in CORPUS])
def test_a_hostile_bundle_changes_nothing(hostile: Hostile, guarded: Guarded, children: Counter[str]) -> None:
    """It is refused once, for its own reason, in one printable line that names it; no code of it runs.

    The model in use stays and scores the same. Where a look at the files is enough, there is no child.
    """
    environment = dict(os.environ)
    shutil.copytree(guarded.sound, guarded.folder)
    hostile.craft(guarded.folder)
    try:
        with file_modes_hold() if hostile.reason == "unreadable" else nullcontext():
            for _ in range(3):
                guarded.watcher.look()
        (report,) = guarded.watcher.take()
    finally:
        guarded.clear()
    assert isinstance(report, Refused)
    assert (report.stream, report.name, report.version) == ("plant", "pumps", "3")
    assert report.reason == hostile.reason, report.message
    assert report.message.isprintable()
    assert "pumps" in report.message
    assert children["trials"] == int(hostile.tried)
    assert not (guarded.root / CANARY).exists()
    assert dict(os.environ) == environment
    assert guarded.watcher.load_now("pumps") is guarded.model
    assert np.array_equal(guarded.model.raw(ROWS), guarded.scores)


def test_every_reason_can_happen() -> None:
    """The closed list is neither longer nor shorter than what happens here and in test_trial."""
    of_trials = {"timeout", "crash", "unproven"}
    assert {hostile.reason for hostile in CORPUS} | of_trials == set(bundle.REASONS)


def test_the_canary_sings(tmp_path: Path) -> None:
    """Were the pickle of the corpus loaded, it would be seen."""
    folder = tmp_path / "models" / "pumps" / "3"
    pickle.loads(pickle.dumps(evil(folder)))  # noqa: S301 - our own
    assert (tmp_path / CANARY).exists()


@pytest.mark.parametrize(
    "name", ["1", "7\N{RIGHT-TO-LEFT OVERRIDE}", "\N{FULLWIDTH DIGIT SEVEN}", "07", "7 "]
)
def test_what_is_no_newer_version_is_not_looked_at(
    name: str, guarded: Guarded, children: Counter[str]
) -> None:
    """A lower version is no news, however sound; what is no number is no version."""
    folder = guarded.folder.with_name(name)
    shutil.copytree(guarded.sound.with_name("1"), folder)
    try:
        guarded.watcher.look()
        guarded.watcher.look()
    finally:
        shutil.rmtree(folder)
    assert guarded.watcher.take() == []
    assert not children
    assert guarded.watcher.load_now("pumps") is guarded.model


def test_a_name_that_leads_elsewhere_is_not_followed(guarded: Guarded) -> None:
    """Not even to a sound bundle."""
    watcher = ModelWatcher(guarded.root / "models", {"plant": "../store/pumps"}, guarded._misfit)
    watcher.look()
    watcher.look()
    (report,) = watcher.take()
    assert isinstance(report, Refused)
    assert report.reason == "missing"


def test_the_bytes_that_were_read_are_the_bytes_that_are_loaded(guarded: Guarded) -> None:
    """What is put in their place after they were read does not matter."""
    shutil.copytree(guarded.sound, guarded.folder)
    try:
        read = bundle.read(guarded.folder)
        (guarded.folder / "model.skops").write_bytes(pickle.dumps(evil(guarded.folder)))
        (guarded.folder / "manifest.json").unlink()
        assert np.array_equal(bundle.admit(read).raw(ROWS), guarded.scores)
    finally:
        guarded.clear()
    assert not (guarded.root / CANARY).exists()
