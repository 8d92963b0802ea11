"""Compile all kernels into NUMBA_CACHE_DIR: those that every start needs, and the isolation forest's."""
# ruff: noqa: INP001 - a script that builds the image, not a package

from __future__ import annotations

import numpy as np

from stream_detector.detectors.forest import Forest
from stream_detector.service.memory import warm_up

warm_up()
Forest(
    features=np.zeros((1, 1), dtype=np.uint32),
    thresholds=np.zeros((1, 1), dtype=np.float32),
    lengths=np.zeros((1, 2)),
    scale=1.0,
    offset=0.0,
    columns=1,
).raw(np.zeros((1, 1)))
