"""`simsparse design sat`: many designs are priced as each alone would be, and none on the front is beaten."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.fpga.design import Designs, Minimise, sweep_designs, with_pattern
from accel_models.fpga.pareto import front
from accel_models.fpga.resources import available, needed
from accel_models.fpga.schemes import Scheme
from accel_models.fpga.training import accelerator
from simsparse.cli import main
from simsparse.errors import InputError, SimsparseError
from simsparse.plan import Floats
from simsparse.registry import load_machine, load_workload

AXES = {
    "array_rows": (8, 32), "array_cols": (16, 64), "clock_hz": (150e6, 250e6), "dram_channels": (1, 4),
    "weight_buffer_bytes": (2**19, 2**20), "activation_buffer_bytes": (2**21,), "output_buffer_bytes": (2**20,),
    "vector_ops_per_cycle": (16, 256), "update_lanes": (2, 32), "reduction_lanes": (1, 32),
}  # fmt: skip


@lru_cache
def swept(scheme: Scheme = Scheme.BDWP, phase: str = "train", network: str = "resnet-9") -> Designs:
    return sweep_designs(network, phase=phase, batch=16, axes=AXES, patterns=("dense", "2:8"), scheme=scheme, jobs=2)


def alone(designs: Designs, row: int, network: str, phase: str, scheme: Scheme) -> tuple[float, float]:
    """Time and energy of the design's own machine, calls added up in order."""
    machine = load_machine("sat-vcu1525", designs.space.changes(row))
    pattern = designs.space.sparsities[designs.space.sparsity[row]]
    plan = machine.lower(with_pattern(load_workload(network, phase=phase, batch=16), pattern, scheme))
    prices, latency_s, energy_j = machine.price(plan), 0.0, 0.0
    for call, seconds, joules in zip(plan.calls, prices.latency_s.tolist(), prices.energy_j.tolist(), strict=True):
        latency_s += call.count * seconds
        energy_j += call.count * joules
    return latency_s, energy_j


@pytest.mark.parametrize(
    ("network", "phase", "scheme"),
    [
        ("resnet-9", "train", Scheme.BDWP), ("resnet-9", "train", Scheme.TRANSPOSABLE),
        ("resnet-9", "train", Scheme.SDGP), ("vit-cifar100", "encode", Scheme.BDWP),
    ],
)  # fmt: skip
def test_a_design_costs_what_its_own_machine_says_bit_for_bit(network: str, phase: str, scheme: Scheme) -> None:
    designs = swept(scheme, phase, network)
    for row in np.random.default_rng(7).choice(len(designs), 8, replace=False).tolist():
        assert (designs.latency_s[row], designs.energy_j[row]) == alone(designs, row, network, phase, scheme)


def test_what_a_design_takes_is_what_its_machine_takes_and_what_does_not_fit_is_counted() -> None:
    designs = sweep_designs("resnet-9", axes=AXES | {"array_cols": (16, 200), "dram_channels": (4, 8)}, jobs=2)
    refused = dict(designs.space.refused)
    assert designs.space.tried == 4 * 2**8
    # Half are for 8 channels, and a quarter for 32 x 200 elements, which need more DSP blocks than there are.
    assert refused["dram_channels"] == designs.space.tried / 2
    assert refused["dsp"] == designs.space.tried / 4
    has = available(designs.spec)
    for row in range(0, len(designs), 97):
        takes = needed(accelerator("sat-vcu1525", designs.space.changes(row)).spec)
        assert all(designs.columns[name][row] == getattr(takes, name) for name in ("dsp", "lut", "ff", "bram", "uram"))
        assert takes.dsp <= has.dsp


def beaten(points: Floats) -> list[bool]:
    """Which of the points another one beats, or equals and comes before."""
    found = []
    for at, point in enumerate(points):
        no_worse = (points <= point).all(axis=1)
        better = no_worse & (points < point).any(axis=1)
        found.append(bool(better.any() or no_worse[:at].any()))
    return found


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=40))
def test_the_front_is_what_none_beats(points: list[tuple[int, int, int]]) -> None:
    rows = np.array(points, dtype=np.float64)
    assert sorted(front(*rows.T).tolist()) == [at for at, other in enumerate(beaten(rows)) if not other]


