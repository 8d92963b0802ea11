"""Run our command by a wall clock that somebody else moves.

``python shifted.py FILE python -m stream_detector run …``: it stands before the command, as `env` would.

The file holds one int64: by how many nanoseconds the wall clock is wrong. Only that clock jumps, as it
does when somebody sets it; what counts the time since the machine was started goes on. Nothing of the
tests is imported, as they are not on the path where a service runs.
"""

from __future__ import annotations

import mmap
import sys
import time
from pathlib import Path


def _shift(path: Path) -> None:
    with path.open("r+b") as file:
        wrong_by = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
    true_ns, true_s = time.time_ns, time.time
    time.time_ns = lambda: true_ns() + wrong_by[0]
    time.time = lambda: true_s() + wrong_by[0] / 1e9


if __name__ == "__main__":
    _shift(Path(sys.argv[1]))
    from stream_detector.cli import main

    sys.argv[:5] = ["stream-detector"]
    main()
