"""Traced modules: FLOPs as PyTorch counts them, exact parameters, attention whole, the module untouched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import ContractionKind, GemmView, Stream, StreamKind
from simsparse.sites import Fusions, cover
from simsparse.workload import Workload
from workloads.convnet import SOURCE as CONVNETS
from workloads.huggingface import transformer
from workloads.torch import SOURCE, trace

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional
pytestmark = pytest.mark.torch


def counted(module: Any, *args: Any, **kwargs: Any) -> int:
    """FLOPs by PyTorch's own counter on the meta device, where attention is counted in parts."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.to("meta").eval()(*(arg.to("meta") for arg in args), **kwargs)
    return int(counter.get_total_flops())


def parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Attention(nn.Module):
    """Grouped queries, causal, by the fused call or written out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.fused = nn.Linear(32, 32 + 2 * 16), nn.Linear(32, 32), fused

    def forward(self, x: Any) -> Any:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).split([32, 16, 16], dim=-1)
        q, k, v = (t.view(batch, tokens, -1, 8).transpose(1, 2) for t in (q, k, v))
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
            scores = q @ k.transpose(-1, -2) / 8**0.5 + torch.full((tokens, tokens), -1e9, device=x.device).triu(1)
            mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, 32))


class Layer(nn.Module):
    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.norm, self.attention, self.mlp = (
            nn.RMSNorm(32),
            Attention(fused),
            nn.Sequential(nn.Linear(32, 64), nn.ReLU()),
        )
        self.down = nn.Linear(64, 32, bias=False)

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norm(x))
        return x + self.down(self.mlp(x))


def image_network() -> Any:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(4, 6, 3, dilation=2), nn.Flatten(), nn.Linear(96, 5),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)), (3, 5, 8)),
    "image": (image_network, (3, 4, 16, 16)),
    "encoder": (lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (2, 10, 32)),
    "lstm": (lambda: nn.LSTM(8, 16), (5, 2, 8)),
    "attention": (lambda: Layer(fused=True), (2, 6, 32)),
    "written out": (lambda: Layer(fused=False), (2, 6, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_pytorch(name: str) -> None:
    build, shape = NETWORKS[name]
    module, x = build(), torch.zeros(shape)
    workload = trace(module, x)
    assert workload.flops == counted(build(), x)
    assert workload.parameters == parameters(module)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_one_kernel(fused: bool) -> None:
    workload = trace(nn.Sequential(*(Layer(fused) for _ in range(3))), torch.zeros(2, 6, 32))
    sites = [way[0][0].ops for way in cover(workload, Fusions(epilogue=True, attention=True)) if len(way) > 1]
    assert [[op.layers for op in ops] for ops in sites] == [[(0, 1, 2)] * 3]
    score = next(op for op in workload.contractions() if op.kind is ContractionKind.SCORE)
    assert score.gemm == (GemmView(4, 6, 12, 8) if fused else GemmView(8, 6, 6, 8))
    assert score.needed == (pytest.approx(21 / 36) if fused else 1.0)


def names(workload: Workload) -> list[str]:
    return [op.name for op in workload.contractions()]


def test_modules_name_their_ops_and_equal_layers_are_one() -> None:
    workload = trace(nn.Sequential(*(Layer() for _ in range(3))), torch.zeros(2, 6, 32))
    assert {op.layers for op in workload.ops} == {(0, 1, 2)}
    assert [n for n in names(workload) if "attention.attention" not in n] == [
        "*.attention.qkv", "*.attention.out", "*.mlp.0", "*.down",
    ]  # fmt: skip
    qkv = next(w for w in workload.weights if w.tensor.name == "*.attention.qkv.weight")
    assert (qkv.tensor.shape, qkv.layers) == ((64, 32), (0, 1, 2))
    sparse = workload.with_sparsity({"*.mlp.*": "2:4"})
    assert [op.a.pattern.text for op in sparse.contractions() if op.name == "*.mlp.0"] == ["2:4"]


def test_tied_and_repeated_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head, self.mix = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False), nn.Linear(16, 16)
            self.head.weight = self.embed.weight

        def forward(self, ids: Any) -> Any:
            return self.head(self.mix(self.mix(self.embed(ids))))

    module = Tied()
    workload = trace(module, torch.zeros(2, 7, dtype=torch.int64))
    assert workload.parameters == parameters(module) == 50 * 16 + 16 * 16 + 16
    assert names(workload) == ["mix", "mix@2", "embed"]
    assert (workload.batch, workload.tokens) == (2, 14)
    assert {op.a.name for op in workload.contractions()} == {"mix.weight", "embed.weight"}
    gather = next(op for op in workload.ops if isinstance(op, Stream) and op.kind is StreamKind.GATHER)
    assert gather.reads[0].shape == (2, 7, 16)


def test_the_module_is_left_as_it_was() -> None:
    module = image_network().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trace(module, torch.zeros(1, 4, 16, 16))
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_folded_norms_and_types() -> None:
    workload = trace(image_network(), torch.zeros(1, 4, 16, 16), dtype="bf16")
    assert {str(t.dtype) for op in workload.ops for t in op.inputs} <= {"bf16"}
    first = cover(workload, Fusions(epilogue=True))[0][0][0].ops
    assert [op.name for op in first] == ["0", "0.add_bias", "1.native_batch_norm", "2.relu"]


def test_a_shipped_network_is_what_its_module_is() -> None:
    """ResNet-9 written for PyTorch has the products that the shipped one has."""

    def unit(inputs: int, outputs: int) -> Any:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    class Residual(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.body = nn.Sequential(unit(channels, channels), unit(channels, channels))

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    module = nn.Sequential(
        unit(3, 64), unit(64, 128), nn.MaxPool2d(2), Residual(128), unit(128, 256), nn.MaxPool2d(2), unit(256, 512),
        nn.MaxPool2d(2), Residual(512), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    shipped, traced = CONVNETS.load("resnet-9", batch=4), trace(module, torch.zeros(4, 3, 32, 32))
    assert (shipped.parameters, shipped.flops) == (traced.parameters, traced.flops)
    assert [op.gemm for op in shipped.contractions()] == [op.gemm for op in traced.contractions()]


@pytest.mark.filterwarnings("ignore")
def test_a_traced_llama_is_the_extracted_one() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        num_hidden_layers=3, hidden_size=64, intermediate_size=128, num_attention_heads=8, num_key_value_heads=2,
        vocab_size=100,
    )  # fmt: skip
    with torch.device("meta"):
        module = transformers.LlamaForCausalLM(config)
    traced = trace(module, input_ids=torch.zeros(2, 16, dtype=torch.int64), use_cache=False)
    extracted = transformer(config.to_dict(), seq=16, batch=2)
    assert (traced.parameters, traced.flops) == (extracted.parameters, extracted.flops)
    shapes = [
        sorted((op.gemm.m, op.gemm.k, op.count) for op in w.contractions() if op.weight) for w in (traced, extracted)
    ]
    assert shapes[0] == shapes[1]


def test_what_cannot_be_seen_is_refused() -> None:
    class Looks(nn.Module):
        def forward(self, x: Any) -> Any:
            return x @ x if x.sum() > 0 else x

    with pytest.raises(UnsupportedError, match="module 'Looks' does not run without values"):
        trace(Looks(), torch.zeros(2, 2))
    with pytest.raises(UnsupportedError, match=r"op aten._trilinear.default in Bilinear hides what it computes"):
        trace(nn.Bilinear(6, 6, 4), torch.zeros(2, 6), torch.zeros(2, 6))
    with pytest.raises(InputError, match="model 'ReLU' has no matmul"):
        trace(nn.ReLU(), torch.zeros(2))


def test_a_training_step_is_three_passes_less_the_gradient_of_the_input() -> None:
    module, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.zeros(3, 8)
    forward = trace(module, x)
    assert trace(module, x, phase="train").flops == 3 * forward.flops - next(forward.contractions()).flops


FACTORY = """
import torch
def small(batch, seq=4):
    return torch.nn.Linear(8, 4), torch.zeros(batch, seq, 8)
def fails():
    raise RuntimeError("no luck")
def wrong():
    return 1
number = 3
"""


def test_a_factory_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_factory.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert SOURCE.accepts("torch:a_factory:small")
    workload = SOURCE.load("torch:a_factory:small", batch=3, seq=5)
    assert (workload.name, workload.batch, workload.flops) == ("small", 3, 2 * 3 * 5 * 8 * 4)
    for spec, said in (
        ("torch:a_factory", "expected torch:package.module:factory"), ("torch:no_such:f", "can be imported"),
        ("torch:a_factory:gone", "can be imported"), ("torch:a_factory:number", "expected a function"),
        ("torch:a_factory:fails", "RuntimeError: no luck"),
        ("torch:a_factory:wrong", r"expected a tuple \(module, inputs\)"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            SOURCE.load(spec)
    with pytest.raises(InputError, match="context is 7, expected nothing"):
        SOURCE.load("torch:a_factory:small", context=7)
    sys.modules.pop("a_factory")
