"""Patterns by globs: which weights and scores take them, layer by layer."""

from __future__ import annotations

import pytest

from simsparse.errors import UnknownNameError
from simsparse.transforms import (
    put_patterns,
    with_sparsity,
)
from simsparse.workload import Workload
from workloads.huggingface import transformer


def patterns_of(workload: Workload, name: str) -> dict[str, tuple[int, ...]]:
    """Layers by pattern of the weights of an op."""
    return {op.a.pattern.text: op.layers for op in workload.contractions() if op.name == name}


def test_later_globs_win_and_layers_split(llama: Workload) -> None:
    sparse = with_sparsity(llama, {"*.mlp.*": "2:4", "layers.0.*": "unstructured:0.9", "*.down_proj": "dense"})
    assert patterns_of(sparse, "layers.*.mlp.up_proj") == {
        "unstructured:0.9": (0,),
        "2:4": tuple(range(1, 32)),
    }
    assert patterns_of(sparse, "layers.*.mlp.down_proj") == {"dense": tuple(range(32))}
    assert patterns_of(sparse, "layers.*.self_attn.q_proj")["unstructured:0.9"] == (0,)
    assert patterns_of(sparse, "lm_head") == {"dense": ()}
    stored = {w.tensor.pattern.text: w.layers for w in sparse.weights if w.tensor.name.endswith("up_proj.weight")}
    assert stored == patterns_of(sparse, "layers.*.mlp.up_proj")
    assert (sparse.parameters, sparse.flops) == (llama.parameters, llama.flops)
    assert sparse.transforms == ("sparsity *.mlp.*=2:4, layers.0.*=unstructured:0.9, *.down_proj=dense",)


@pytest.mark.parametrize(
    "glob", ["layers.?.mlp.up_proj", "layers.[0-9].mlp.up_proj", "layers.[0-9].mlp.up_proj.weight"]
)
def test_globs_match_ops_and_weights_layer_by_layer(llama: Workload, glob: str) -> None:
    assert patterns_of(with_sparsity(llama, {glob: "2:4"}), "layers.*.mlp.up_proj")["2:4"] == tuple(range(10))


def test_epilogues_are_split_with_the_op_they_follow() -> None:
    opt = with_sparsity(transformer("opt-125m", seq=64), {"layers.3.mlp.fc1": "2:4"})
    names = [(op.name, op.layers) for op in opt.ops if op.name.startswith("layers.*.mlp.fc1") and op.layers == (3,)]
    start = next(i for i, op in enumerate(opt.ops) if (op.name, op.layers) == names[0])
    assert [op.name for op in opt.ops[start : start + 3]] == [
        "layers.*.mlp.fc1",
        "layers.*.mlp.fc1.add_bias",
        "layers.*.mlp.act",
    ]
    assert {op.layers for op in opt.ops[start : start + 3]} == {(3,)}


def test_a_glob_that_matches_nothing_names_its_neighbours(llama: Workload) -> None:
    with pytest.raises(UnknownNameError, match=r"no op that takes 2:4 is named '\*\.mpl\.up_proj'; near .*up_proj"):
        with_sparsity(llama, {"*.mpl.up_proj": "2:4"})
    with pytest.raises(UnknownNameError, match=r"no op that takes attn-token:0.5 is named 'lm_head'; .*self_attn"):
        with_sparsity(llama, {"lm_head": "attn-token:0.5"})


def test_attention_patterns_go_on_scores_alone(llama: Workload) -> None:
    sparse = with_sparsity(llama, {"*": "attn-token:0.5"})
    for op in sparse.contractions():
        scores = [t for t in (op.a, op.b, op.out) if t.name.endswith(".scores")]
        assert {t.pattern.text for t in scores} <= {"attn-token:0.5"}
        assert op.a.pattern.text == "dense"
    assert sum(op.out.pattern.text == "attn-token:0.5" for op in sparse.contractions()) == 1


def test_embeddings_take_no_pattern_but_tied_heads_do(llama: Workload) -> None:
    stored = {w.tensor.name: w.tensor.pattern.text for w in with_sparsity(llama, {"*": "2:4"}).weights}
    assert (stored["embed_tokens.weight"], stored["lm_head.weight"], stored["norm.weight"]) == ("dense", "2:4", "dense")
    tied = with_sparsity(transformer("gpt2", seq=8), {"*": "2:4"})
    assert next(w for w in tied.weights if w.tensor.name == "embed_tokens.weight").tensor.pattern.text == "2:4"


def test_transposed_weights_of_training_follow_if_asked() -> None:
    step = transformer("bert-tiny", phase="train", seq=32)
    name = "layers.*.mlp.output.grad_input"
    assert patterns_of(with_sparsity(step, {"*.mlp.*": "2:4"}), name) == {"2:4": (0, 1)}
    assert patterns_of(with_sparsity(step, {"*.mlp.*": "2:4"}, backward=False), name) == {"unstructured:0.5": (0, 1)}


def test_a_function_may_choose(llama: Workload) -> None:
    from simsparse.sparsity import parse

    chosen = put_patterns(llama, lambda tensor, _: parse("2:4") if ".7." in tensor else None, "every seventh")
    assert patterns_of(chosen, "layers.*.mlp.up_proj")["2:4"] == (7,)
    assert chosen.transforms == ("every seventh",)