@pytest.mark.parametrize("minimise", list(Minimise))
def test_the_best_is_on_the_front_and_a_larger_budget_never_worsens_it(minimise: Minimise) -> None:
    designs = swept()
    column = {"time": "latency_s", "energy": "energy_j", "edp": "edp_js"}[minimise]
    best = []
    for limit in (1000, 2000, 4000, 7000):
        choice = designs.choose([f"dsp<={limit}"], minimise)
        within = designs.columns["dsp"] <= limit
        best.append(designs.columns[column][choice.best])
        assert choice.best in choice.front
        assert best[-1] == designs.columns[column][within].min()
        assert choice.within.tolist() == within.tolist()
    assert best == sorted(best, reverse=True)
    assert best[0] > best[-1]


def test_design_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [part for name, values in AXES.items() for part in ("--set", f"{name}={','.join(map(str, values))}")]
    words = ["design", "sat", "--workload", "resnet-9", "--batch", "16", *sets, "--set", "sparsity=dense,2:8"]
    parquet, picture = tmp_path / "all.parquet", tmp_path / "front.png"
    paths = ["--out", str(parquet), "--plot", str(picture)]
    assert main([*words, "--budget", "dsp<=4000", "--minimise", "edp", "--format", "json", *paths]) == 0
    found = json.loads(capsys.readouterr().out)
    designs = swept()
    choice = designs.choose(["dsp<=4000"], Minimise.EDP)
    assert found["best"]["edp_js"] == designs.columns["edp_js"][choice.best]
    assert found["best_changes"] == designs.space.changes(choice.best)
    assert len(found["front"]) == len(choice.front)
    assert pq.read_table(parquet)["latency_s"].to_pylist() == designs.latency_s.tolist()
    assert picture.stat().st_size > 10_000
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"{len(designs)} of {designs.space.tried} designs fit" in shown
    assert shown.count("*  2:8") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "rows=8"], "no axis is named 'rows'; near names: array_rows, array_cols"),
        (["--set", "array_rows=8,x"], "--set is 'array_rows=8,x', expected AXIS=A,B,C with numbers"),
        (["--set", "array_rows=0"], "axis array_rows is 0.0, expected a whole number above 0"),
        (["--set", "array_rows=8,8"], "axis array_rows is [8.0, 8.0], expected one or more values, each once"),
        (["--set", "sparsity=rows:0.5"], "sparsity is 'rows:0.5', expected dense or N:M, such as 2:8"),
        (["--set", "array_rows=500"], "designs of the axes is 17280, expected at least one that fits sat-vcu1525"),
        (["--minimise", "area"], "--minimise is 'area', expected one of time, energy, edp"),
        (["--scheme", "sgd"], "--scheme is 'sgd', expected one of bdwp, "),
        (["--out", "designs.csv"], "--out is 'designs.csv', expected a file that ends in .parquet"),
        # Refused before anything is looked up or priced.
        (
            ["--out", "none/all.parquet", "--on", "x"],
            "output is 'none/all.parquet', expected a path that can be written",
        ),
        (["--budget", "dsp=9", "--workload", "x"], "--budget is 'dsp=9', expected COLUMN<=NUMBER, such as dsp<=4000"),
        (["--budget", "dps<9", "--workload", "x"], "no column is named 'dps'; near names: edp_js, dsp"),
        (["--jobs", "0"], "jobs is 0, expected at least 1"),
        (["--on", "h100-sxm-80gb"], "machine 'h100-sxm-80gb' is no N:M trainer, expected one of the family fpga"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["design", "sat", "--workload", "resnet-9", *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (["dsp=4000"], "--budget is 'dsp=4000', expected COLUMN<=NUMBER, such as dsp<=4000"),
        (["dsp<=many"], "expected COLUMN<=NUMBER"),
        (["dps<=4000"], "no column is named 'dps'; near names: edp_js, dsp"),
        (["latency_s>0", "dsp<10"], "--budget is 'latency_s>0 dsp<10', expected one that a design meets (dsp is "),
    ],
)
def test_bad_budgets_are_refused(budgets: list[str], message: str) -> None:
    with pytest.raises(SimsparseError) as refusal:
        swept().choose(budgets)
    assert message in str(refusal.value)


def test_too_many_designs_are_refused_before_any_is_made() -> None:
    with pytest.raises(InputError, match="designs of the axes is 345600000, expected at most 2000000"):
        sweep_designs("resnet-9", axes={"update_lanes": tuple(range(1, 8001))})
