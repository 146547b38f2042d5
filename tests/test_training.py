"""A training step: its arithmetic, its gradients and its memory, checked against a pass by hand."""

from __future__ import annotations

import pytest
from workload_tools import product

from simsparse.errors import InputError
from simsparse.ops import ContractionKind, Role, Stream, StreamKind
from simsparse.plan import ProblemColumn, TrainStage
from simsparse.sites import Fusions, cover
from simsparse.workload import Phase
from workloads.huggingface import shipped, transformer
from workloads.training import Optimizer, training_step


@pytest.mark.parametrize("name", sorted(shipped()))
def test_backward_costs_twice_the_forward_pass(name: str) -> None:
    forward, step = (transformer(name, phase=phase, batch=2, seq=8) for phase in (None, "train"))
    made = {t.name for op in forward.ops for t in op.outputs}
    # The data needs no gradient: layers that read it have a weight gradient only.
    first = sum(op.flops * op.count for op in forward.contractions() if op.b.name not in made)
    assert step.flops == 3 * forward.flops - first
    assert step.phase is Phase.TRAIN
    assert step.parameters == forward.parameters


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_gradient_is_made_before_it_is_read_and_every_weight_updated(name: str) -> None:
    step = transformer(name, phase="train", batch=2, seq=8)
    made: set[str] = set()
    for op in step.ops:
        for tensor in op.inputs:
            assert tensor.role is not Role.GRADIENT or tensor.name in made, (op.name, tensor.name)
        for tensor in op.outputs:
            assert tensor.name not in {t.name for t in op.inputs} or isinstance(op, Stream)
        made.update(t.name for t in op.outputs)
    updated = [op for op in step.ops if isinstance(op, Stream) and op.kind is StreamKind.OPTIMIZER]
    assert [(op.name, op.layers) for op in updated] == [(f"{w.tensor.name}.update", w.layers) for w in step.weights]


def test_gradient_products_of_a_layer() -> None:
    step = transformer("llama-2-7b", phase="train", batch=2, seq=64)
    gates = [product(step, f"layers.*.mlp.gate_proj.{x}") for x in ("grad_input", "grad_weight")]
    assert [(op.gemm.m, op.gemm.n, op.gemm.k) for op in gates] == [(4096, 128, 11008), (11008, 4096, 128)]
    to_input, to_weight = gates
    assert to_input.a.transposed
    assert to_input.a.name == "layers.*.mlp.gate_proj.weight"
    assert to_input.a.shape == (4096, 11008)
    assert to_weight.a.role is Role.GRADIENT
    assert to_weight.out.name == "layers.*.mlp.gate_proj.weight.grad"


def test_a_pattern_on_the_weight_is_transposed_where_the_weight_is() -> None:
    forward = transformer("llama-2-7b", seq=64).with_sparsity({"*.mlp.up_proj": "block8x2:0.5"})
    step = training_step(forward)
    assert product(step, "layers.*.mlp.up_proj").a.pattern.text == "block8x2:0.5"
    assert product(step, "layers.*.mlp.up_proj.grad_input").a.pattern.text == "block2x8:0.5"
    assert product(step, "layers.*.mlp.up_proj.grad_weight").a.pattern.text == "dense"
    later = transformer("llama-2-7b", phase="train", seq=64).with_sparsity({"*.mlp.up_proj": "2:4"})
    assert product(later, "layers.*.mlp.up_proj").a.pattern.text == "2:4"


def test_gradients_of_attention_sum_over_what_is_shared() -> None:
    step = transformer("llama-3-8b", phase="train", batch=2, seq=32)
    score, value = "layers.*.self_attn.score", "layers.*.self_attn.context"
    views = {
        f"{score}.grad_input": (2 * 8, 128, 4 * 32, 32),
        f"{score}.grad_weight": (2 * 8, 128, 32, 4 * 32),
        f"{value}.grad_input": (2 * 8, 32, 4 * 32, 128),
        f"{value}.grad_weight": (2 * 8, 128, 32, 4 * 32),
    }
    for name, view in views.items():
        op = product(step, name)
        assert (op.gemm.batch, op.gemm.m, op.gemm.n, op.gemm.k) == view
        scores = op.out if op.kind is ContractionKind.SCORE else op.b
        assert scores.role is Role.SCORE
        assert op.needed == product(step, score).needed


def test_weight_gradients_of_experts_reduce_over_their_own_tokens() -> None:
    step = transformer("mixtral-8x7b", phase="train", seq=100)
    op = product(step, "layers.*.mlp.experts.up_proj.grad_weight")
    assert op.groups == (pytest.approx(8.0), 8)
    assert (op.gemm.batch, op.gemm.m, op.gemm.n, op.gemm.k) == (8, 14336, 4096, 25)


def test_optimizer_state_and_kept_activations() -> None:
    forward = transformer("opt-125m", seq=16)
    parameters = forward.parameters
    for optimizer, bytes_each in ((Optimizer.ADAM, 14), (Optimizer.MOMENTUM, 10), ("sgd", 6)):
        assert training_step(forward, optimizer).optimizer_bytes == bytes_each * parameters
    full = transformer("opt-125m", seq=16, dtype="fp32")
    assert training_step(full).optimizer_bytes == 12 * parameters
    short, long = (training_step(transformer("opt-125m", batch=b, seq=16)).activation_bytes for b in (1, 2))
    assert long == pytest.approx(2 * short, rel=1e-3)
    # A layer keeps its input, both norms' results, q, k, v, what attention mixed, the middle sum (8 tensors), and four
    # times as wide what goes into the activation and comes out; the last norm and the head keep their inputs. The most
    # the backward pass adds at a time is the logits and their gradient.
    row = 2 * 16 * 768
    assert short == 12 * (8 + 2 * 4) * row + 2 * row + 2 * (2 * 16 * 50272)


def test_machines_can_tell_the_stages_of_a_step_from_inference() -> None:
    forward = transformer("opt-125m", seq=16)
    step = training_step(forward)
    found = {
        site.ops[0].name: TrainStage(int(site.problem[ProblemColumn.TRAIN_STAGE]))
        for ways in cover(step, Fusions())
        for site in ways[0]
    }
    assert all(found[op.name] is TrainStage.FORWARD for op in forward.ops)
    assert found["lm_head.loss"] is TrainStage.FORWARD
    up = "layers.*.mlp.fc1"
    assert found[f"{up}.grad_input"] is TrainStage.INPUT_GRADIENT
    assert found[f"{up}.grad_weight"] is TrainStage.WEIGHT_GRADIENT
    assert found[f"{up}.weight.update"] is TrainStage.UPDATE
    streams = {op.name for op in step.ops if op.name.endswith((".grad", ".accumulate"))}
    assert streams
    assert all(found[name] is TrainStage.INPUT_GRADIENT for name in streams)
    inference = [site.problem for ways in cover(forward, Fusions()) for site in ways[0]]
    assert all(row[ProblemColumn.TRAIN_STAGE] == TrainStage.NONE for row in inference)


def test_only_a_forward_pass_can_be_trained() -> None:
    with pytest.raises(InputError, match="phase of the forward pass is 'decode'"):
        training_step(transformer("opt-125m", phase="decode"))
    with pytest.raises(InputError, match="phase of the forward pass is 'train'"):
        training_step(transformer("opt-125m", phase="train", seq=4))


def test_logits_have_a_loss() -> None:
    losses = [op for op in transformer("opt-125m", phase="train", seq=16).ops if op.name.endswith(".loss")]
    assert [op.name for op in losses] == ["lm_head.loss"]
    assert losses[0].outputs[0].name == "lm_head.out.grad"
