"""Claims about bundles: what is saved is what is loaded, and nothing else is.

Here they are verified in this process; what a child adds is in test_trial, what is kept out in
test_hostile.
"""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream_detector.detectors.pyod import KINDS
from stream_detector.errors import BundleError
from stream_detector.models import bundle, files
from tests.models.examples import feature_rows, trained
from tests.models.hostile.editing import CANARY, described, edit, evil, fitted, put

if TYPE_CHECKING:
    from stream_detector.detectors.pyod import FittedModel


def verified(folder: Path) -> FittedModel:
    """Load a bundle in this process alone."""
    return bundle.verify(bundle.read(folder))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound bundle of a forest, to be copied."""
    return bundle.save(trained("iforest"), tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Return a sound bundle of a forest, to be broken."""
    return shutil.copytree(saved, tmp_path / "models" / "pumps" / "1")


@pytest.mark.parametrize("detector", sorted(KINDS))
def test_a_loaded_model_scores_as_the_trained_one(detector: str, tmp_path: Path) -> None:
    """To the last bit, calibration and contributions included."""
    saved = trained(detector)
    folder = bundle.save(saved, tmp_path)
    loaded = verified(folder)
    rows = feature_rows(100, seed=9) * 1.5
    assert np.array_equal(loaded.raw(rows), saved.model.raw(rows))
    assert np.array_equal(loaded.shares(rows[0]), saved.model.shares(rows[0]))
    assert loaded.calibration == saved.model.calibration
    assert (loaded.name, loaded.version, loaded.warnings) == ("pumps", "1", ())
    assert loaded.sha256 == bundle.read(folder).sha256


@pytest.mark.parametrize(
    ("detector", "path", "value"),
    [
        ("hbos", "hist_", np.ones((3, 6))),
        ("hbos", "bin_edges_", np.zeros((11, 6))[::-1] - np.arange(11)[:, None]),
        ("ocsvm", "detector_._dual_coef_", np.ones((1, 3))),
        ("ocsvm", "detector_.kernel", "precomputed"),
        ("ocsvm", "detector_._n_support", np.full(2, 10**6, dtype=np.int32)),
        ("knn", "neigh_._fit_method", "brute"),
        ("lof", "detector_._fit_X", np.ones((2, 6))),
        ("pca", "selected_components_", np.ones((6, 2))),
        ("ecod", "X_train", np.ones(6)),
    ],
)
def test_an_estimator_whose_parts_do_not_fit_is_refused(
    detector: str, path: str, value: Any, tmp_path: Path
) -> None:
    """Compiled code would read foreign memory, or score something else in silence."""
    folder = bundle.save(trained(detector), tmp_path)
    model = fitted(folder)
    owner, _, name = path.rpartition(".")
    setattr(getattr(model, owner) if owner else model, name, value)
    put(folder, model)
    with pytest.raises(BundleError) as caught:
        verified(folder)
    assert caught.value.reason == "detector"


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_a_pickle_is_never_opened(name: str, folder: Path) -> None:
    """Where there is only a pickle, there is no model."""
    (folder / "model.skops").unlink()
    (folder / name).write_bytes(pickle.dumps(evil(folder)))
    with pytest.raises(BundleError) as caught:
        verified(folder)
    assert caught.value.reason == "missing"
    assert not (folder.parents[2] / CANARY).exists()


def test_another_library_version_is_said_and_not_refused(folder: Path) -> None:
    """The probes decide whether it matters."""
    edit(folder, libraries=described(folder)["libraries"] | {"scikit-learn": "1.5.0"})
    (warning,) = verified(folder).warnings
    assert "scikit-learn 1.5.0" in warning


def test_a_relative_path_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from inside the bundle."""
    monkeypatch.chdir(folder)
    assert verified(Path()).version == "1"


def test_versions_count_up_and_the_highest_is_the_latest(tmp_path: Path) -> None:
    """By number, not by letters; other names in the folder are not versions."""
    assert bundle.versions(tmp_path, "pumps") == []
    assert bundle.save(trained("hbos"), tmp_path).name == "1"
    for name in ("9", "10", "notes", "07", ".new-1"):
        (tmp_path / "pumps" / name).mkdir()
    assert bundle.versions(tmp_path, "pumps") == ["1", "9", "10"]
    assert bundle.latest(tmp_path, "pumps").name == "10"
    assert bundle.save(trained("hbos"), tmp_path) == tmp_path / "pumps" / "11"


@pytest.mark.parametrize("name", ["", "..", "a/b", "Pumps", "-a", "a" * 41, "a\n"])
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    """Only small letters, digits, _ and -."""
    with pytest.raises(BundleError, match="is none"):
        bundle.versions(tmp_path, name)


def test_no_bundle_is_one_sentence(tmp_path: Path) -> None:
    """It names the folder that was looked into."""
    with pytest.raises(BundleError, match=r"there is no bundle in .*pumps") as caught:
        bundle.latest(tmp_path, "pumps")
    assert caught.value.reason == "missing"


def test_what_would_be_refused_is_not_saved(tmp_path: Path) -> None:
    """A bundle is verified before it appears, and leaves nothing behind."""
    too_large = dataclasses.replace(trained("hbos"), content=bytes(files.MAX_MODEL_BYTES + 1))
    other = dataclasses.replace(trained("hbos"), probe_raw=trained("hbos").probe_raw + 1.0)
    for broken, reason in ((too_large, "too_large"), (other, "probe")):
        with pytest.raises(BundleError) as caught:
            bundle.save(broken, tmp_path)
        assert caught.value.reason == reason
    assert list(tmp_path.iterdir()) == []


def test_a_saved_bundle_has_two_files_and_nothing_beside_it(tmp_path: Path) -> None:
    """The hidden folder is gone; others may read the bundle as they may read its folder."""
    folder = bundle.save(trained("hbos"), tmp_path)
    assert [entry.name for entry in folder.parent.iterdir()] == ["1"]
    assert sorted(entry.name for entry in folder.iterdir()) == ["manifest.json", "model.skops"]
    assert folder.stat().st_mode == folder.parent.stat().st_mode


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """An operating system's error is said in our words."""
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="cannot be written to"):
        bundle.save(trained("hbos"), tmp_path / "file")


def test_the_libraries_are_not_imported_until_a_bundle_is_loaded() -> None:
    """A service that runs only the baseline does not pay for PyOD."""
    code = (
        "import sys, stream_detector.models.reload, stream_detector.models.training\n"
        "print([name for name in ('pyod', 'sklearn', 'skops', 'scipy.stats') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
