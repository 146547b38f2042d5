"""What described architectures see of measured masks and of causal attention."""

from __future__ import annotations

import numpy as np
import pytest

from accel_models.asic.machine import AsicMachine
from accel_models.asic.modes import kernels_of
from accel_models.asic.product import product_of
from simsparse import load_machine, load_workload
from simsparse.dataflow.density import DENSE, FixedStructured, UniformRandom, of_pattern
from simsparse.dataflow.measured import occupancies
from simsparse.dataflow.rounding import Rounding
from simsparse.masks import measure
from simsparse.ops import Contraction
from simsparse.problems import problem_of

SHAPE = (256, 256)


def _blocks(height: int, width: int) -> np.ndarray:
    """A mask of blocks, three tenths of which are nonzero."""
    chosen = np.random.default_rng(0).random((SHAPE[0] // height, SHAPE[1] // width)) < 0.3
    return np.kron(chosen, np.ones((height, width), bool))


@pytest.mark.parametrize("block", [(1, 1), (1, 4), (4, 1), (16, 16), (32, 32)])
def test_a_measured_mask_is_zero_in_blocks_like_its_own(block: tuple[int, int]) -> None:
    """The density that the engine gets empties 16 x 16 tiles as often as the mask does."""
    mask = _blocks(*block)
    density = of_pattern(measure(mask), SHAPE)
    assert isinstance(density, UniformRandom)
    assert density.granule(SHAPE) == block
    tiles = mask.reshape(16, 16, 16, 16).any(axis=(1, 3))
    if block == (16, 16):
        words, odds = occupancies(density, SHAPE, 256, Rounding.EXACT)
        assert odds[words == 0].sum() == pytest.approx(1.0 - tiles.mean(), abs=0.01)


def test_a_measured_two_of_four_is_spread_evenly() -> None:
    mask = np.tile(np.array([1, 0, 0, 1], bool), (64, 16))
    assert of_pattern(measure(mask), mask.shape) == FixedStructured(0.5)
    machine = load_machine("dstc")
    assert isinstance(machine, AsicMachine)
    sparse = next(kernel for kernel in kernels_of(machine.spec) if kernel.mode.a.value == "any")
    assert sparse.density_a(np.array(measure(mask).columns()), 2) == FixedStructured(0.5)


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
