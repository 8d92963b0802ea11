"""Models of the right types whose numbers are wrong."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.detectors.pyod import KINDS
from tests.models.examples import feature_rows, trained
from tests.models.hostile.editing import (
    Hostile,
    become,
    described,
    edit,
    edit_nodes,
    fitted,
    pack,
    parts,
    put,
    replace_model,
)

if TYPE_CHECKING:
    from pathlib import Path


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


CORPUS = [
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
