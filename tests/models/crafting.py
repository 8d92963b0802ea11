"""Hostile bundles: each function here breaks a sound bundle of a forest in one way.

`CORPUS` lists them with the reason they must be refused for, and whether that takes a child: what
can be refused by a look at the files must not start one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import stat
import subprocess
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import skops.io
from sklearn.linear_model import LinearRegression
from sklearn.tree._tree import Tree

from stream_detector.detectors.pyod import KINDS
from stream_detector.models import estimator, files
from tests.models.examples import feature_rows, trained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANARY = "code-ran"
"""A folder beside the models that exists once code from a file has run."""


class Evil:
    """Makes the canary's folder when a pickle of it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        """Name the call that unpickling makes."""
        return os.mkdir, (str(self.target),)


def evil(folder: Path) -> Evil:
    """Return what makes the canary of a models folder."""
    return Evil(folder.parents[2] / CANARY)


def described(folder: Path) -> dict[str, Any]:
    """Return the manifest."""
    found: dict[str, Any] = json.loads((folder / files.MANIFEST).read_text())
    return found


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of the manifest."""
    (folder / files.MANIFEST).write_text(json.dumps(described(folder) | changes))


def edit_calibration(folder: Path, **changes: Any) -> None:
    """Change keys of the manifest's calibration."""
    edit(folder, calibration=described(folder)["calibration"] | changes)


def replace_model(folder: Path, content: bytes) -> None:
    """Replace the estimator's file, and let the manifest vouch for it."""
    (folder / files.MODEL).write_bytes(content)
    edit(folder, sha256=hashlib.sha256(content).hexdigest())


def replace_manifest(folder: Path, content: str) -> None:
    """Replace the manifest."""
    (folder / files.MANIFEST).write_text(content)


def fitted(folder: Path) -> Any:
    """Return the saved estimator, to be changed."""
    kind = KINDS[described(folder)["detector"]]
    return skops.io.loads((folder / files.MODEL).read_bytes(), trusted=[kind.path, *kind.trusted])


def put(folder: Path, changed: Any) -> None:
    """Save a changed estimator in place of the old one."""
    replace_model(folder, skops.io.dumps(changed, compression=zipfile.ZIP_DEFLATED))


def become(folder: Path, detector: str) -> None:
    """Make it a sound bundle of another detector."""
    other = trained(detector)
    edit(
        folder,
        detector=detector,
        probes=other.probes.tolist(),
        probe_raw=other.probe_raw.tolist(),
        calibration=dataclasses.asdict(other.model.calibration),
    )
    replace_model(folder, other.content)


def parts(folder: Path) -> dict[str, bytes]:
    """Return the members of the estimator's file."""
    with zipfile.ZipFile(folder / files.MODEL) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(folder: Path, members: list[tuple[str, bytes]], packing: int = zipfile.ZIP_DEFLATED) -> None:
    """Write the estimator's file from members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", packing, compresslevel=1) as archive:
        for name, data in members:
            archive.writestr(name, data)
    replace_model(folder, content.getvalue())


def edit_nodes(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the nodes of a tree of the forest, past all checks of scikit-learn."""
    model = fitted(folder)
    victim = model.detector_.estimators_[0]
    state = victim.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    change(state["nodes"])
    victim.tree_ = Tree(6, np.array([1], dtype=np.intp), 1)
    victim.tree_.__setstate__(state)
    put(folder, model)


# -- in place of the files ---------------------------------------------------------------------------


def _no_manifest(folder: Path) -> None:
    (folder / files.MANIFEST).unlink()


def _no_model(folder: Path) -> None:
    (folder / files.MODEL).unlink()


def _file_as_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.touch()


def _manifest_is_a_link(folder: Path) -> None:
    _no_manifest(folder)
    (folder / files.MANIFEST).symlink_to("/etc/passwd")


def _model_is_a_link(folder: Path) -> None:
    path = folder / files.MODEL
    path.rename(folder / "elsewhere")
    path.symlink_to("elsewhere")


