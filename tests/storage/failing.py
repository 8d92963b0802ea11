"""Makes the n-th call that storage makes to the disk fail."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from stream_detector.storage import connection

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def failing(n: int, error: Exception) -> Iterator[list[str]]:
    """Make the n-th call inside this block fail, in whatever thread.

    Yields:
        The SQL of the call that failed; empty where there were fewer calls.
    """
    calls, failed = count(1), list[str]()

    def fail(sql: str) -> None:
        if next(calls) == n:
            failed.append(sql)
            raise error

    connection.before_call.append(fail)
    try:
        yield failed
    finally:
        connection.before_call.remove(fail)
