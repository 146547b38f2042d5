"""Described architectures as machines: published figures, published trends, physics, cache, import, bad input."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from accel_models.asic import FAMILY
from accel_models.asic.machine import AsicMachine
from simsparse.cli import app, main
from simsparse.dataflow._arrays import LoopKind, Total
from simsparse.dataflow.analysis import Analysis, analyze
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
from simsparse.dataflow.design import DesignSpec
from simsparse.dataflow.mapping import LevelMapping, Loop, Mapping
from simsparse.dataflow.notation import actions_text, format_text, parse_actions, parse_format
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.reference import Case, read_cases
from simsparse.dataflow.roles import bound, roles_of
from simsparse.dataflow.store import content_key, remembered
from simsparse.dataflow.timeloop import read_timeloop
from simsparse.errors import InputError, SimsparseError
from simsparse.plan import ProblemColumn as C
from simsparse.plan import ProblemKind
from simsparse.problems import gemm_problems
from simsparse.registry import load_machine, load_workload
from simsparse.simulate import compare, estimate_gemm, simulate
from simsparse.transforms import apply_method

NAMES = {"Z": "C", "Weights": "A", "Inputs": "B", "Outputs": "C"}
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
UNLIMITED = {f"levels.DRAM.{way}_words_per_cycle": 1e12 for way in ("read", "write")}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mappings of one run of the tests are kept for that run."""
    base = tmp_path_factory.getbasetemp() / "cache"
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(base))


def design(name: str, **changes: object) -> DesignSpec:
    found = FAMILY.spec(FAMILY.files[name])
    assert isinstance(found, DesignSpec)
    changed = found.with_figures(changes) if changes else found
    assert isinstance(changed, DesignSpec)
    return changed


def machine(name: str, changes: dict[str, object] | None = None) -> AsicMachine:
    found = load_machine(name, changes)
    assert isinstance(found, AsicMachine)
    return found


def product(
    on: AsicMachine, m: int, n: int, k: int, pattern: str = "dense", b_density: float = 1.0, *, kernel: str = "best",
    dtype: str = "int8",
) -> tuple[float, float]:  # fmt: skip
    """Cycles and energy of a product."""
    row = gemm_problems(m, n, k, pattern=pattern, a_dtype=dtype)
    row[:, C.B_DENSITY] = b_density
    prices = on.price(on.lower_problems(row, kernel=kernel))
    return float(prices.latency_s[0] * on.spec.clock_hz.value), float(prices.energy_j[0])


def by_design(case: Case, spec: DesignSpec, *, sparse: bool = True, rounding: str = "sparseloop") -> Analysis:
    """A run of the artifact on the architecture of a design file."""
    tensors = tuple(replace(tensor, name=NAMES.get(tensor.name, tensor.name)) for tensor in case.problem.tensors)
    problem = replace(case.problem, tensors=tensors, output="C")
    parts = (
        replace(
            part, level=level, keep=tuple(NAMES.get(t, t) for t in part.keep),
            streamed=tuple(NAMES.get(t, t) for t in part.streamed),
        )
        for part, level in zip(case.mapping.levels, spec.levels, strict=True)
    )  # fmt: skip
    architecture = bound(spec.architecture(sparse=sparse), roles_of(problem))
    return analyze(problem, architecture, Mapping(tuple(parts)), rounding)


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


@pytest.mark.parametrize("name", sorted(FAMILY.files))
def test_physics(name: str) -> None:
    """Terms give the latency, parts the energy; no roofline is beaten; more zeros never cost more arithmetic."""
    on = machine(name)
    row = np.concatenate([gemm_problems(96, 64, 96, pattern=text, a_dtype="int8") for text in ("dense", "1:4", "2:8")])
    plan = on.lower_problems(row)
    prices = on.price(plan)
    assert prices.latency_s == pytest.approx(prices.terms_s[:, :-1].max(axis=1) + prices.terms_s[:, -1])
    assert prices.energy_j == pytest.approx(prices.energy_terms_j.sum(axis=1))
    assert bool(np.all(prices.latency_s >= prices.roofline_s * (1 - 1e-9)))
    assert bool(np.all(prices.terms_s[1:, 0] <= prices.terms_s[0, 0] * (1 + 1e-9)))
    distinct = np.array([96 * 64 + 64 * 96 + 96 * 96]) * on.spec.levels["DRAM"].word_bits.value / 8
    assert prices.level_bytes[0, 0] >= distinct[0] * (1 - 1e-9)


