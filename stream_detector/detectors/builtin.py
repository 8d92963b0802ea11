"""The built-in detectors, which need no training, by the name that a stream's `model` gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.detectors.default.detector import Default
from stream_detector.detectors.light import Light

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.core.scoring.detector import Detector

BUILT_IN: Mapping[str, Callable[[], Detector]] = {"default": Default, "light": Light}
