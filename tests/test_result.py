"""A result's parts add up, say what they say in every form, and differ where they differ."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import toy_machine
import toy_model
from rich.console import Console

import simsparse
import simsparse.transforms
from simsparse.compared import Comparison, reason
from simsparse.diff import diff, read_result
from simsparse.fallback import unused_patterns
from simsparse.inventory import layer_ranges
from simsparse.result import Result

pytestmark = pytest.mark.usefixtures("toy")
SEQ = 512
# One product of the toy model: 2·M·N·K.
FLOPS = 2 * toy_model.HIDDEN * SEQ * toy_model.WIDTH
DENSE_S = FLOPS / toy_machine.FLOPS_PER_S
NORM_S = 2 * 2 * SEQ * toy_model.WIDTH / toy_machine.BYTES_PER_S


def run(pattern: str | None = "2:4", **options: object) -> Result:
    sparsity = {"*.mlp.*": pattern} if pattern else None
    return simsparse.simulate("toy-model", "toy", seq=SEQ, sparsity=sparsity, **options)


def test_figures_are_those_counted_by_hand() -> None:
    result = run()
    # Two layers of a norm and two products, which 2:4 halves.
    assert result.latency_s == pytest.approx(2 * (NORM_S + 2 * DENSE_S / 2), rel=1e-12)
    assert result.dense_latency_s == pytest.approx(2 * (NORM_S + 2 * DENSE_S), rel=1e-12)
    assert result.tokens_per_s == pytest.approx(SEQ / result.latency_s)
    assert result.row_dense_latency_s == pytest.approx([NORM_S, DENSE_S, DENSE_S])
    assert [call.kernel for call in result.plan.calls] == ["dense", "2:4", "2:4"]
    assert result.bound == "compute"
    assert result.prices.flops.tolist()[1:] == [FLOPS, FLOPS]
    # Effective rate over the dense peak: 2:4 counts its zeros; a norm multiplies nothing.
    assert result.peak_fraction[1:] == pytest.approx([2.0, 2.0])
    assert math.isnan(result.peak_fraction[0])


def test_a_dense_run_is_its_own_baseline() -> None:
    result = run(None)
    assert result.baseline.plan is result.plan
    assert result.speedup == result.energy_gain == 1.0


def test_parts_add_up() -> None:
    result = run()
    prices = result.prices
    assert result.bound_seconds.sum() == pytest.approx(result.latency_s, rel=1e-12)
    np.testing.assert_allclose(prices.energy_terms_j.sum(axis=1), prices.energy_j, rtol=1e-12)
    np.testing.assert_array_less(prices.roofline_s, prices.latency_s * (1 + 1e-12))
    frame = result.to_frame()
    assert (frame["latency_s"] * frame["count"]).sum() == pytest.approx(result.latency_s, rel=1e-12)
    assert frame["total_latency_s"].sum() == pytest.approx(result.latency_s, rel=1e-12)


def test_alternatives_say_why_they_lost() -> None:
    taken, refused = run("2:4"), run("4:8")
    (dense,) = taken.plan.calls[1].alternatives
    assert (dense.kernel, dense.latency_s, dense.reason) == ("dense", pytest.approx(DENSE_S), "slower")
    (sparse,) = refused.plan.calls[1].alternatives
    assert (sparse.kernel, sparse.latency_s, sparse.reason) == ("2:4", None, "the pattern is not 2:4")
    # 1:4 and 2:8 imply 2:4, 4:8 does not.
    assert run("1:4").speedup == run("2:8").speedup == taken.speedup
    assert refused.speedup == 1.0


def test_a_pattern_that_gains_nothing_has_its_reason() -> None:
    said = ("4:8 gains nothing on mlp.up_proj and 1 more, which dense runs as dense: 2:4: the pattern is not 2:4",)
    assert unused_patterns(run("4:8")) == said
    assert json.loads(run("4:8").to_json())["unused_patterns"] == list(said)
    assert unused_patterns(run("2:4")) == unused_patterns(run(None)) == ()


def test_the_nearest_kernel_that_uses_a_pattern_is_named() -> None:
    result = simsparse.simulate("llama-2-7b", "a100-sxm-80gb", phase="decode", sparsity={"*.mlp.*": "unstructured:0.1"})
    (said,) = unused_patterns(result)
    # Another dense kernel (cublas-simt) would be nearer.
    assert re.fullmatch(
        r"unstructured:0.1 gains nothing on mlp\.\w+( and \d more)?, .*: [a-z-]+ takes \d\.\d\d× as long", said
    )
    assert "cublas-simt" not in said


def test_json_and_parquet_hold_the_same(tmp_path: Path) -> None:
    result = run()
    saved = json.loads(result.to_json())
    for key in ("latency_s", "dense_latency_s", "speedup", "energy_j", "dense_energy_j", "bound"):
        assert saved[key] == getattr(result, key)
    assert saved["schema_version"] == 1
    assert saved["calls"][0]["peak_fraction"] is None
    result.to_parquet(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    note = json.loads(table.schema.metadata[b"simsparse"])
    assert note["speedup"] == result.speedup
    pd.testing.assert_frame_equal(table.to_pandas(), result.to_frame())
    with pytest.raises(simsparse.InputError, match=r"output is '.*', expected a path that can be written"):
        result.to_parquet(tmp_path / "none" / "rows.parquet")


def test_capacity_warns_and_names_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = run()
    assert fits.footprint.fits
    assert fits.warnings == ()
    monkeypatch.setattr(toy_machine.Toy, "memory_bytes", 64e6)
    weights, activation = 16777216 * 2, SEQ * toy_model.HIDDEN * 2
    most = int((64e6 - weights) // activation)
    tight = run(None, batch=most)
    assert tight.footprint.fits
    assert tight.footprint.largest_batch == most
    over = run(None, batch=most + 1)
    assert not over.footprint.fits
    assert f"the largest batch that fits is {most}" in over.warnings[0]


def test_a_baseline_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_machine.Toy, "memory_bytes", 25e6)
    (warning,) = run("2:4").warnings
    assert warning.startswith("the baseline needs 0.0377 GB, toy has 0.025 GB: it could not run")


def test_rich_and_html_take_names_literally() -> None:
    result = run()
    hostile = replace(result, machine="[red]<b>&")
    stream = io.StringIO()
    Console(width=100, file=stream).print(hostile)
    text = stream.getvalue()
    assert "[red]<b>&" in text
    assert "1.95× over dense" in text
    assert "[red]&lt;b&gt;&amp;" in hostile._repr_html_()


def test_one_product_equals_its_row_in_a_table() -> None:
    extents = np.random.default_rng(0).integers(1, 5000, (50, 3)).T
    table = simsparse.estimate_gemm("toy", *extents, pattern="2:4")
    for row, (m, n, k) in enumerate(extents.T):
        single = simsparse.estimate_gemm("toy", m, n, k, pattern="2:4")
        for figure in ("latency_s", "energy_j", "dense_latency_s", "dense_energy_j"):
            assert getattr(single, figure)[0] == getattr(table, figure)[row]


def test_a_sparse_b_is_the_transposed_product() -> None:
    by_b = simsparse.estimate_gemm("toy", 300, 700, 512, pattern="2:4", sparse_operand="B")
    by_a = simsparse.estimate_gemm("toy", 700, 300, 512, pattern="2:4")
    assert by_b.latency_s == by_a.latency_s


def test_compare_says_why() -> None:
    patterns = ["dense", "2:4", "4:8"]
    results = simsparse.compare("toy-model", ["toy"], patterns, seq=SEQ)
    grid = Comparison.of(results, patterns)
    assert [row["speedup"] for row in grid.rows()] == [1.0, results[1].speedup, 1.0]
    assert reason(results[0]) == "compute-bound"
    assert reason(results[1]) == "2:4, compute-bound, 95% of the time"
    assert reason(results[2]).endswith("; 2:4: the pattern is not 2:4")
    with pytest.raises(simsparse.InputError, match="results is 3, expected a positive multiple of the 2 patterns"):
        Comparison.of(results, patterns[:2])


def test_diff_finds_what_changed(tmp_path: Path) -> None:
    before, after = run(None), run("2:4")
    assert diff(before, before).same
    path = tmp_path / "before.json"
    path.write_text(before.to_json())
    assert diff(read_result(path), before).same
    found = diff(read_result(path), after)
    totals = {change.field: change for change in found.totals}
    assert set(totals) == {"latency_s", "speedup", "energy_j", "tokens_per_s", "tokens_per_j"}
    assert totals["latency_s"].ratio == pytest.approx(1 / after.speedup)
    kernels = [(c.where, c.before, c.after) for c in found.calls if c.field == "kernel"]
    assert kernels == [(f"layers.*.mlp.{name}_proj", "dense", "2:4") for name in ("up", "down")]
    fewer = json.loads(after.to_json())
    gone = fewer["calls"].pop()
    (missing,) = diff(after, fewer).calls
    assert (missing.where, missing.field, missing.before, missing.after) == (gone["ops"], "call", "2:4", None)


def test_layers_that_differ_are_named() -> None:
    def of_layer(pattern: str) -> Result:
        return simsparse.simulate("toy-model", "toy", seq=SEQ, sparsity={"layers.1.mlp.up_proj": pattern})

    one, other = of_layer("2:4"), of_layer("1:4")
    saved = json.loads(one.to_json())
    ups = [call for call in saved["calls"] if call["ops"] == "layers.*.mlp.up_proj"]
    assert [(call["layers"], call["kernel"]) for call in ups] == [([0], "dense"), ([1], "2:4")]
    assert saved["calls"][0]["layers"] == [0, 1]
    stream = io.StringIO()
    Console(width=100, file=stream).print(one)
    rows = [line.split()[0] for line in stream.getvalue().splitlines() if "up_proj" in line]
    assert rows[-2:] == ["layers.0.mlp.up_proj", "layers.1.mlp.up_proj"]
    changes = diff(one, other).calls
    assert {change.where for change in changes} == {"layers.*.mlp.up_proj (layers 1)"}
    # The order of the calls does not matter.
    turned = json.loads(other.to_json())
    turned["calls"].reverse()
    assert {(c.where, c.field) for c in diff(saved, turned).calls} == {(c.where, c.field) for c in changes}
    assert layer_ranges([5, 0, 1, 2]) == "0-2,5"


def test_causal_attention_is_held_against_what_it_needs() -> None:
    result = simsparse.simulate("llama-2-7b", "a100-sxm-80gb", phase="prefill")
    assert np.nanmax(result.peak_fraction) < 1
    (row,) = (i for i, call in enumerate(result.plan.calls) if call.kernel == "flash-attention")
    assert result.needed_flops[row] == pytest.approx(result.prices.flops[row] * 2049 / 4096)


def test_energy_of_several_devices_says_whose_it_is() -> None:
    work = simsparse.transforms.apply_method(simsparse.load_workload("llama-3.2-1b"), "tp:2")
    result = simsparse.simulate(work, "a100-sxm-80gb")
    saved = json.loads(result.to_json())
    assert saved["devices"] == 2
    assert saved["all_devices_energy_j"] == pytest.approx(2 * saved["energy_j"])
    assert saved["tokens_per_j"] == pytest.approx(2048 / saved["all_devices_energy_j"])
    stream = io.StringIO()
    Console(width=120, file=stream).print(result)
    assert " J on each of 2 devices, dense" in stream.getvalue()
    assert "tokens/J of all together" in stream.getvalue()


def test_only_figures_that_were_used_are_listed_as_unverified() -> None:
    listed = simsparse.simulate("llama-3.2-1b", "a100-sxm-80gb", phase="decode").provenance.unverified
    assert "a100-sxm-80gb: dram_kind" in listed
    assert [name for name in listed if "int4" in name or "bf16" in name or "GDDR7" in name or "cpu" in name] == []
    integers = simsparse.simulate("llama-3.2-1b", "a100-sxm-80gb", phase="decode", dtype="int8").provenance.unverified
    assert any("multiply_pj.int8" in name for name in integers)
