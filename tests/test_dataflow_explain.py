"""Explanations of counts: factors that multiply to them, for every counter of random cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from dataflow_cases import Case, Features, cases, masks_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsparse.cli import main
from simsparse.dataflow._arrays import Count
from simsparse.dataflow.analysis import analyze
from simsparse.dataflow.density import ActualData


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    case=st.one_of(cases(Features(sparse=False)), cases(Features(acting=True)), cases(Features(lanes=True))),
    seed=st.integers(0, 2**32 - 1),
)
def test_factors_multiply_to_every_count(case: Case, seed: int) -> None:
    """At every level that counts a tensor, dense, compressed, gated, streamed."""
    masks = masks_of(case.problem, seed) if case.features.sparse else {}
    problem = case.problem.with_densities({name: ActualData(mask) for name, mask in masks.items()})
    analysis = analyze(problem, case.architecture, case.mapping)
    for part in case.mapping.levels:
        for tensor in (*part.keep, *part.streamed):
            for count in set(Count) - {Count.ENERGY_PJ}:
                explained = analysis.explain(part.level, tensor, count)
                assert explained.value == analysis.count(part.level, tensor, count)
                product = math.prod(step.factor for step in explained.steps)
                assert product == pytest.approx(explained.value), (part.level, tensor, count.name)
                assert all(step.what for step in explained.steps)


def test_the_command_line_takes_counts_apart(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A streams through SMEM: every word of a register tile, as often as loops bring another."""
    cases_file = str(evidence / "sparseloop" / "cases.json")
    run = ["dataflow", "explain", cases_file, "--case", "stc/0.25/M512K1024N256/TC-RF2x-24-bandwidth"]
    assert main([*run, "--level", "SMEM", "--tensor", "A", "--count", "reads", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["explanations"]
    assert math.prod(step["factor"] for step in found["steps"]) == found["value"] == 1024 * 1024
    assert main([*run, "--level", "SMEM", "--tensor", "A", "--count", "reeds"]) == 2
    assert "no count is named 'reeds'; near names: reads" in capsys.readouterr().err