def _model_is_a_link_to_an_endless_device(folder: Path) -> None:
    _no_model(folder)
    (folder / files.MODEL).symlink_to("/dev/zero")


def _manifest_is_a_pipe(folder: Path) -> None:
    _no_manifest(folder)
    os.mkfifo(folder / files.MANIFEST)


def _model_is_a_pipe(folder: Path) -> None:
    _no_model(folder)
    os.mkfifo(folder / files.MODEL)


def _model_is_a_socket(folder: Path) -> None:
    _no_model(folder)
    os.mknod(folder / files.MODEL, stat.S_IFSOCK | 0o600)


def _model_is_a_folder(folder: Path) -> None:
    _no_model(folder)
    (folder / files.MODEL).mkdir()


def _unreadable(folder: Path) -> None:
    (folder / files.MODEL).chmod(0)


def _large_model(folder: Path) -> None:
    os.truncate(folder / files.MODEL, files.MAX_MODEL_BYTES + 1)


def _manifest_of_100_mb(folder: Path) -> None:
    os.truncate(folder / files.MANIFEST, 100_000_000)


# -- the manifest ------------------------------------------------------------------------------------


def _empty_manifest(folder: Path) -> None:
    replace_manifest(folder, "")


def _no_json(folder: Path) -> None:
    replace_manifest(folder, "schema: stream_detector.bundle/1")


def _cut_manifest(folder: Path) -> None:
    replace_manifest(folder, (folder / files.MANIFEST).read_text()[:-20])


def _deep_manifest(folder: Path) -> None:
    replace_manifest(folder, '{"schema":' + "[" * 400_000)


def _two_thresholds(folder: Path) -> None:
    text = (folder / files.MANIFEST).read_text()
    replace_manifest(folder, text.replace('"threshold":', '"threshold": 1e9, "threshold":', 1))


def _other_schema(folder: Path) -> None:
    edit(folder, schema="stream_detector.bundle/2")


def _unknown_key(folder: Path) -> None:
    edit(folder, **{"pickle\n\u202e": "yes"})


def _wrong_types(folder: Path) -> None:
    edit(folder, window="64", channels="vibration")


def _nan_threshold(folder: Path) -> None:
    edit_calibration(folder, threshold=float("nan"))


def _threshold_below_the_usual(folder: Path) -> None:
    edit_calibration(folder, threshold=-1e300)


def _threshold_among_the_normal(folder: Path) -> None:
    calibration = described(folder)["calibration"]
    edit_calibration(folder, threshold=calibration["quantiles"][50])


def _quantiles_upside_down(folder: Path) -> None:
    edit_calibration(folder, quantiles=described(folder)["calibration"]["quantiles"][::-1])


def _infinite_mean(folder: Path) -> None:
    edit(folder, mean=[float("inf")] * 6)


def _no_scale(folder: Path) -> None:
    edit(folder, scale=[0.0] * 6)


def _count_beyond_floats(folder: Path) -> None:
    edit_calibration(folder, normal=10**400)


def _channel_with_a_line_break(folder: Path) -> None:
    edit(folder, channels=["vibration", "temperature", "current\nERROR all is lost"])


def _other_name(folder: Path) -> None:
    edit(folder, name="../../fans")


def _other_version(folder: Path) -> None:
    edit(folder, version="1")


def _probes_without_scores(folder: Path) -> None:
    edit(folder, probe_raw=described(folder)["probe_raw"][1:])


def _unknown_detector(folder: Path) -> None:
    edit(folder, detector="oracle")


def _unknown_feature(folder: Path) -> None:
    edit(folder, features=["value", "diff2"])


def _lag_beyond_the_window(folder: Path) -> None:
    edit(folder, features=["value", "lag_100"])


def _feature_twice(folder: Path) -> None:
    edit(folder, features=["value", "value"])


def _channel_twice(folder: Path) -> None:
    edit(folder, channels=["vibration", "vibration", "current"])


