"""Frameworks of GPUs: what they issue, who waits for whom, and how rows of measurements name them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accel_models.gpu.fitted import constants
from accel_models.gpu.frameworks import Framework, as_issued, waits
from accel_models.gpu.measurements import READER
from simsparse import load_machine, load_workload, simulate
from simsparse.errors import InputError
from simsparse.measurements import Measurement
from simsparse.ops import Contraction, ContractionKind, StreamKind, Transfer
from simsparse.predictions import model_outcome, workload_of
from simsparse.readings import ModelReading
from simsparse.transforms import apply_method
from simsparse.validate import validate

CARD = "a100-sxm-80gb"
DECODE = {"phase": "decode", "context": 64, "batch": 2}


def run(framework: str, workload: str = "llama-2-7b", **options: object):
    return simulate(workload, load_machine(CARD, {"framework": framework}), **{**DECODE, **options})


def test_a_step_takes_what_the_slower_of_host_and_device_takes() -> None:
    counts = np.array([1.0, 4.0])
    np.testing.assert_array_equal(waits(np.array([3.0, 2.0]), counts, 2.0), [0.0, 0.0])  # the host is done at 10 of 11
    np.testing.assert_allclose(waits(np.array([3.0, 2.0]), counts, 3.0), [0.8, 0.8])  # 15 - 11, over 5 calls


def test_an_eager_decode_of_one_token_waits_for_the_host() -> None:
    result = run("eager")
    calls = sum(call.count for call in result.plan.calls)
    assert result.latency_s == pytest.approx(calls * constants().frameworks.eager_s, rel=1e-9)
    assert result.bound == "launch"
    assert result.latency_s > run("compiled").latency_s > run("graph").latency_s


def test_a_large_eager_step_is_the_sum_of_its_kernels() -> None:
    result = run("eager", "bert-base", phase="encode", batch=64, context=None, seq=384)
    launches = result.prices.terms_s[:, result.prices.term_names.index("launch")]
    np.testing.assert_array_equal(launches, constants().frameworks.gap_s)
    graph = run("graph", "bert-base", phase="encode", batch=64, context=None, seq=384)
    # Scores of 384 x 384 go to memory and back five times, activations oftener.
    assert 1.4 < result.latency_s / graph.latency_s < 2.5


def test_energy_of_waiting_is_idle_energy() -> None:
    spec = load_machine(CARD).spec
    eager, longer = run("eager"), load_machine(CARD, {"framework": "eager"})
    prices = longer.price(longer.paced(eager.plan))
    idle = prices.energy_terms_j[:, prices.energy_names.index("idle")]
    np.testing.assert_allclose(idle, spec.idle_w.value * prices.latency_s)


def test_eager_ops_are_those_of_the_model_code() -> None:
    work = load_workload("llama-3-8b", phase="decode", context=100, batch=3)
    issued = as_issued(work, Framework.EAGER)
    names = [op.name.removeprefix("layers.*.") for op in issued.ops if op.layers]
    assert names.count("input_layernorm") == 1
    assert [name for name in names if name.startswith("input_layernorm.")] == [
        f"input_layernorm.{step}_0" for step in ("to_float", "square", "mean", "scale", "to_half")
    ]
    # The cache is written anew, and repeated for the four query heads that share a key-value head.
    caches = [op for op in issued.ops if "concatenate" in op.name]
    kept = 3 * 8 * 101 * 128 * 2
    assert [op.writes[0].dense_bytes for op in caches] == [kept, kept]
    repeats = [op for op in issued.ops if "keys" in op.name or "values" in op.name]
    assert [op.writes[0].dense_bytes for op in repeats] == [4 * kept, 4 * kept]
    score = next(op for op in issued.contractions() if op.kind is ContractionKind.SCORE)
    assert dict(score.dims)["h"] == 32
    assert score.gemm.n == 1
    assert issued.flops == work.flops


def test_a_layer_norm_is_one_kernel_and_masked_scores_are_computed() -> None:
    issued = as_issued(load_workload("gpt2", phase="prefill", seq=64), Framework.EAGER)
    norms = [op.name for op in issued.ops if getattr(op, "kind", None) is StreamKind.NORM]
    assert not [name for name in norms if "to_float" in name]
    assert all(op.needed == 1.0 for op in issued.ops if isinstance(op, Contraction))


def test_autocast_keeps_norms_and_softmax_wide_and_casts_before_products() -> None:
    work = load_workload("bert-tiny", phase="encode", seq=16)
    issued = as_issued(work, Framework.EAGER, autocast=True)
    casts = [op.name for op in issued.ops if ".to_half" in op.name and op.layers]
    assert [name.removeprefix("layers.*.") for name in casts] == [
        "self_attn.query.to_half", "self_attn.key.to_half", "self_attn.value.to_half", "self_attn.softmax.to_half",
        "mlp.intermediate.to_half",
    ]  # fmt: skip
    bits = {op.name.removeprefix("layers.*."): [t.dtype.bits for t in (*op.reads[:1], *op.writes)] for op in issued.ops
            if not isinstance(op, Contraction)}  # fmt: skip
    assert bits["self_attn.softmax.mask_0"] == [16, 32]
    assert bits["self_attn.softmax"] == [32, 32]
    assert bits["attention_residual"] == [16, 32]
    assert bits["self_attn_norm"] == [32, 32]
    assert bits["mlp.act"] == [16, 16]
    # Compiled code writes both from the norm, and leaves the softmax's steps to one kernel.
    compiled = as_issued(work, Framework.COMPILED, autocast=True)
    (norm,) = (op for op in compiled.ops if op.name == "layers.*.self_attn_norm")
    assert [tensor.dtype.bits for tensor in norm.writes] == [32, 16]
    assert not [op.name for op in compiled.ops if "to_half" in op.name or ".mask" in op.name]


def test_compiled_attention_copies_heads() -> None:
    issued = as_issued(load_workload("bert-tiny", phase="encode", seq=16), Framework.COMPILED)
    copies = [op.name.rpartition(".")[2] for op in issued.ops if getattr(op, "kind", None) is StreamKind.COPY]
    assert copies == ["query", "keys", "values", "heads"]


def test_what_runs_in_graphs_is_left_as_it_is() -> None:
    work = load_workload("bert-tiny", phase="encode", seq=16)
    assert as_issued(work, Framework.GRAPH, autocast=True) is work


def test_training_steps_are_left_as_they_are() -> None:
    work = load_workload("bert-tiny", phase="train", seq=16)
    assert as_issued(work, Framework.EAGER) is work


def test_graphs_are_assumed_and_said() -> None:
    assert f"{CARD}: framework" in load_machine(CARD).provenance.assumed
    assert f"{CARD}: framework" not in load_machine(CARD, {"framework": "eager"}).provenance.assumed
    with pytest.raises(InputError, match=r"framework\.value is 'lazy', expected: input should be 'eager', 'compiled'"):
        load_machine(CARD, {"framework": "lazy"})


def test_bare_products_know_no_framework() -> None:
    from simsparse import estimate_gemm

    times = {estimate_gemm(load_machine(CARD, {"framework": f}), 512, 512, 512).latency_s[0] for f in Framework}
    assert len(times) == 1


ROW = Measurement(
    id="x-1", system="PyTorch dense", device="NVIDIA A100-80GB", metric="latency_ms", value=1.0, phase="decode",
    model="OPT 13B", batch=1, seq="128", pattern="dense", framework="eager", devices=1,
)  # fmt: skip


def read(**changes: object) -> ModelReading:
    reading = READER.reading(replace(ROW, **changes))
    assert isinstance(reading, ModelReading)
    return reading


def test_rows_name_their_framework() -> None:
    assert read().changes == (("framework", "eager"),)
    assert read(framework="engine").changes == (("framework", "graph"),)
    assert read(framework="").changes == ()
    assert read(system="torchao gpt-fast bf16", framework="compiled").changes == (("framework", "graph"),)


def test_sliced_models_are_a_pipeline_over_their_cards() -> None:
    reading = read(system="SliceGPT 25% slicing", pattern="slice:0.25", devices=3)
    assert (reading.pattern, reading.methods, reading.context) == ("dense", ("slice:0.25", "pipeline:3"), 64)
    work = workload_of(reading)
    assert (work.devices, work.stages) == (3, 3)


def test_autocast_is_read_from_the_model() -> None:
    assert ("autocast", True) in read(model="bert-base-cased", phase="encode").changes
    assert not [field for field, _ in read(model="BERT-base", phase="encode").changes if field == "autocast"]


def test_corrections_are_dense_steps_now_and_then() -> None:
    cells = {"model": "Llama-3-8B-Instruct", "pattern": "act:0.5", "seq": ""}
    sparse = read(system="Coarse-grained contextual sparsity", **cells)
    assert (sparse.pattern, sparse.verify) == ("rows:0.5", None)
    corrected = read(system="Sirius correction", **cells)
    assert corrected == replace(sparse, verify=9)
    dense = replace(sparse, pattern="dense", seq=9)
    machine = load_machine(CARD)
    again_s = model_outcome(corrected, machine).latency_s - model_outcome(sparse, machine).latency_s
    assert again_s == pytest.approx(model_outcome(dense, machine).latency_s / 9, rel=1e-12)


def test_a_power_cap_is_read_from_the_system() -> None:
    changes = read(system="vLLM dense bf16 at power cap 300 W", seq="").changes
    assert ("tdp_w", 300.0) in changes


def test_offloaded_matrices_cross_the_link_once_a_step() -> None:
    work = apply_method(load_workload("llama-3-8b", phase="decode", context=10, dtype="bf16"), "offload")
    copies = [op for op in work.ops if isinstance(op, Transfer)]
    matrices = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096) + 128256 * 4096
    assert sum(op.tensor.dense_bytes * op.count for op in copies) == 2 * matrices
    result = simulate(work, CARD)
    link = result.bound_seconds[result.prices.term_names.index("link")]
    assert link / result.latency_s > 0.9
    # Of the weights the card holds the embedding table and the norms.
    assert result.footprint.weights_bytes == 2 * (128256 * 4096 + 65 * 4096)
    with pytest.raises(InputError, match="argument of offload is '3', expected none"):
        apply_method(work, "offload:3")


def test_teal_is_read_by_name(tmp_path: Path) -> None:
    """On a named card; what its paper says of two cards together is no row of one."""
    table = tmp_path / "teal.csv"
    table.write_text(
        "id,system,device,metric,value,model,batch,phase,dtype,pattern_text,framework\n"
        "t,TEAL (Triton sparse GEMV),RTX A6000,speedup_vs_dense,1.53,Llama-3-8B,1,decode,fp16,act:0.4,compiled\n"
    )
    (row,) = validate([table]).rows
    assert row.kernel == "act-gemv"
    # At most what is left of the weights would give.
    assert row.predicted is not None
    assert 1.2 < row.predicted < 1 / 0.6
