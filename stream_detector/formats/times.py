"""Times and numbers of readings as JSON brings them -> whole numbers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - the C type compares fastest
_MICROSECOND = timedelta(microseconds=1)
_MILLISECONDS_FROM = 1e11
"""Numbers from here on are milliseconds: as seconds they would be in the year 5138."""

_FARTHEST = 1e15
"""Numbers from here on are no times; as milliseconds they would be in the year 33,658."""

Seq = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
Time = Annotated[datetime, msgspec.Meta(tz=True)] | int | float


def microseconds(time: datetime | float) -> int:
    """Return µs since 1970 of an RFC 3339 time, or of a number of seconds or milliseconds.

    Example:
        >>> microseconds(1_700_000_000), microseconds(1_700_000_000_123), microseconds(1.7e9)
        (1700000000000000, 1700000000123000, 1700000000000000)
    """
    if isinstance(time, datetime):
        return (time - _EPOCH) // _MICROSECOND
    time = max(-_FARTHEST, min(time, _FARTHEST))  # the bounds of time refuse it later
    if abs(time) >= _MILLISECONDS_FROM:
        return round(time * 1000)
    return round(time * 1_000_000)
