"""What can be made to happen in the service: at a failpoint, or at a call of SQLite."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stream_detector import failpoints
from stream_detector.storage import connection

if TYPE_CHECKING:
    from collections.abc import Callable

STALL_S = 2.0
MARK = "a planted fault happens now:"


class PlantedError(RuntimeError):
    """Nobody expects it."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise PlantedError("planted")


def _disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_broken() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _sqlite_full() -> None:
    _raise_sqlite("database or disk is full", sqlite3.SQLITE_FULL)


def _sqlite_broken() -> None:
    _raise_sqlite("disk I/O error", sqlite3.SQLITE_IOERR)


def _raise_sqlite(text: str, code: int) -> None:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    raise error


def _stall() -> None:
    time.sleep(STALL_S)


FAULTS: dict[str, Callable[[], None]] = {
    "kill -9": _kill,
    "exception": _raise,
    "disk full": _disk_full,
    "disk broken": _disk_broken,
    "stall": _stall,
}
"""What can happen at a failpoint."""
SQLITE_FAULTS: dict[str, Callable[[], None]] = {"sqlite full": _sqlite_full, "sqlite broken": _sqlite_broken}
"""What can happen at a call of SQLite."""


def arm(fault: str, at: int = 1, failpoint: str | None = None, while_exists: str | None = None) -> None:
    """Let a fault happen; the log says when.

    Args:
        fault: One of `FAULTS` or `SQLITE_FAULTS`.
        at: It happens once, at the so-many-th time that ...
        failpoint: ... this failpoint is reached; None: that storage calls SQLite.
        while_exists: It happens each time instead, for as long as this file exists.

    Raises:
        ValueError: There is no such failpoint.
    """
    if failpoint is None:
        connection.before_call.append(_at(at, fault, "a call of SQLite"))
        return
    if failpoint not in failpoints.FAILPOINTS:
        raise ValueError(f"there is no failpoint {failpoint!r}; there are {', '.join(failpoints.FAILPOINTS)}")
    failpoints.armed[failpoint] = (
        _at(at, fault, failpoint) if while_exists is None else _while(while_exists, fault)
    )


def _at(at: int, fault: str, where: str) -> Callable[..., None]:
    """Return what counts its calls, and does it at one of them."""
    reached = 0

    def happen(*_: object) -> None:
        nonlocal reached
        reached += 1
        if reached == at:
            print(MARK, fault, where, file=sys.stderr, flush=True)  # noqa: T201 - read by the proof
            (FAULTS | SQLITE_FAULTS)[fault]()

    return happen


def _while(path: str, fault: str) -> Callable[[], None]:
    """Return what does it for as long as a file exists."""

    def happen() -> None:
        if Path(path).exists():
            FAULTS[fault]()

    return happen
