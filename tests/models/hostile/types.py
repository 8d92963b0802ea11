"""Objects in a model that must not be built."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LinearRegression

from stream_detector.detectors.pyod import KINDS
from tests.models.examples import feature_rows, trained
from tests.models.hostile.editing import Hostile, become, evil, fitted, pack, parts, put, replace_model

if TYPE_CHECKING:
    from pathlib import Path


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


CORPUS = [
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
]
