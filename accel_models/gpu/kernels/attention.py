"""Fused attention: scores, softmax and values in one kernel that never writes the scores (FlashAttention)."""

from __future__ import annotations

import numpy as np

from accel_models.gpu.columns import Map
from accel_models.gpu.kernels.base import C, P, ProductKernel, has_kind, pattern_of
from simsparse.plan import Floats, ProblemKind
from simsparse.sparsity import PatternKind

# Queries that a gate pools, and that share their blocks (SeerAttention's 64, recalled); fewer are a decode, whose
# choice is not part of the kernel.
GATE_BLOCK = 64.0


class FlashAttention(ProductKernel):
    """Dense attention: skips what a causal mask or window rules out by whole tiles, nothing else."""

    name = "flash-attention"
    kinds = (ProblemKind.ATTENTION,)
    leaves_out = True

    def map(self, problem: Floats) -> Floats:
        """EXECUTED is the fraction of scores computed, B_KEPT that of cached tokens read."""
        rows = super().map(problem)
        rows[:, Map.EXECUTED] = problem[:, C.NEEDED]
        rows[:, Map.ISSUE] = self.constants.issue_cycles
        rows[:, Map.A_BYTES] = problem[:, C.A_BITS] / 8
        return rows


class BlockAttention(FlashAttention):
    """Attention that computes only some blocks of scores, and in decode reads only their tokens.

    In prefill a gate chooses the blocks first: it pools queries and keys, which it reads once more (SeerAttention).
    """

    name = "block-attention"
    patterns = (PatternKind.ATTENTION_BLOCK, PatternKind.ATTENTION_TOKEN)
    made_for = "all scores are needed"

    def map(self, problem: Floats) -> Floats:
        """Fewer scores; single tokens in prefill still load the tiles they lie in."""
        rows = super().map(problem)
        kept = pattern_of(problem)[:, P.DENSITY]
        tokens = has_kind(problem, PatternKind.ATTENTION_TOKEN)
        rows[:, Map.EXECUTED] *= kept
        # A tile of queries reads a cached token if any of them needs it.
        queries = np.minimum(problem[:, C.N], GATE_BLOCK)
        rows[:, Map.B_KEPT] = np.where(tokens, 1.0 - (1.0 - kept) ** queries, kept)
        # The gate: queries and keys into pooled ones, their product, a choice.
        rows[:, Map.SECOND] = problem[:, C.N] > GATE_BLOCK
        return rows
