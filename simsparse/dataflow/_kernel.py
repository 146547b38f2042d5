"""The decorator of compiled functions: over arrays and numbers only, cached on disk, without fast-math."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function when it is first called; types stay those of the plain function."""
    compiled: Callable[P, R] = njit(cache=True)(function)
    return compiled
