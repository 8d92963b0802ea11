"""The one switch for compiled code.

A kernel is a plain function over arrays, compiled by numba. Fast-math is off, so a kernel gives
the same bits whatever the batch. The machine code is cached beside the source or in the user's
cache folder (NUMBA_CACHE_DIR names another one); where neither can be written, every start compiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")


def kernel(function: F) -> F:
    """Compile a function over arrays; ``kernel(f).py_func`` is the plain one."""
    try:
        return cast("F", numba.njit(cache=True, fastmath=False)(function))
    except RuntimeError:  # no place to cache in: a read-only package and no home
        return cast("F", numba.njit(fastmath=False)(function))