def _one_channel_less(folder: Path) -> None:
    edit(folder, channels=["vibration", "temperature"])


def _short_probe(folder: Path) -> None:
    probes = described(folder)["probes"]
    edit(folder, probes=[*probes[1:], probes[0][1:]])


def _other_window(folder: Path) -> None:
    edit(folder, window=32)


def _wrong_hash(folder: Path) -> None:
    edit(folder, sha256="0" * 64)


def _changed_byte(folder: Path) -> None:
    path = folder / files.MODEL
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# -- the archive -------------------------------------------------------------------------------------


def _empty_model(folder: Path) -> None:
    replace_model(folder, b"")


def _pickle(folder: Path) -> None:
    replace_model(folder, pickle.dumps(evil(folder)))


def _joblib(folder: Path) -> None:
    content = io.BytesIO()
    joblib.dump(evil(folder), content, compress=3)
    replace_model(folder, content.getvalue())


def _cut_archive(folder: Path) -> None:
    content = (folder / files.MODEL).read_bytes()
    replace_model(folder, content[: len(content) // 2])


def _empty_archive(folder: Path) -> None:
    pack(folder, [])


def _no_schema(folder: Path) -> None:
    pack(folder, [item for item in parts(folder).items() if item[0] != "schema.json"])


def _bomb(folder: Path) -> None:
    pack(folder, [("schema.json", b"{}"), ("1.npy", bytes(estimator.MAX_UNPACKED_BYTES + 1))])


def _dense_bomb(folder: Path) -> None:
    pack(folder, [("schema.json", b"{}"), ("1.npy", bytes(2 * estimator.SMALL_BYTES))])


def _many_parts(folder: Path) -> None:
    count = estimator.MAX_MEMBERS + 1
    pack(folder, [("schema.json", b"{}"), *((f"{index}.npy", b"") for index in range(count))])


def _part_outside(folder: Path) -> None:
    pack(folder, [*parts(folder).items(), ("../../../../tmp/evil.npy", b"")])


def _part_of_another_kind(folder: Path) -> None:
    pack(folder, [*parts(folder).items(), ("payload.pkl", pickle.dumps(evil(folder)))])


def _other_packing(folder: Path) -> None:
    pack(folder, list(parts(folder).items()), zipfile.ZIP_LZMA)


def _schema_twice(folder: Path) -> None:
    """Write a second schema under another name of the same length, then give it the first one's."""
    pack(folder, [*parts(folder).items(), ("1234567.npy", b"{}")])
    replace_model(folder, (folder / files.MODEL).read_bytes().replace(b"1234567.npy", b"schema.json"))


def _large_schema(folder: Path) -> None:
    pack(folder, [("schema.json", b"[" + b"[]," * (estimator.MAX_SCHEMA_BYTES // 3) + b"[]]")])


def _damaged(folder: Path) -> None:
    _changed_byte(folder)
    replace_model(folder, (folder / files.MODEL).read_bytes())


def _deep_schema(folder: Path) -> None:
    pack(folder, [("schema.json", b'{"content":' * 100_000)])


def _pickle_in_an_array(folder: Path) -> None:
    members = parts(folder)
    victim = next(name for name in members if name != "schema.json")
    content = io.BytesIO()
    np.save(content, np.array([evil(folder)], dtype=object), allow_pickle=True)
    pack(folder, list((members | {victim: content.getvalue()}).items()))


# -- types -------------------------------------------------------------------------------------------


def _add(folder: Path, value: Any) -> None:
    model = fitted(folder)
    model.extra = value
    put(folder, model)


def _foreign_object(folder: Path) -> None:
    put(folder, evil(folder))


def _function_inside(folder: Path) -> None:
    _add(folder, os.system)


def _type_inside(folder: Path) -> None:
    _add(folder, subprocess.Popen)


def _bound_method_inside(folder: Path) -> None:
    _add(folder, fitted(folder).fit)


def _function_of_numpy_inside(folder: Path) -> None:
    _add(folder, np.add)


def _array_of_objects_inside(folder: Path) -> None:
    _add(folder, np.array([1, "two", None], dtype=object))


def _module_function_as_loader(folder: Path) -> None:
    """Dress `os.system` up as a tree, the one thing that is built by a call with arguments."""
    members = parts(folder)
    schema = members["schema.json"].replace(b'"sklearn.tree._tree"', b'"os"').replace(b'"Tree"', b'"system"')
    pack(folder, list((members | {"schema.json": schema}).items()))


def _foreign_estimator(folder: Path) -> None:
    put(folder, LinearRegression())


def _other_estimator(folder: Path) -> None:
    replace_model(folder, trained("pca").content)


def _stored_search_tree(folder: Path) -> None:
    become(folder, "knn")
    put(folder, KINDS["knn"].load_class()(algorithm="ball_tree").fit(feature_rows(60)))


# -- numbers -----------------------------------------------------------------------------------------


def tree_out_of_range(folder: Path) -> None:
    """Let a child stand far outside the tree: compiled code would read foreign memory."""

    def change(nodes: Any) -> None:
        nodes["left_child"][0] = 10**8

    edit_nodes(folder, change)


def tree_with_a_cycle(folder: Path) -> None:
    """Let the root be its own child: whoever walks the tree never arrives."""

    def change(nodes: Any) -> None:
        nodes["left_child"][0] = nodes["right_child"][0] = 0

    edit_nodes(folder, change)


def _not_fitted(folder: Path) -> None:
    put(folder, KINDS["iforest"].load_class()())


def _other_width(folder: Path) -> None:
    put(folder, KINDS["iforest"].load_class()(n_estimators=5).fit(feature_rows(60)[:, :4]))


def _wrong_probe(folder: Path) -> None:
    raw = described(folder)["probe_raw"]
    edit(folder, probe_raw=[raw[0] + 1e-6, *raw[1:]])


def _other_forest(folder: Path) -> None:
    replace_model(folder, trained("iforest", seed=1).content)


def _constant_and_vouched_for(folder: Path) -> None:
    edit(folder, probe_raw=[0.25] * len(described(folder)["probes"]))


def _constant(folder: Path) -> None:
    become(folder, "ocsvm")
    model = fitted(folder)
    model.detector_._dual_coef_ = np.zeros_like(model.detector_._dual_coef_)
    put(folder, model)


def _nan(folder: Path) -> None:
    model = fitted(folder)
    model.detector_.offset_ = float("nan")
    put(folder, model)


def _infinity(folder: Path) -> None:
    become(folder, "pca")
    model = fitted(folder)
    model.selected_w_components_ = np.zeros_like(model.selected_w_components_)
    put(folder, model)


def _array_beyond_memory(folder: Path) -> None:
    become(folder, "ecod")
    members = parts(folder)
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        claim, {"descr": "<f8", "fortran_order": False, "shape": (10**10, 6)}
    )
    largest = max(members, key=lambda name: len(members[name]) if name != "schema.json" else 0)
    pack(folder, list((members | {largest: claim.getvalue() + bytes(1000)}).items()))


@dataclass(frozen=True, slots=True)
class Hostile:
    """One way to break a bundle.

    Attributes:
        craft: Does it.
        reason: What it must be refused for.
        tried: Whether it takes a child to find out.
    """

    craft: Callable[[Path], None]
    reason: str
    tried: bool = False

    @property
    def id(self) -> str:
        """Its name in a test's output."""
        return self.craft.__name__.strip("_")


CORPUS = [
    Hostile(_no_manifest, "missing"),
    Hostile(_no_model, "missing"),
    Hostile(_file_as_folder, "missing"),
    Hostile(_manifest_is_a_link, "not_a_file"),
    Hostile(_model_is_a_link, "not_a_file"),
    Hostile(_model_is_a_link_to_an_endless_device, "not_a_file"),
    Hostile(_manifest_is_a_pipe, "not_a_file"),
    Hostile(_model_is_a_pipe, "not_a_file"),
    Hostile(_model_is_a_socket, "not_a_file"),
    Hostile(_model_is_a_folder, "not_a_file"),
    Hostile(_unreadable, "unreadable"),
    Hostile(_large_model, "too_large"),
    Hostile(_manifest_of_100_mb, "too_large"),
    Hostile(_empty_manifest, "manifest"),
    Hostile(_no_json, "manifest"),
    Hostile(_cut_manifest, "manifest"),
    Hostile(_deep_manifest, "manifest"),
    Hostile(_two_thresholds, "manifest"),
    Hostile(_other_schema, "manifest"),
    Hostile(_unknown_key, "manifest"),
    Hostile(_wrong_types, "manifest"),
    Hostile(_nan_threshold, "manifest"),
    Hostile(_threshold_below_the_usual, "manifest"),
    Hostile(_threshold_among_the_normal, "manifest"),
    Hostile(_quantiles_upside_down, "manifest"),
    Hostile(_infinite_mean, "manifest"),
    Hostile(_no_scale, "manifest"),
    Hostile(_count_beyond_floats, "manifest"),
    Hostile(_channel_with_a_line_break, "manifest"),
    Hostile(_other_name, "manifest"),
    Hostile(_other_version, "manifest"),
    Hostile(_probes_without_scores, "manifest"),
    Hostile(_unknown_detector, "detector"),
    Hostile(_unknown_feature, "features"),
    Hostile(_lag_beyond_the_window, "features"),
    Hostile(_feature_twice, "features"),
    Hostile(_channel_twice, "features"),
    Hostile(_one_channel_less, "features"),
    Hostile(_short_probe, "features"),
    Hostile(_other_window, "features", tried=True),
    Hostile(_wrong_hash, "hash"),
    Hostile(_changed_byte, "hash"),
    Hostile(_empty_model, "archive"),
    Hostile(_pickle, "archive"),
    Hostile(_joblib, "archive"),
    Hostile(_cut_archive, "archive"),
    Hostile(_empty_archive, "archive"),
    Hostile(_no_schema, "archive"),
    Hostile(_bomb, "too_large"),
    Hostile(_dense_bomb, "too_large"),
    Hostile(_many_parts, "too_large"),
    Hostile(_part_outside, "archive"),
    Hostile(_part_of_another_kind, "archive"),
    Hostile(_other_packing, "archive"),
    Hostile(_schema_twice, "archive"),
    Hostile(_large_schema, "too_large"),
    Hostile(_deep_schema, "archive"),
    Hostile(_damaged, "archive", tried=True),
    Hostile(_pickle_in_an_array, "archive", tried=True),
    Hostile(_foreign_object, "untrusted_type"),
    Hostile(_function_inside, "untrusted_type"),
    Hostile(_type_inside, "untrusted_type"),
    Hostile(_bound_method_inside, "untrusted_type"),
    Hostile(_function_of_numpy_inside, "untrusted_type"),
    Hostile(_array_of_objects_inside, "untrusted_type"),
    Hostile(_module_function_as_loader, "untrusted_type"),
    Hostile(_foreign_estimator, "untrusted_type"),
    Hostile(_other_estimator, "untrusted_type"),
    Hostile(_stored_search_tree, "untrusted_type"),
    Hostile(tree_out_of_range, "detector", tried=True),
    Hostile(tree_with_a_cycle, "detector", tried=True),
    Hostile(_not_fitted, "detector", tried=True),
    Hostile(_other_width, "features", tried=True),
    Hostile(_constant_and_vouched_for, "probe"),
    Hostile(_constant, "probe", tried=True),
    Hostile(_wrong_probe, "probe", tried=True),
    Hostile(_other_forest, "probe", tried=True),
    Hostile(_nan, "not_finite", tried=True),
    Hostile(_infinity, "not_finite", tried=True),
    Hostile(_array_beyond_memory, "memory", tried=True),
]
