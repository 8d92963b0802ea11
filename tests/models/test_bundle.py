"""Claims about bundles: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression
from sklearn.tree._tree import Tree

from stream_detector.detectors.pyod import KINDS
from stream_detector.errors import BundleError
from stream_detector.models import bundle
from tests.models.examples import feature_rows, trained

if TYPE_CHECKING:
    from collections.abc import Callable


class Evil:
    """Touches a file when a pickle of it is loaded."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        """Name the call that unpickling makes."""
        return os.mkdir, (self.target,)


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of the manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_model(folder: Path, content: bytes) -> None:
    """Replace the estimator's file, and let the manifest vouch for it."""
    (folder / "model.skops").write_bytes(content)
    edit(folder, sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound bundle of a forest, to be copied."""
    return bundle.save(trained("iforest"), tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Return a sound bundle of a forest, to be broken."""
    return shutil.copytree(saved, tmp_path / "pumps" / "1")


def estimator(folder: Path, detector: str) -> Any:
    """Return the saved estimator, to be changed."""
    kind = KINDS[detector]
    return skops.io.loads((folder / "model.skops").read_bytes(), trusted=[kind.path, *kind.trusted])


def _without_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _without_model(folder: Path) -> None:
    (folder / "model.skops").unlink()


def _without_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _pipe_as_manifest(folder: Path) -> None:
    _without_manifest(folder)
    os.mkfifo(folder / "manifest.json")


def _large_model(folder: Path) -> None:
    os.truncate(folder / "model.skops", bundle.MAX_MODEL_BYTES + 1)


def _large_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", bundle.MAX_MANIFEST_BYTES + 1)


def _zip_bomb(folder: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("schema.json", bytes(bundle.MAX_UNPACKED_BYTES + 1))
    replace_model(folder, bomb.getvalue())


def _no_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def _deep_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def _other_schema(folder: Path) -> None:
    edit(folder, schema="stream_detector.bundle/2")


def _unknown_key(folder: Path) -> None:
    edit(folder, pickle="yes")


def _nan_in_manifest(folder: Path) -> None:
    edit(folder, mean=[float("nan")] * 6)


def _other_name(folder: Path) -> None:
    edit(folder, name="fans")


def _other_version(folder: Path) -> None:
    edit(folder, version="2")


def _bad_calibration(folder: Path) -> None:
    calibration = json.loads((folder / "manifest.json").read_text())["calibration"]
    edit(folder, calibration=calibration | {"threshold": calibration["usual"]})


def _unsorted_quantiles(folder: Path) -> None:
    calibration = json.loads((folder / "manifest.json").read_text())["calibration"]
    edit(folder, calibration=calibration | {"quantiles": calibration["quantiles"][::-1]})


def _changed_byte(folder: Path) -> None:
    path = folder / "model.skops"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _foreign_object(folder: Path) -> None:
    replace_model(folder, skops.io.dumps(Evil("never")))


def _foreign_attribute(folder: Path) -> None:
    model = estimator(folder, "iforest")
    model.extra = os.mkdir
    replace_model(folder, skops.io.dumps(model))


def _foreign_estimator(folder: Path) -> None:
    replace_model(folder, skops.io.dumps(LinearRegression()))


def _other_estimator(folder: Path) -> None:
    replace_model(folder, trained("hbos").content)


def _stored_search_tree(folder: Path) -> None:
    edit(folder, detector="knn")
    replace_model(
        folder, skops.io.dumps(KINDS["knn"].load_class()(algorithm="ball_tree").fit(feature_rows(60)))
    )


def _unknown_detector(folder: Path) -> None:
    edit(folder, detector="oracle")


def _crafted_tree(folder: Path) -> None:
    model = estimator(folder, "iforest")
    victim = model.detector_.estimators_[0]
    state = victim.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"]["left_child"][0] = 10**8
    victim.tree_ = Tree(6, np.array([1], dtype=np.intp), 1)
    victim.tree_.__setstate__(state)
    replace_model(folder, skops.io.dumps(model))


def _not_fitted(folder: Path) -> None:
    replace_model(folder, skops.io.dumps(KINDS["iforest"].load_class()()))


def _unknown_feature(folder: Path) -> None:
    edit(folder, features=["value", "diff2"])


def _lag_beyond_the_window(folder: Path) -> None:
    edit(folder, features=["value", "lag_100"])


def _feature_twice(folder: Path) -> None:
    edit(folder, features=["value", "value"])


def _channel_twice(folder: Path) -> None:
    edit(folder, channels=["vibration", "vibration", "current"])


def _one_column_less(folder: Path) -> None:
    edit(folder, channels=["vibration", "temperature"])


def _other_width(folder: Path) -> None:
    model = KINDS["iforest"].load_class()(n_estimators=5).fit(feature_rows(60)[:, :4])
    replace_model(folder, skops.io.dumps(model))


def _short_probe(folder: Path) -> None:
    probes = json.loads((folder / "manifest.json").read_text())["probes"]
    edit(folder, probes=[*probes[1:], probes[0][1:]])


def _wrong_probe(folder: Path) -> None:
    raw = json.loads((folder / "manifest.json").read_text())["probe_raw"]
    edit(folder, probe_raw=[raw[0] + 1e-6, *raw[1:]])


def _other_forest(folder: Path) -> None:
    replace_model(folder, trained("iforest", seed=1).content)


def _nan_inside(folder: Path) -> None:
    model = estimator(folder, "iforest")
    model.detector_.offset_ = float("nan")
    replace_model(folder, skops.io.dumps(model))


def _cut_off(folder: Path) -> None:
    content = (folder / "model.skops").read_bytes()
    replace_model(folder, content[: len(content) // 2])


def _damaged(folder: Path) -> None:
    _changed_byte(folder)
    replace_model(folder, (folder / "model.skops").read_bytes())


def _empty_archive(folder: Path) -> None:
    content = io.BytesIO()
    zipfile.ZipFile(content, "w").close()
    replace_model(folder, content.getvalue())


BROKEN: list[tuple[str, Callable[[Path], None]]] = [
    ("missing", _without_manifest),
    ("missing", _without_model),
    ("missing", _without_folder),
    ("missing", _pipe_as_manifest),
    ("too_large", _large_model),
    ("too_large", _large_manifest),
    ("too_large", _zip_bomb),
    ("manifest", _no_json),
    ("manifest", _deep_json),
    ("manifest", _other_schema),
    ("manifest", _unknown_key),
    ("manifest", _nan_in_manifest),
    ("manifest", _other_name),
    ("manifest", _other_version),
    ("manifest", _bad_calibration),
    ("manifest", _unsorted_quantiles),
    ("hash", _changed_byte),
    ("untrusted_type", _foreign_object),
    ("untrusted_type", _foreign_attribute),
    ("untrusted_type", _foreign_estimator),
    ("untrusted_type", _other_estimator),
    ("untrusted_type", _stored_search_tree),
    ("detector", _unknown_detector),
    ("detector", _crafted_tree),
    ("detector", _not_fitted),
    ("features", _unknown_feature),
    ("features", _lag_beyond_the_window),
    ("features", _feature_twice),
    ("features", _channel_twice),
    ("features", _one_column_less),
    ("features", _other_width),
    ("features", _short_probe),
    ("probe", _wrong_probe),
    ("probe", _other_forest),
    ("not_finite", _nan_inside),
    ("unreadable", _cut_off),
    ("unreadable", _damaged),
    ("unreadable", _empty_archive),
]


@pytest.mark.parametrize("detector", sorted(KINDS))
def test_a_loaded_model_scores_as_the_trained_one(detector: str, tmp_path: Path) -> None:
    """To the last bit, calibration and contributions included."""
    saved = trained(detector)
    folder = bundle.save(saved, tmp_path)
    loaded = bundle.load(folder)
    rows = feature_rows(100, seed=9) * 1.5
    assert np.array_equal(loaded.raw(rows), saved.model.raw(rows))
    assert np.array_equal(loaded.shares(rows[0]), saved.model.shares(rows[0]))
    assert loaded.calibration == saved.model.calibration
    assert (loaded.name, loaded.version, loaded.warnings) == ("pumps", "1", ())
    assert loaded.sha256 == bundle.read(folder).sha256


@pytest.mark.parametrize(("reason", "damage"), BROKEN, ids=[damage.__name__[1:] for _, damage in BROKEN])
def test_a_broken_bundle_is_refused(reason: str, damage: Callable[[Path], None], folder: Path) -> None:
    """With a reason from the closed list and one sentence that names the folder."""
    damage(folder)
    with pytest.raises(BundleError) as caught:
        bundle.load(folder)
    assert caught.value.reason == reason, caught.value
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_reason_can_happen() -> None:
    """The closed list is neither longer nor shorter than what happens."""
    assert {reason for reason, _ in BROKEN} == set(bundle.REASONS)


@pytest.mark.parametrize(
    ("detector", "path", "value"),
    [
        ("hbos", "hist_", np.ones((3, 6))),
        ("ocsvm", "detector_._dual_coef_", np.ones((1, 3))),
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
    model = estimator(folder, detector)
    owner, _, name = path.rpartition(".")
    setattr(getattr(model, owner) if owner else model, name, value)
    replace_model(folder, skops.io.dumps(model))
    with pytest.raises(BundleError) as caught:
        bundle.load(folder)
    assert caught.value.reason == "detector"


@pytest.mark.parametrize("name", ["model.skops", "model.pkl", "model.joblib"])
def test_a_pickle_is_never_opened(name: str, folder: Path, tmp_path: Path) -> None:
    """Neither in the place of the estimator, where it is not a skops file, nor beside it."""
    target = tmp_path / "code-ran"
    content = pickle.dumps(Evil(str(target)))
    (folder / "model.skops").unlink()
    (folder / name).write_bytes(content)
    edit(folder, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(BundleError) as caught:
        bundle.load(folder)
    assert caught.value.reason == ("unreadable" if name == "model.skops" else "missing")
    assert not target.exists()


def test_another_library_version_is_said_and_not_refused(folder: Path) -> None:
    """The probes decide whether it matters."""
    libraries = json.loads((folder / "manifest.json").read_text())["libraries"]
    edit(folder, libraries=libraries | {"scikit-learn": "1.5.0"})
    (warning,) = bundle.load(folder).warnings
    assert "scikit-learn 1.5.0" in warning


def test_a_relative_path_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from inside the bundle."""
    monkeypatch.chdir(folder)
    assert bundle.load(Path()).version == "1"


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
    too_large = dataclasses.replace(trained("hbos"), content=bytes(bundle.MAX_MODEL_BYTES + 1))
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
