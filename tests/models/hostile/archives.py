"""Archives that are none, or more than they should be."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import TYPE_CHECKING

import joblib
import numpy as np

from stream_detector.models import estimator, files
from tests.models.hostile.editing import Hostile, change_a_byte, evil, pack, parts, replace_model

if TYPE_CHECKING:
    from pathlib import Path


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
    change_a_byte(folder)
    replace_model(folder, (folder / files.MODEL).read_bytes())


def _deep_schema(folder: Path) -> None:
    pack(folder, [("schema.json", b'{"content":' * 100_000)])


def _pickle_in_an_array(folder: Path) -> None:
    members = parts(folder)
    victim = next(name for name in members if name != "schema.json")
    content = io.BytesIO()
    np.save(content, np.array([evil(folder)], dtype=object), allow_pickle=True)
    pack(folder, list((members | {victim: content.getvalue()}).items()))


CORPUS = [
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
]
