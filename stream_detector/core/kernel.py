"""The one switch for compiled code.

A kernel is a plain function over arrays, compiled by numba. Fast-math is off, so a kernel gives
the same bits whatever the batch, and the machine code is cached beside the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")


def kernel(function: F) -> F:
    """Compile a function over arrays; ``kernel(f).py_func`` is the plain one."""
    return cast("F", numba.njit(cache=True, fastmath=False)(function))
