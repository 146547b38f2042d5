"""Sparsity patterns put on the tensors that globs name, or that a function chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from simsparse.ops import Role, Tensor
from simsparse.sparsity import AttentionBlock, AttentionToken, Pattern, parse
from simsparse.transforms.targets import Glob, changed
from simsparse.workload import Workload

# From the name of a tensor (layer index filled in) and of the op that reads it to the pattern it gets; None keeps it.
Choice = Callable[[str, str], Pattern | None]
_ON_SCORES = (AttentionBlock, AttentionToken)


def with_sparsity(
    workload: Workload, patterns: Mapping[str, str | Pattern], *, backward: bool = True, seed: int = 0
) -> Workload:
    """Put patterns on the tensors that globs name.

    Parameters
    ----------
    patterns : mapping of glob to pattern
        A glob matches names of ops or of their weights (`*.mlp.*`, `layers.0.*`, `lm_head`). Later globs win. Attention
        patterns go on the scores of the attention ops they match, all others on weights.
    backward : bool
        Whether the transposed weight of an input-gradient product follows N:M as well, as bidirectional (BDWP) and
        transposable masks do; otherwise it keeps what transposing leaves, often just a density.
    seed : int
        Kept for patterns that sample; part of the record.

    Raises
    ------
    UnknownNameError
        If a glob matches nothing that can take its pattern, with near names.
    """
    rules = [(Glob(glob), parse(pattern)) for glob, pattern in patterns.items()]
    for glob, pattern in rules:
        glob.check(workload, on_scores=isinstance(pattern, _ON_SCORES), what=pattern.text)

    def change(tensor: Tensor, tensor_name: str, op_name: str) -> Tensor:
        on_scores = tensor.role is Role.SCORE
        chosen = None
        for glob, pattern in rules:
            if isinstance(pattern, _ON_SCORES) == on_scores and glob.matches(op_name, tensor_name):
                chosen = pattern
        return _with_pattern(tensor, chosen, backward)

    how = ", ".join(f"{glob.text}={pattern.text}" for glob, pattern in rules)
    alike = not any(glob.tells_layers_apart for glob, _ in rules)
    return changed(workload, change, alike=alike).transformed(f"sparsity {how}" + (f" (seed {seed})" if seed else ""))


def put_patterns(workload: Workload, choose: Choice, how: str, *, backward: bool = True) -> Workload:
    """Put on each weight the pattern `choose(tensor name, op name)` answers, splitting layers that now differ."""

    def change(tensor: Tensor, tensor_name: str, op_name: str) -> Tensor:
        chosen = None if tensor.role is Role.SCORE else choose(tensor_name, op_name)
        return _with_pattern(tensor, chosen, backward)

    return changed(workload, change).transformed(how)


def _with_pattern(tensor: Tensor, pattern: Pattern | None, backward: bool) -> Tensor:
    if pattern is None:
        return tensor
    seen = pattern.transposed() if tensor.transposed and not backward else pattern
    return tensor if seen == tensor.pattern else replace(tensor, pattern=seen)
