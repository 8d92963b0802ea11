"""Named places where the proofs of durability make the service fail; nothing happens there otherwise.

A test arms a place with what shall happen when it is reached: a kill, an exception, a full disk, a
stall. Nothing in the package, its configuration or its environment can arm one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAILPOINTS = (
    "after receive",
    "after score",
    "in the transaction",
    "after commit",
    "before acknowledgements",
    "after acknowledgements",
    "after publish",
    "before outbox deletion",
    "during checkpoint",
    "during model swap",
)

armed: dict[str, Callable[[], None]] = {}
"""What happens at which place; empty except in tests."""


def reach(place: str) -> None:
    """Say that a place is reached."""
    if armed and place in armed:
        armed[place]()
