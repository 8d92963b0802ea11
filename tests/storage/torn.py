"""What a power cut can leave behind: the log cut at any byte, or with a bit flipped.

A kill leaves the page cache as it is; a power cut does not. Since nothing but the log is written between
two checkpoints, every cut of it is a state that a disk can be in.
"""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

from stream_detector.storage.store import Store
from tests.storage.examples import check_prefix, content, step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMITS = 12
HEADER = 32  # bytes of the log


def crashed(folder: Path) -> Path:
    """Return a state_dir just after the last of `COMMITS` commits; all but the first are in the log."""
    live = folder / "live"
    with closing(Store(live)) as store:
        store.commit(step(1))
    with closing(Store(live)) as store:
        for k in range(2, COMMITS + 1):
            store.commit(step(k))
        shutil.copytree(live, folder / "crashed", ignore=shutil.ignore_patterns("*-shm"))
    shutil.rmtree(live)
    return folder / "crashed"


def cuts(log: bytes, every: int) -> Iterator[bytes]:
    """Yield a log cut at every so many bytes, longer and longer."""
    for length in range(0, len(log) + 1, every):
        yield log[:length]


def flips(log: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield a log with one bit flipped, at random places."""
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    for _ in range(count):
        place = dice.randrange(len(log))
        yield log[:place] + bytes([log[place] ^ (1 << dice.randrange(8))]) + log[place + 1 :]


def commits_found(state_dir: Path, log: bytes, scratch: Path) -> int:
    """Open a state_dir with another log, and return how many commits it holds, wholly or not at all."""
    shutil.copytree(state_dir, scratch)
    (scratch / "state.db-wal").write_bytes(log)
    try:
        with closing(Store(scratch)) as store:
            found = check_prefix(content(store), COMMITS)
            store.commit(step(found + 1))  # and it goes on from there
            assert check_prefix(content(store), COMMITS + 1) == found + 1
        return found
    finally:
        shutil.rmtree(scratch)
