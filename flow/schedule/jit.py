"""Compiling loops with numba. A file of loops calls no compiled function of another file: numba's
cache looks at the file of a function only, and would run what an older helper was compiled to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flow.packages import require

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function, compiled at its first call and kept beside its file, or in the user's cache;
    where neither can be written, for this process only. Raises ToolMissing without numba."""
    require("numba")
    from numba import njit

    decorate: Any = njit
    try:
        # no C function calls it, and making one more would take a part of the compiling
        made: F = decorate(cache=True, no_cfunc_wrapper=True)(function)
    except RuntimeError:  # numba finds no place to keep it
        made = decorate(function)
    return made
