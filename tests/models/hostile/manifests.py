"""Manifests that lie, or cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.models import files
from tests.models.hostile.editing import (
    Hostile,
    change_a_byte,
    described,
    edit,
    edit_calibration,
    replace_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path


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
    change_a_byte(folder)


CORPUS = [
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
]
