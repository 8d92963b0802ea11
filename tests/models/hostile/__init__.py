"""Hostile bundles: each function in these modules breaks a sound bundle of a forest in one way.

`CORPUS` lists them with the reason they must be refused for, and whether that takes a child: what
can be refused by a look at the files must not start one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.models.hostile import archives, in_place_of_files, manifests, numbers, types

if TYPE_CHECKING:
    from tests.models.hostile.editing import Hostile

CORPUS: list[Hostile] = [
    *in_place_of_files.CORPUS,
    *manifests.CORPUS,
    *archives.CORPUS,
    *types.CORPUS,
    *numbers.CORPUS,
]
