"""The program of the child that tries a bundle: see `trial`.

First the libraries, then the limits, then the bytes: so the limits need no room for imports and
compilers, and nothing of the bundle has been looked at before they hold.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from stream_detector.core.devices.table import Table
from stream_detector.core.windows import rolling as windows
from stream_detector.detectors.forest import Forest
from stream_detector.detectors.pyod import KINDS, import_library
from stream_detector.errors import BundleError
from stream_detector.models import bundle
from stream_detector.models.files import MODEL, Files
from stream_detector.models.refusals import refused, refusing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.detectors.pyod import FittedModel

STATM = Path("/proc/self/statm")
OOM = Path("/proc/self/oom_score_adj")
MAX_FILES = 16  # a library may import another module late
ROWS = 256
MAX_SCORING_S = 2.0  # for so many rows; 50,000 neighbours in 18 columns take 0.15


def main(order: str) -> None:
    """Try one bundle: say a line when ready, read it from stdin, say a line with the verdict."""
    wanted = json.loads(order)
    KINDS[wanted["detector"]].load_class()
    import_library("skops.io")
    _compile()
    _confine(wanted["memory_bytes"], wanted["cpu_s"], wanted["wall_s"])
    _say("")
    reason, sentence = None, ""
    try:
        _try(_receive(sys.stdin.buffer))
    except BundleError as error:
        reason, sentence = error.reason, str(error)
    _say(json.dumps({"reason": reason, "sentence": sentence}))


def _compile() -> None:
    """Have the forest's kernel ready: its machine code is kept on the disk, where nothing is kept later."""
    Forest(
        features=np.zeros((1, 1), dtype=np.uint32),
        thresholds=np.zeros((1, 1), dtype=np.float32),
        lengths=np.zeros((1, 2)),
        scale=1.0,
        offset=0.0,
        columns=1,
    ).raw(np.zeros((1, 1)))


def _confine(memory_bytes: int, cpu_s: int, wall_s: int) -> None:
    """Limit this process from here on, for ever."""
    used_s = math.ceil(time.process_time())
    if OOM.exists():
        OOM.write_text("1000")  # when the machine runs out of memory, this process goes first
    if STATM.exists():  # not on macOS, which would not keep the limit
        addresses = int(STATM.read_text().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, addresses + memory_bytes)
    _lower(resource.RLIMIT_CPU, used_s + cpu_s, spare=1)  # SIGXCPU, a second later SIGKILL
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, MAX_FILES)
    _lower(resource.RLIMIT_NPROC, 0)  # no process and no thread; does not hold for root
    signal.alarm(wall_s)  # also when nobody waits for us any more


def _lower(limit: int, most: int, spare: int = 0) -> None:
    hard = resource.getrlimit(limit)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard - spare)
    resource.setrlimit(limit, (most, most + spare))


def _say(line: str) -> None:
    os.write(sys.stdout.fileno(), line.encode() + b"\n")


def _receive(pipe: BinaryIO) -> Files:
    header: dict[str, Any] = json.loads(pipe.readline())
    manifest = pipe.read(header["manifest_bytes"])
    return Files(Path(header["folder"]), manifest, pipe.read(), sha256="")


def _try(files: Files) -> None:
    """Do what the service will do with the bundle, and worse.

    Raises:
        BundleError: It is refused.
    """
    model = bundle.verify(files)
    with refusing(files.folder, f"{MODEL} fails on a strange row", "detector"):
        rows = strange_rows(model)
        began = time.process_time()
        raw = model.raw(rows)
        took_s = time.process_time() - began
        verdicts = model.score(
            Table({}), np.zeros(ROWS, dtype=np.int32), rows, rows, np.zeros(ROWS, dtype=np.int64)
        )
        shares = np.stack([verdicts.shares(index) for index in range(0, ROWS, 16)])
        answers = np.concatenate((raw, verdicts.score, shares.sum(axis=1)))
    if not np.isfinite(answers).all():
        raise refused(files.folder, f"{MODEL} gives no number for a strange row", "not_finite")
    if took_s > MAX_SCORING_S:
        what = f"{MODEL} takes {took_s:.1f} s for {ROWS} rows, at most {MAX_SCORING_S} s are allowed"
        raise refused(files.folder, what, "timeout")


def strange_rows(model: FittedModel) -> NDArray[np.float64]:
    """Return rows such as no training data holds, all within what a reading can be, (256, columns).

    Half are random and up to a million standard deviations away; of the others some are 0, and some
    the largest value there is, in all columns or in one.
    """
    generator = np.random.default_rng(0)
    columns = len(model.medians)
    directions = generator.normal(size=(ROWS, columns)) * 10.0 ** generator.uniform(-3.0, 6.0, size=(ROWS, 1))
    rows = model.medians + model.scale * directions
    rows[128:136] = 0.0
    rows[136:144] = windows.LARGEST
    rows[144:152] = -windows.LARGEST
    for index in range(152, 256):
        rows[index] = model.medians
        rows[index, index % columns] = generator.choice([-1.0, 1.0]) * 10.0 ** generator.uniform(-40.0, 38.0)
    return np.clip(rows, -windows.LARGEST, windows.LARGEST)
