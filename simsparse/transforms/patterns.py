"""Sparsity patterns put on the tensors that globs name, or that a function chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from simsparse.errors import InputError
from simsparse.ops import Role, Tensor
from simsparse.sparsity import AttentionBlock, AttentionToken, Pattern, parse
from simsparse.transforms.targets import Glob, changed
from simsparse.workload import Workload

Sparsity = str | Pattern | Mapping[str, str | Pattern] | Sequence[str]
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


def by_glob(sparsity: Sparsity, *, field: str = "sparsity") -> dict[str, str | Pattern]:
    """Patterns by glob from the ways to give them: one pattern for all (`*`), `GLOB=PATTERN` texts, or a mapping.

    Raises
    ------
    InputError
        Naming `field`, for an empty glob, what is no pattern, or another type.
    """
    if isinstance(sparsity, Pattern):
        return {"*": sparsity}
    if isinstance(sparsity, Mapping):
        texts = dict(sparsity)
        for glob, pattern in texts.items():
            if not isinstance(glob, str) or not isinstance(pattern, (str, Pattern)):
                raise InputError.expected(field, {glob: pattern}, "globs and patterns")
        return texts
    if isinstance(sparsity, str):
        sparsity = (sparsity,)
    if not isinstance(sparsity, Sequence) or not all(isinstance(text, str) for text in sparsity):
        raise InputError.expected(field, sparsity, "a pattern, GLOB=PATTERN texts or a mapping of globs to patterns")
    return dict(_split(text, field) for text in sparsity)


def _split(text: str, field: str) -> tuple[str, Pattern]:
    # The path of a mask may hold an equals sign.
    bare = "=" not in text or text.startswith("mask:")
    glob, _, pattern = ("*", "", text) if bare else text.partition("=")
    if not glob.strip():
        raise InputError.expected(field, text, "GLOB=PATTERN or a pattern")
    return glob.strip(), parse(pattern)


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