def test_2_to_4_halves_and_what_implies_it_runs_as_it() -> None:
    stc = machine("stc")
    dense = product(stc, 512, 256, 1024)
    half = product(stc, 512, 256, 1024, "2:4")
    assert dense[0] == 512 * 256 * 1024 / 1024
    assert half[0] == dense[0] / 2
    assert product(stc, 512, 256, 1024, "1:4") == half
    # 4:8 does not hold 2:4, neither do random zeros: they are multiplied.
    assert product(stc, 512, 256, 1024, "4:8") == dense == product(stc, 512, 256, 1024, "unstructured:0.9")
    with pytest.raises(SimsparseError, match=r"does not hold 2:4 along the reduction"):
        product(stc, 512, 256, 1024, "4:8", kernel="2:4")
    # The flexible one goes further, until shared memory is the limit (as in Sparseloop's figure 15).
    flexible = machine("stc-flexible")
    assert product(flexible, 512, 256, 1024, "2:8")[0] < half[0]
    assert estimate_gemm(flexible, 512, 256, 1024, pattern="2:8", dtype="int8").bound[0] == "smem"


def test_any_shape_maps() -> None:
    stc = machine("stc")
    for m, n, k in ((1, 1, 1), (17, 3, 29), (64, 1, 11008), (1000, 127, 33)):
        cycles, energy = product(stc, m, n, k, "2:4")
        assert m * n * k / 2 / 1024 <= cycles < math.inf
        assert energy > 0


def test_wider_values_take_the_words_they_need() -> None:
    """16-bit values on 8-bit multipliers: four multiplications, two words."""
    stc = machine("stc", dict(UNLIMITED))
    assert product(stc, 512, 256, 1024, dtype="fp16")[0] == pytest.approx(4 * product(stc, 512, 256, 1024)[0])


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


def test_dual_sides() -> None:
    """Both operands pay, as the product of their densities but for what does not fill the lanes."""
    dstc = machine("dstc-paper")
    dense = product(dstc, 512, 512, 512)[0]
    half, both = (
        product(dstc, 512, 512, 512, "unstructured:0.5")[0],
        product(dstc, 512, 512, 512, "unstructured:0.5", 0.5)[0],
    )
    assert dense / 2.2 <= half < dense
    assert dense / 4.4 <= both < half


def test_scnn_like_falls_short_of_the_product_of_densities_by_vectors_that_do_not_fill() -> None:
    """Published (recalled, over whole networks): 24 times faster at a tenth of weights and inputs, not 100 times.

    A group of eight outputs has 8 weights a channel in layers of 1 x 1, and 72 in those of 3 x 3; 16 inputs meet them.
    """
    gains = []
    for weights in (8, 72):
        scnn = machine("scnn-like", {**UNLIMITED, "levels.vectors.capacity_words": weights + 16})
        cycles = [product(scnn, 144, 784, 256, dtype="fp16")[0]]
        cycles += [product(scnn, 144, 784, 256, f"unstructured:{1 - d}", d, dtype="fp16")[0] for d in (0.5, 0.25, 0.1)]
        assert cycles == sorted(cycles, reverse=True)
        gains.append(cycles[0] / cycles[-1])
    # Layers of both kinds lie on either side of the mean of networks that have both.
    assert 18 < gains[0] < 24 < gains[1] < 50


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


def test_eyeriss_compresses_inputs_and_gates_their_zeros() -> None:
    eyeriss = machine("eyeriss")
    rows = gemm_problems([96, 96], 256, 363, a_dtype="fp16")
    rows[1, C.B_DENSITY] = 0.4
    prices = eyeriss.price(eyeriss.lower_problems(rows))
    assert prices.energy_j[1] < 0.8 * prices.energy_j[0]
    assert prices.level_bytes[1, 0] < prices.level_bytes[0, 0]


def test_patterns_of_neurons_are_zeros_of_inputs() -> None:
    row = gemm_problems(96, 64, 256, pattern="act:0.6", a_dtype="fp16")
    plain = gemm_problems(96, 64, 256, a_dtype="fp16")
    plain[:, C.B_DENSITY] = 0.4
    eyeriss = machine("eyeriss")
    ours, same = (eyeriss.price(eyeriss.lower_problems(rows)) for rows in (row, plain))
    assert ours.energy_j == pytest.approx(same.energy_j)
    assert ours.energy_j[0] < product(eyeriss, 96, 64, 256, dtype="fp16")[1]


