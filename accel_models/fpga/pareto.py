"""Which of many designs no other beats, and what may be asked of them."""

from __future__ import annotations

import operator
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError, UnknownNameError
from simsparse.plan import Floats, Ints

_COMPARED: Mapping[str, Callable[[Floats, float], NDArray[np.bool_]]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """A limit on a column: `dsp<=4000`."""

    column: str
    sign: str
    limit: float

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.column}{self.sign}{self.limit:g}"

    def keeps(self, values: Floats) -> NDArray[np.bool_]:
        """Where the values are within it."""
        return _COMPARED[self.sign](values, self.limit)


def budget(text: str, columns: Collection[str]) -> Budget:
    """A limit from its text.

    Raises
    ------
    InputError
        For what is no limit.
    UnknownNameError
        For a column that there is not.
    """
    parts = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*", text)
    try:
        column, sign, limit = parts.groups() if parts else ("", "", "")
        made = Budget(column, sign, float(limit))
    except ValueError:
        raise InputError.expected("--budget", text, "COLUMN<=NUMBER, such as dsp<=4000") from None
    if column not in columns:
        raise UnknownNameError.near("column", column, list(columns))
    return made


def front(time: Floats, energy: Floats, share: Floats) -> Ints:
    """Indices of points that no other point equals or beats in all three and beats in one, by ascending time.

    Of equal points the first stays.
    """
    kept: list[int] = []
    # Of what came before, no slower: energies ascend and shares descend.
    energies: list[float] = []
    shares: list[float] = []
    for index in np.lexsort((np.arange(len(time)), share, energy, time)).tolist():
        e, s = float(energy[index]), float(share[index])
        below = bisect_right(energies, e)
        if below and shares[below - 1] <= s:
            continue
        end = bisect_left(energies, e)
        while end < len(shares) and shares[end] >= s:
            end += 1
        begin = bisect_left(energies, e)
        energies[begin:end], shares[begin:end] = [e], [s]
        kept.append(index)
    return np.array(kept, dtype=np.int64)
