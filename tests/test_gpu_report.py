"""Where GPU predictions stand: which dense product a speedup is over, and rows pooled by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accel_models.gpu.report import GROUPS, Case, at_equal_sparsity, by_source, cases, lines, tau
from accel_models.gpu.twins import dense_twins, source_of
from simsparse.measurements import Measurement


def product(name: str, pattern: str, value: float, **cells: object) -> Measurement:
    row = Measurement(
        name, "s", "card", "latency_ms", value, phase="gemm", m=64, n=64, k=64, pattern=pattern,
        source="lab/repo:file.csv@1",
    )  # fmt: skip
    return replace(row, **cells)


def test_a_speedup_is_over_the_dense_product_of_the_same_shape_device_and_source() -> None:
    rows = [
        product("a", "dense", 2.0),
        product("b", "dense", 4.0, source="lab/repo:other.csv@2"),
        product("c", "dense", 9.0, source="another/repo:file.csv@1"),
        product("d", "2:4", 1.0),
        product("e", "2:4", 1.0, m=128),
        product("f", "2:4", 1.0, phase="encode"),
    ]
    twin, seconds = dense_twins(rows)[3]
    assert (twin, seconds) == (0, pytest.approx(3e-3))  # the median of 2 and 4 ms
    assert set(dense_twins(rows)) == {3}
    assert source_of(rows[0]) == "lab/repo"


@pytest.fixture(scope="module")
def found(evidence: Path) -> list[Case]:
    return cases(evidence / "published")


def test_every_named_group_has_rows(found: list[Case]) -> None:
    for group in GROUPS:
        chosen = [case for case in found if group.holds(case)]
        assert len(chosen) >= 16, group.title
        assert len({(case.source.id, case.speedup) for case in chosen}) == len(chosen)
    assert len(list(lines(found))) > len(GROUPS)


# Off by more than is asked: ProSparse's table (its dense runs: README of the family), and the 90th percentile of 2:4's
# speedups (12.6 % of 12 %): 12 of the 17 rows beyond 11.5 % are over cuBLAS on RTX 3090, where the library leaves
# its fastest kernel.
MISSED = {"ProSparse operators", "speedup of 2:4 over dense"}


def test_named_groups_are_as_near_as_is_asked(found: list[Case]) -> None:
    for group in GROUPS:
        median, p90 = np.quantile([case.error for case in found if group.holds(case)], [0.5, 0.9])
        near = bool(median <= group.median and p90 <= group.p90)
        assert near is (group.title not in MISSED), group.title


def test_speedups_keep_their_order_within_a_source(found: list[Case]) -> None:
    """Kendall's tau of at least 0.8 in each source with a hundred speedups or more."""
    large = [(name, chosen) for name, chosen in by_source(found) if len(chosen) >= 100]
    assert len(large) >= 3
    for name, chosen in large:
        assert tau(chosen) >= 0.8, name


def test_series_are_of_one_pattern_and_spread(found: list[Case]) -> None:
    for _, chosen in at_equal_sparsity(found):
        assert len({(case.source.system, case.source.device, case.source.pattern) for case in chosen}) == 1
        measured = np.array([case.measured for case in chosen])
        assert measured.max() > 1.1 * measured.min()
