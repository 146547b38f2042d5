"""What described architectures see of measured masks and of causal attention."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from accel_models.asic.machine import AsicMachine
from accel_models.asic.modes import kernels_of
from accel_models.asic.product import product_of
from simsparse import load_machine, load_workload
from simsparse.dataflow.density import DENSE, FixedStructured, UniformRandom, of_pattern
from simsparse.dataflow.measured import occupancies
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.rounding import Rounding
from simsparse.errors import UnsupportedError
from simsparse.masks import measure
from simsparse.ops import Contraction, ContractionKind
from simsparse.problems import problem_of
from simsparse.sparsity import parse

SHAPE = (256, 256)


def _blocks(height: int, width: int) -> np.ndarray:
    """A mask of blocks, three tenths of which are nonzero."""
    chosen = np.random.default_rng(0).random((SHAPE[0] // height, SHAPE[1] // width)) < 0.3
    return np.kron(chosen, np.ones((height, width), bool))


@pytest.mark.parametrize("block", [(1, 1), (1, 4), (4, 1), (16, 16), (32, 32)])
def test_a_measured_mask_is_zero_in_blocks_like_its_own(block: tuple[int, int]) -> None:
    """The density that the engine gets empties 16 x 16 tiles as often as the mask does."""
    mask = _blocks(*block)
    density = of_pattern(measure(mask), 2, 0)
    assert isinstance(density, UniformRandom)
    assert density.granule(SHAPE) == block
    tiles = mask.reshape(16, 16, 16, 16).any(axis=(1, 3))
    if block == (16, 16):
        words, odds = occupancies(density, SHAPE, 256, Rounding.EXACT)
        assert odds[words == 0].sum() == pytest.approx(1.0 - tiles.mean(), abs=0.01)


def test_a_measured_two_of_four_is_spread_evenly() -> None:
    mask = np.tile(np.array([1, 0, 0, 1], bool), (64, 16))
    assert of_pattern(measure(mask), 2, 0) == FixedStructured(0.5)
    machine = load_machine("dstc")
    assert isinstance(machine, AsicMachine)
    sparse = next(kernel for kernel in kernels_of(machine.spec) if kernel.mode.a.value == "any")
    assert sparse.density_a(np.array(measure(mask).columns()), 2, 0) == FixedStructured(0.5)


def test_causal_attention_leaves_half_of_the_probabilities() -> None:
    """They are zero inputs of the value product to designs that take any inputs; scores are computed in full."""
    ops = {op.name: op for op in load_workload("gpt2", seq=64).ops}
    context, score = ops["layers.*.self_attn.context"], ops["layers.*.self_attn.score"]
    assert isinstance(context, Contraction)
    assert isinstance(score, Contraction)
    assert product_of(score, problem_of(score)).b_density == 1.0
    product = product_of(context, problem_of(context))
    assert product.b_density == context.needed == pytest.approx(0.5, abs=0.01)
    for name, seen in (("dstc", UniformRandom(context.needed)), ("dense-tensor-core", DENSE)):
        machine = load_machine(name)
        assert isinstance(machine, AsicMachine)
        assert kernels_of(machine.spec)[-1].density_b(product.b_density) == seen


def test_blocks_lie_over_outputs_and_channels() -> None:
    """Of a convolution as of a product, in batches too: taps are not part of a block."""
    op = next(op for op in load_workload("resnet-18").contractions() if op.kind is ContractionKind.CONV)
    work = op.with_tensors(a=replace(op.a, pattern=parse("block4x2:0.5")))
    problem = Problem.from_contraction(work)
    density = problem.tensor("A").density
    assert isinstance(density, UniformRandom)
    assert density.granule(problem.shape("A")) == (4, 2, 1, 1)
    assert Problem.gemm(8, 8, 8).batched(3).rank_and_lead("A") == (3, 1)
    assert of_pattern(parse("vnm64:2:8"), 3, 1) == UniformRandom(0.25, (1, 64, 1))
    assert of_pattern(parse("vnm1:2:8"), 2, 0) == FixedStructured(0.25)
    with pytest.raises(UnsupportedError, match="expected one of single tensors"):
        of_pattern(parse("rows:0.25"), 2, 0)
