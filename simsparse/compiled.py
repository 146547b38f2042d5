"""`compiled`: functions over arrays and numbers that run as plain Python while there is little to do, and as machine
code of numba from then on.

Importing numba and loading its cached code takes longer than pricing a whole model in plain Python. Both run the same
IEEE operations in the same order (no fast-math), so that results are equal bit for bit; a test holds the engines to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FEW_ROWS = 256  # of the first argument, beyond which a call is compiled at once
FEW_IN_ALL = 3000  # rows (calls, of functions of numbers) that one process does in plain Python


class Compiled(Generic[P, R]):
    """A function that is compiled when it pays; see the module.

    Attributes
    ----------
    python : callable
        The plain function.
    done : int
        Rows done in plain Python so far, by all such functions.
    options : dict
        Those of `numba.njit`.
    """

    done: ClassVar[int] = 0
    options: ClassVar[dict[str, object]] = {"cache": True}

    def __init__(self, function: Callable[P, R]) -> None:
        self.python = function
        self._machine_code: Callable[P, R] | None = None
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, one way or the other."""
        if self._machine_code is None:
            rows = _rows(args)
            Compiled.done += rows
            if rows <= FEW_ROWS and Compiled.done <= FEW_IN_ALL:
                return self.python(*args, **kwargs)
        return self.compile()(*args, **kwargs)

    def compile(self) -> Callable[P, R]:
        """Its machine code, and that of all compiled functions in its module."""
        if self._machine_code is None:
            from numba import njit

            self._machine_code = njit(**self.options)(self.python)
            # Machine code calls no object of this class: from now on the names in the module mean machine code.
            names = self.python.__globals__
            for name, value in list(names.items()):
                if isinstance(value, Compiled):
                    names[name] = value.compile()
        return self._machine_code


def _rows(args: tuple[Any, ...]) -> int:
    first: Any = args[0] if args else None
    return len(first) if getattr(first, "ndim", 0) == 2 else 1


def compiled(function: Callable[P, R]) -> Compiled[P, R]:
    """Compile when it pays: a decorator in place of `numba.njit(cache=True)`."""
    return Compiled(function)
