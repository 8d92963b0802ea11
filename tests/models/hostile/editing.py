"""How a sound bundle is changed: its manifest, its model, the archive of that, the trees in it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import skops.io
from sklearn.tree._tree import Tree

from stream_detector.detectors.pyod import KINDS
from stream_detector.models import files
from tests.models.examples import trained

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


def change_a_byte(folder: Path) -> None:
    """Change one byte of the model."""
    path = folder / files.MODEL
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


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