def test_a_network_with_convolutions_runs_beside_a_gpu() -> None:
    workload = load_workload("resnet-9", dtype="int8")
    stc, gpu = compare(workload, ["stc", "a100-sxm-80gb"], ["2:4"])
    assert stc.speedup > 1.2
    assert stc.latency_s > gpu.latency_s
    kinds = set(stc.plan.problem[:, C.KIND])
    assert kinds == {ProblemKind.GEMM, ProblemKind.STREAM}
    streams = stc.plan.problem[:, C.KIND] == ProblemKind.STREAM
    moved = stc.prices.level_bytes[streams, 0]
    assert moved == pytest.approx(stc.plan.problem[streams][:, [C.READ_BYTES, C.WRITE_BYTES]].sum(axis=1))


def test_rows_say_what_else_was_tried() -> None:
    result = simulate("llama-2-7b", "stc", seq=16, dtype="int8", sparsity={"*": "2:4"})
    call = next(call for call in result.plan.calls if call.ops == ("layers.*.mlp.up_proj",))
    assert call.kernel == "2:4"
    assert [(other.kernel, other.reason) for other in call.alternatives] == [("dense", "slower")]
    split = apply_method(load_workload("llama-2-7b", seq=16), "tp:2")
    with pytest.raises(SimsparseError, match="no links to other chips"):
        simulate(split, "stc")


def test_every_field_can_be_swept() -> None:
    """Array, buffer, bandwidth, format and actions; area goes with them where the file has it."""
    base = machine("stc")
    half, wide = machine("stc", {"levels.SMEM.capacity_words": 131072}), machine("stc", {"levels.LRF.fanout_x": 32})
    assert base.area_mm2 is not None
    assert half.area_mm2 is not None
    assert wide.area_mm2 is not None
    assert base.area_mm2 - half.area_mm2 == pytest.approx(2604256e-6 / 2)
    assert wide.area_mm2 - base.area_mm2 == pytest.approx(1024 * (95.68 + 332.25) * 1e-6)
    dense = product(base, 512, 256, 1024)
    slow = machine("stc", {"levels.DRAM.read_words_per_cycle": 1.0})
    assert product(slow, 512, 256, 1024)[0] > 2 * dense[0]
    runs = machine("stc", {"levels.SMEM.formats.A": "uop uop uop uop cp:8"})
    assert product(runs, 512, 256, 1024, "2:4")[1] > product(base, 512, 256, 1024, "2:4")[1]
    still = machine("stc", {"levels.RF.actions": "none"})
    assert product(still, 512, 256, 1024, "2:4")[0] == dense[0]
    assert product(half, 4096, 64, 4096)[1] != product(base, 4096, 64, 4096)[1]


def test_dram_traffic_responds_to_the_size_of_the_buffer() -> None:
    def traffic(words: int) -> float:
        on = machine("stc", {"levels.SMEM.capacity_words": words})
        prices = on.price(on.lower_problems(gemm_problems(1024, 1024, 1024, a_dtype="int8")))
        return float(prices.level_bytes[0, 0])

    small, middle, large = (traffic(2**k) for k in (16, 20, 22))
    assert small > middle > large >= 3 * 1024**2


def test_mappings_are_kept_by_content_and_a_broken_one_is_made_again(tmp_path: Path) -> None:
    made = []

    def compute() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        made.append(1)
        return np.array([1.5, 0.1])

    key = content_key(design("stc").architecture(), {"b": 1, "a": 2.0}, (1, None))
    assert key == content_key(design("stc").architecture(), {"a": 2.0, "b": 1}, [1, None])
    assert key != content_key(design("stc").architecture(sparse=False), {"b": 1, "a": 2.0}, (1, None))
    for _ in range(2):
        assert remembered(key, 2, compute, tmp_path).tolist() == [1.5, 0.1]
    assert len(made) == 1
    (path,) = tmp_path.rglob("*.json")
    good = path.read_text()
    for broken in ("", "[]", good[:-9], good.replace("0x1.8", "0x1.9"), '{"values": 3, "check": ""}'):
        path.write_text(broken)
        assert remembered(key, 2, compute, tmp_path).tolist() == [1.5, 0.1]
        assert path.read_text() == good
    assert len(made) == 6


@pytest.mark.parametrize("text", ["uop cp:4", "outer-first b:1", "uop:7(C,R) rle:4:2(M)", "none"])
def test_formats_read_as_they_are_written(text: str) -> None:
    assert format_text(parse_format(text)) == text


@pytest.mark.parametrize("text", ["skip C on A B; gate A on B or gate B on A", "pack A; skip-lanes B on A", "none"])
def test_actions_read_as_they_are_written(text: str) -> None:
    assert actions_text(parse_actions(text)) == text


