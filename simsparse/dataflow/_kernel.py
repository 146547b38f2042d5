"""The decorator of compiled functions: over arrays and numbers only, cached on disk, without fast-math.

They run as plain Python until one of them is compiled, which compiles all that it calls. Loading (or making) machine
code takes longer than some hundred single analyses; a search compiles at once. Both run the same IEEE operations in the
same order, so that results are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, ParamSpec, TypeVar

from simsparse.compiled import Compiled

P = ParamSpec("P")
R = TypeVar("R")


class Kernel(Compiled[P, R]):
    """A function that is plain Python until `compile` is called.

    Attributes
    ----------
    runs : int
        Single mappings that were evaluated in this process.
    """

    runs: ClassVar[int] = 0
    options: ClassVar[dict[str, object]] = {"cache": True, "error_model": "numpy", "nogil": True}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, one way or the other."""
        return (self._machine_code or self.python)(*args, **kwargs)


def kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Make a kernel of a function."""
    return Kernel(function)
