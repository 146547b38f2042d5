"""Measured products beside the dense ones of the same shape: what a measured speedup is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from simsparse.measurements import Measurement

# How a source begins where several tables of it come from one run: a repository, or a paper.
_PARTS = (":", "@", " Table", " Fig")


def source_of(row: Measurement) -> str:
    """The repository or paper of a row, without file, commit or table."""
    text = row.source
    for mark in _PARTS:
        text = text.split(mark)[0]
    return text


def dense_twins(rows: Sequence[Measurement]) -> dict[int, tuple[int, float]]:
    """For rows of sparse products, the dense product of the same shape, device and source, and accumulator if there is.

    Returns
    -------
    dict of int to (int, float)
        From the position of a sparse row to that of one of its dense twins and the median of their times, in seconds.
    """
    dense: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if _is_product(row) and row.pattern == "dense":
            dense[_key(row)].append(index)
    found = {}
    for index, row in enumerate(rows):
        twins = dense.get(_key(row)) if _is_product(row) and row.pattern not in ("", "dense") else None
        if twins:
            # Where a source gives dense times with both accumulators, the row's own.
            twins = [twin for twin in twins if rows[twin].accumulate == row.accumulate] or twins
            found[index] = (twins[0], float(np.median([rows[twin].seconds for twin in twins])))
    return found


def _is_product(row: Measurement) -> bool:
    return row.phase == "gemm" and row.scored and row.product is not None and row.seconds is not None


def _key(row: Measurement) -> tuple[object, ...]:
    return source_of(row), row.device, row.product
