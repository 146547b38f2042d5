"""Design files: figures and trends as published, texts of formats and actions, bad figures."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asic_designs import UNLIMITED, by_design, design, machine, product

from accel_models.asic import FAMILY
from simsparse.dataflow._arrays import LoopKind, Total
from simsparse.dataflow.analysis import analyze
from simsparse.dataflow.architecture import (
    Action,
    ActionKind,
    Architecture,
    Compute,
    Option,
    Rank,
    RankFormat,
    Storage,
    TensorFormat,
)
from simsparse.dataflow.density import UniformRandom
from simsparse.dataflow.mapping import LevelMapping, Loop, Mapping
from simsparse.dataflow.notation import actions_text, format_text, parse_actions, parse_format
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.reference import read_cases
from simsparse.errors import InputError, SimsparseError
from simsparse.registry import load_machine

pytestmark = pytest.mark.usefixtures("cache")
# Runs of the artifact (architecture, sparse configuration) and the design file that holds their figures.
DESIGNS = {
    ("TC", None): "dense-tensor-core",
    ("STC", "STC"): "stc",
    ("STC", "STC_flexible-RLE"): "stc-flexible",
    ("DSTC", "DSTC"): "dstc",
    ("fig13_dstc", "fig13_dstc"): "dstc-paper",
    ("eyeriss_168", None): "eyeriss",
    ("eyeriss_168", "eyeriss_168.2"): "eyeriss",
    ("eyerissv2_pe", "eyerissv2_pe"): "eyeriss-v2-pe",
}


def test_design_files_hold_the_figures_of_the_artifact(evidence: Path) -> None:
    """Every run of the artifact that a design file describes comes out as from the artifact's own figures."""
    folder = evidence / "sparseloop"
    raw = {case["id"]: case for case in json.loads((folder / "cases.json").read_text())}
    met: dict[str, int] = {}
    for case in read_cases(folder / "cases.json"):
        name = DESIGNS.get((raw[case.id]["architecture"], raw[case.id]["sparse_config"]))
        if name is None or met.get(name, 0) >= 4:
            continue
        spec = design(name, **UNLIMITED) if name.startswith("eyeriss") else design(name)
        ours, theirs = by_design(case, spec, sparse=not case.dense), case.analyze()
        assert ours.cycles == pytest.approx(theirs.cycles, abs=1), case.id
        assert ours.energy_j == pytest.approx(theirs.energy_j, rel=1e-9), case.id
        assert ours.architecture.area_um2 == pytest.approx(theirs.architecture.area_um2), case.id
        met[name] = met.get(name, 0) + 1
    assert set(met) == set(DESIGNS.values())


def test_figures_have_sources_and_bad_ones_none() -> None:
    for name in FAMILY.files:
        spec = design(name)
        assert spec.name == name
        assert len(list(spec.figures())) > 20
        assert all(figure.source for _, figure in spec.figures())


def test_published_curve_of_dual_sides(evidence: Path) -> None:
    """DSTC: whole rounds of packed lanes, and line buffers that hold one pair of vectors, bring 6.6 % down to 3.1 %."""
    folder = evidence / "sparseloop"
    runs = {case.id: case for case in read_cases(folder / "cases.json") if case.id.startswith("dstc/")}
    rows = list(csv.DictReader((folder / "dstc_latency_ground_truth.csv").read_text().splitlines()))
    published = [float(row["latency_normalized_to_dense"]) for row in rows]
    for ahead, most in ((True, 0.05), (False, 0.035)):
        spec = design("dstc-paper", **{"levels.LineBuffer.loads_ahead": ahead})
        cycles = [
            by_design(runs[f"dstc/A{row['a_density']}/B{row['b_density']}"], spec, rounding="exact").cycles
            for row in rows
        ]
        errors = [abs(each / cycles[0] / value - 1) for each, value in zip(cycles, published, strict=True)]
        assert len(errors) >= 10
        assert np.mean(errors) <= most
    assert not design("dstc-paper").levels["LineBuffer"].loads_ahead.value