def test_an_edited_energy_table_is_never_ignored() -> None:
    """Also an action that the file has no energy of, and a format where there was none."""
    priced = {
        field: product(machine("stc", {field: value} if field else None), 512, 256, 1024, "2:4")
        for field, value in (
            ("", 0), ("levels.SMEM.energy_pj.read", 600), ("compute.energy_pj.mac_random", 5.0),
            ("levels.RF.formats.C", "b"), ("levels.DRAM.energy_pj.metadata_read", 512),
        )
    }  # fmt: skip
    base = priced.pop("")
    for field, (latency_s, energy_j) in priced.items():
        assert latency_s == base[0]
        assert field == "levels.RF.formats.C" or energy_j > base[1], field


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


def test_a_search_that_finds_nothing_says_which_level_lacks_what() -> None:
    with pytest.raises(SimsparseError, match=r"level SMEM would hold [\d,]+ words of 1, [\d,]+ too many, most of them"):
        product(machine("stc", {"levels.SMEM.capacity_words": 1}), 64, 64, 64)


@pytest.fixture
def specification(root: Path) -> list[Path]:
    return sorted((root / "tests" / "data" / "timeloop").glob("*.yaml"))


def test_imported_specification_gives_the_published_run(specification: list[Path], evidence: Path) -> None:
    """Hand-written in the schema of Timeloop 4, the first figure of Sparseloop comes out as published."""
    printed = CliRunner().invoke(
        app, ["dataflow", "import", *map(str, specification), "--format", "json"], catch_exceptions=False
    )
    (case,) = json.loads(printed.stdout)["cases"]
    rows = csv.DictReader((evidence / "sparseloop" / "fig1_formats_summary.csv").read_text().splitlines())
    published = next(row for row in rows if (row["density_label"], row["format"]) == ("0.8", "bitmask"))
    assert case["cycles"] == float(published["cycles"])
    assert case["energy_j"] * 1e6 == pytest.approx(float(published["energy_uJ"]), abs=0.0051)


def test_imported_specification_becomes_a_machine(specification: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "one-mac.toml"
    assert main(["dataflow", "import", *map(str, specification), "-o", str(path)]) == 0
    on = machine(str(path))
    imported = read_timeloop(specification)
    assert on.spec.architecture().levels[1].capacity_words == 512
    assert imported.architecture is not None
    for ours, theirs in zip(on.spec.architecture().levels, imported.architecture.levels, strict=True):
        assert ours.energies.charges() == pytest.approx(theirs.energies.charges())
        assert [rank.format for layout in ours.formats.values() for rank in layout.ranks] == [
            rank.format for layout in theirs.formats.values() for rank in layout.ranks
        ]
    dense, sparse = product(on, 64, 64, 64), product(on, 64, 64, 64, "unstructured:0.9", 0.1)
    assert sparse[0] == pytest.approx(dense[0], rel=0.01)
    assert sparse[1] < dense[1]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("problem", "version: 0.4", "version: 0.3", "version of problem in problem.yaml is 0.3, expected 0.4"),
        ("problem", "fixed-structured", "banded", "distribution of A is 'banded', expected fixed-structured"),
        ("mapping", "M=128", '"M=120,8"', "factors of dimension M multiply to 120, expected its bound 128 or more"),
        ("mapping", "M=128", "M=64", "factors of dimension M multiply to 64, expected"),
        ("mapping", "target: Reg", "target: Rag", "no target of the mapping is named 'Rag'; near names: Reg"),
        (
            "architecture",
            "- !Container",
            "- !Parallel",
            "node of architecture.yaml is '!Parallel', expected !Component",
        ),
        (
            "architecture",
            "depth: 512,",
            "depth: 512, multiple_buffering: 2,",
            "multiple_buffering of Buffer is not cov",
        ),
        ("architecture", "format: B,", "format: CP,", None),
        ("architecture", "{format: B}", "{format: RLE}", "rank RLE of A at level BackingStorage has no metadata width"),
        ("architecture", "target: Z", "target: Y", "target at level Reg is 'Y', expected one of A, B, Z"),
        ("ert", "system.Buffer", "system.Bufer", "no component of the ERT is named 'Bufer'; near names: Buffer"),
        ("mapping", "mapping:", "mapping: {{x}}", "has Jinja templates, expected plain YAML"),
    ],
)
def test_what_an_import_does_not_cover_is_said_in_one_sentence(
    file: str, old: str, new: str, message: str | None, specification: list[Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for path in specification:
        text = path.read_text()
        if path.stem == file:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / path.name).write_text(text)
    status = main(["dataflow", "import", *(str(tmp_path / path.name) for path in specification)])
    printed = capsys.readouterr().err
    if message is None:
        assert status == 0
        return
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1