def test_packed_lanes_against_a_walk() -> None:
    """Nonzeros of a column of A and a row of B, four and two lanes side by side, counted mask by mask."""
    m, n, k, lanes = 16, 8, 24, (4, 2)
    rank = (Rank(RankFormat.BITMASK, 0.0),)
    formats = {"A": TensorFormat(rank), "B": TensorFormat(rank)}
    pack = tuple(Action(ActionKind.POSITION_SKIPPING, (Option(name),)) for name in "AB")
    outer = Storage("outer", formats=formats, read_words_per_cycle=3.0)
    lines = Storage("lines", capacity_words=m + n, formats=formats, actions=pack, loads_ahead=False)
    architecture = Architecture((Storage("sums"), outer, lines), Compute(instances=8, mesh_x=2, mesh_y=4))
    spread = (Loop("M", lanes[0], LoopKind.Y), Loop("N", lanes[1], LoopKind.X))
    inner = LevelMapping("lines", ("A", "B"), (Loop("M", m // lanes[0]), Loop("N", n // lanes[1])), spread)
    nest = Mapping((LevelMapping("sums", ("C",)), LevelMapping("outer", ("A", "B"), (Loop("K", k),)), inner))
    problem = Problem.gemm(m, n, k, UniformRandom(0.375), UniformRandom(0.25))
    analysis = analyze(problem, architecture, nest)

    rng = np.random.default_rng(1)
    rounds, waits = [], []
    for _ in range(2000):
        columns, rows = rng.permuted(np.arange(m * k) < 0.375 * m * k), rng.permuted(np.arange(n * k) < 0.25 * n * k)
        in_a, in_b = columns.reshape(k, m).sum(axis=1), rows.reshape(k, n).sum(axis=1)
        rounds.append((np.ceil(in_a / lanes[0]) * np.ceil(in_b / lanes[1])).sum())
        waits.append((in_a + in_b).sum() / 3.0)
    assert analysis.total(Total.COMPUTE_CYCLES) == pytest.approx(np.mean(rounds), rel=0.01)
    assert analysis.total(Total.WAIT_CYCLES) == pytest.approx(np.mean(waits), rel=1e-9)
    assert analysis.cycles == pytest.approx(np.mean(rounds) + np.mean(waits), rel=0.01)
    # With room for two pairs nothing waits.
    roomy = replace(architecture, levels=(Storage("sums"), outer, replace(lines, capacity_words=2.0 * (m + n))))
    assert analyze(problem, roomy, nest).total(Total.WAIT_CYCLES) == 0


def test_scnn_like_falls_short_of_the_product_of_densities_by_vectors_that_do_not_fill() -> None:
    """Published (recalled, over whole networks): 24 times faster at a tenth of weights and inputs, not 100 times.

    A group of eight outputs has 8 weights a channel in layers of 1 x 1, and 72 in those of 3 x 3; 16 inputs meet them.
    Dense or sparse, 28 x 28 positions are 49 elements with 16 each: the other 15 elements have nothing to do, and no
    nonzeros are theirs. So vectors of four alone decide: n values at a tenth take E⌈nonzeros/4⌉ steps instead of n/4.
    """

    def share(n: int) -> float:
        """Steps of n values at a tenth over those if dense, nonzeros at random places."""
        odds = [math.comb(n, x) * 0.1**x * 0.9 ** (n - x) for x in range(n + 1)]
        return sum(odd * math.ceil(x / 4) for x, odd in enumerate(odds)) / (n / 4)

    gains = []
    for weights in (8, 72):
        scnn = machine("scnn-like", {**UNLIMITED, "levels.vectors.capacity_words": weights + 16})
        cycles = [product(scnn, 144, 784, 256, dtype="fp16")[0]]
        cycles += [product(scnn, 144, 784, 256, f"unstructured:{1 - d}", d, dtype="fp16")[0] for d in (0.5, 0.25, 0.1)]
        assert cycles == sorted(cycles, reverse=True)
        gains.append(cycles[0] / cycles[-1])
    # 144 outputs have 48 weights of a channel at a time. With 8 weights, lanes of three turn out to fill a bit better.
    assert gains[1] == pytest.approx(1 / (share(48) * share(16)), rel=1e-3)
    assert gains[0] == pytest.approx(1 / (share(8) * share(16)), rel=0.03)
    # Layers of both kinds lie on either side of the mean of networks that have both.
    assert gains[0] < 24 < gains[1]


def test_sigma_like_gains_over_a_systolic_array() -> None:
    """Published: 5.7 times a systolic array of as many multipliers, in the mean over sparse irregular products."""
    sigma = machine("sigma-like")
    gains = []
    for shape in ((128, 2048, 4096), (320, 3072, 4096), (1632, 36548, 1024), (2048, 4096, 32), (35, 8457, 2560)):
        systolic, flexible = (
            product(sigma, *shape, "unstructured:0.8", kernel=kernel, dtype="bf16")[0]
            for kernel in ("dense/systolic", "sparse/flexible")
        )
        gains.append(systolic / flexible)
    assert min(gains) > 1
    assert math.exp(np.mean(np.log(gains))) == pytest.approx(5.7, rel=0.1)


def test_designs_that_reproduce_nothing_say_so() -> None:
    assert [name for name in FAMILY.files if design(name).illustrative] == ["extensor-like", "sparse-array"]


@pytest.mark.parametrize("text", ["uop cp:4", "outer-first b:1", "uop:7(C,R) rle:4:2(M)", "none"])
def test_formats_read_as_they_are_written(text: str) -> None:
    assert format_text(parse_format(text)) == text


@pytest.mark.parametrize("text", ["skip C on A B; gate A on B or gate B on A", "pack A; skip-lanes B on A", "none"])
def test_actions_read_as_they_are_written(text: str) -> None:
    assert actions_text(parse_actions(text)) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"levels.SMEM.formats.A": "uop cp"},
            "rank 'cp' in the format of tensor A at level SMEM has no metadata width",
        ),
        (
            {"levels.SMEM.formats.A": "csr"},
            "rank in the format of tensor A at level SMEM is 'csr', expected one of uop",
        ),
        ({"levels.SMEM.capacity_words": 0}, "a capacity above 0 words at level SMEM, which keeps A B"),
        ({"levels.RF.actions": "skip C on D"}, "condition of tensor C at level RF is 'D', expected one of A, B, C"),
        ({"levels.RF.actions": "drop C"}, "one of the actions at level RF is 'drop C', expected 'skip C on A B'"),
        ({"levels.LRF.fanout_x": 0}, "levels.LRF.fanout_x.value is 0"),
        ({"levels.SMEN.capacity_words": 1}, "no field of machine 'stc' is named 'levels.SMEN.capacity_words'; near"),
        ({"levels.RF.area": 1}, "no field of machine 'stc' is named 'levels.RF.area'; near names: levels.RF.area_um2"),
        ({"levels.RF.formats.D": "b"}, "tensors A, B and C at level RF, not D"),
        ({"levels.SMEM.energy_pj.gated_red": 1}, "energies that level SMEM is charged, but no action of a storage"),
        ({"modes.dense.a": "most"}, "pattern is 'most'"),
        ({"dataflows.native.loops.RF": "Q"}, "roles M, N, K in dataflow native at level RF, not Q"),
    ],
)
def test_bad_figures_are_refused_in_one_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SimsparseError) as caught:
        load_machine("stc", changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 330


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('keep = ["C"]', "keep = []", "level RF to keep a tensor, or a capacity of 0 words for a mere fan-out"),
        ('keep = ["C"]', 'keep = ["D"]', "tensors A, B and C at level RF, not D"),
        ("capacity_words = 2048", "capacity_words = 2048\ncapacity = 1", "unknown key 'levels.RF.capacity'"),
        ("write = 1.67589, read = 1.65889, ", "", "energies of read and write at level RF"),
        ("fanout_y = 4", 'fanout_y = { value = 4, source = "" }', "levels.RF.fanout_y.source is ''"),
    ],
)
def test_bad_design_files_are_refused_in_one_sentence(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = FAMILY.files["stc"].read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_machine(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 330
