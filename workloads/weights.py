"""What is really zero in a model's weights: a folder of safetensors, measured tensor by tensor, as a workload."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simsparse.errors import InputError
from simsparse.masks import measure
from simsparse.ops import Tensor
from simsparse.sparsity import DENSE, HELD_NM, MEASURED_TILES, Measured, Pattern
from simsparse.transforms import put_patterns
from simsparse.workload import Workload
from workloads.tensor_files import PICKLES, StoredTensor, holds_weights, stored_tensors

# Fewer zeros than this are accidents of training (a bf16 checkpoint has some), and no kernel gains from them.
DENSE_ABOVE = 0.99
# Types that weights come in; the rest are indices and flags.
_WEIGHT_TYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U8"})
# Called with bytes done, bytes in all, and the tensor that is next.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class MeasuredTensor:
    """A tensor of a checkpoint and what is zero in it.

    Attributes
    ----------
    name : str
        In the checkpoint.
    shape : tuple of int
        With outputs first, whichever way it is stored.
    dtype : str
        As safetensors calls it.
    pattern : Measured
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    pattern: Measured


def measured_patterns(folder: str | Path, progress: Progress | None = None) -> tuple[MeasuredTensor, ...]:
    """Measure every weight of two axes or more in a folder of safetensors (or one file).

    One tensor is in memory at a time, as pages of the file.

    Raises
    ------
    InputError
        If it holds no safetensors, or broken ones; see `workloads.tensor_files`.
    """
    weights = [t for t in stored_tensors(folder) if _is_weight(t)]
    total, done = sum(t.nbytes for t in weights), 0
    found = []
    for tensor in weights:
        if progress is not None:
            progress(done, total, tensor.name)
        found.append(_measured(tensor))
        done += tensor.nbytes
    if progress is not None:
        progress(done, total, "")
    return tuple(found)


def with_measured(
    workload: Workload, folder: str | Path, *, names: Mapping[str, str] | None = None, progress: Progress | None = None
) -> Workload:
    """The workload with each weight's real pattern; layers that differ become entries of their own.

    Parameters
    ----------
    folder : path
        Safetensors that belong to the workload.
    names : mapping, optional
        From the workload's weight names to the ends of names in the checkpoint, `*` for the layer and a second one for
        the expert. Default: by the `config.json` in the folder, or the same names where there is none.

    Raises
    ------
    InputError
        If the folder lacks a weight that an op reads, or has it in another shape.
    """
    path = Path(folder)
    if names is None:
        names = _names(workload, path.parent if path.is_file() else path)
    found = _by_workload_name(measured_patterns(path, progress), names)
    chosen: dict[str, Pattern] = {}
    for tensor, layers in _read_weights(workload):
        for layer in layers:
            name = tensor.name if layer is None else tensor.name.replace("*", str(layer), 1)
            chosen[name] = _pattern_for(tensor, name, found.get(name, []), path)
    return put_patterns(workload, lambda tensor, _: chosen.get(tensor), f"measured {path.resolve().name}")


def or_dense(pattern: Measured) -> Pattern:
    """The pattern, or dense where next to nothing is zero (`DENSE_ABOVE`)."""
    return DENSE if pattern.density >= DENSE_ABOVE else pattern


def combined(patterns: Sequence[Measured]) -> Measured:
    """Statistics of equal-sized masks one below the other (the experts of a layer).

    Exact but for columns, which each mask has for itself, and for tiles cut by an edge.
    """
    if len(patterns) == 1:
        return patterns[0]
    kept = math.fsum(p.kept for p in patterns) / len(patterns)
    return Measured(
        kept,
        _pooled_variation(kept, [(p.kept, p.row_cv) for p in patterns]),
        _pooled_variation(kept, [(p.kept, p.col_cv) for p in patterns]),
        tuple(nm for nm in HELD_NM if all(nm in p.holds for p in patterns)),
        tuple(math.fsum(p.occupied[i] for p in patterns) / len(patterns) for i in range(len(MEASURED_TILES))),
        patterns[0].source,
    )


def _pooled_variation(mean: float, parts: Iterable[tuple[float, float]]) -> float:
    """Standard deviation over mean of all parts together, from the mean and variation of each."""
    squares = [part * part * (1 + cv * cv) for part, cv in parts]
    variance = max(0.0, math.fsum(squares) / len(squares) - mean * mean)
    return math.sqrt(variance) / mean if mean else 0.0


def _is_weight(tensor: StoredTensor) -> bool:
    return len(tensor.shape) > 1 and tensor.nbytes > 0 and tensor.dtype in _WEIGHT_TYPES


def _measured(tensor: StoredTensor) -> MeasuredTensor:
    values = tensor.map()
    if tensor.transposed:
        values = values.T
    pattern = measure(values, f"{tensor.file.name}:{tensor.name}", float_bits=tensor.float_bits)
    return MeasuredTensor(tensor.name, values.shape, tensor.dtype, pattern)


def _names(workload: Workload, folder: Path) -> Mapping[str, str]:
    if not (folder / "config.json").is_file():
        return {weight.tensor.name: weight.tensor.name for weight in workload.weights}
    from workloads.huggingface import checkpoint_names

    return checkpoint_names(folder / "config.json")


def _by_workload_name(
    measured: Sequence[MeasuredTensor], names: Mapping[str, str]
) -> dict[str, list[MeasuredTensor]]:  # fmt: skip
    """Tensors of the checkpoint by the workload's name, layer filled in; several are experts."""
    forms = [
        (re.compile(r"(?:.+\.)?" + re.escape(theirs).replace(r"\*", r"(\d+)")), ours)
        for ours, theirs in sorted(names.items(), key=lambda pair: len(pair[1]), reverse=True)
    ]
    found: dict[str, list[MeasuredTensor]] = defaultdict(list)
    for tensor in measured:
        for form, ours in forms:
            if match := form.fullmatch(tensor.name):
                layer = match.groups()[0] if "*" in ours and match.groups() else "*"
                found[ours.replace("*", layer, 1)].append(tensor)
                break
    return found


def _read_weights(workload: Workload) -> list[tuple[Tensor, tuple[int | None, ...]]]:
    """Weights that products read, with the layers that have one each."""
    read = {op.weight.name for op in workload.contractions() if op.weight is not None}
    return [(w.tensor, w.layers or (None,)) for w in workload.weights if w.tensor.name in read]


def _pattern_for(tensor: Tensor, name: str, found: Sequence[MeasuredTensor], folder: Path) -> Pattern:
    if not found:
        raise InputError(
            f"weights in {folder.name!r} have no tensor for {name!r}, expected one of shape {tensor.shape}"
        )
    stacked = len(tensor.shape) == len(found[0].shape) + 1
    expected = tensor.shape[1:] if stacked else tensor.shape
    number = tensor.shape[0] if stacked else 1
    for candidate in found:
        if candidate.shape != expected or len(found) != number:
            raise InputError(
                f"tensor {candidate.name!r} in {folder.name!r} is {len(found)} of shape {candidate.shape},"
                f" expected {number} of {expected} for {name!r}"
            )
    return or_dense(combined([candidate.pattern for candidate in found]))


class WeightsSource:
    """Workload source for folders that hold `config.json` and weights, or such a file of weights itself."""

    def names(self) -> list[str]:
        """It only reads folders."""
        return []

    def accepts(self, spec: str) -> bool:
        """Whether it is such a folder, or a file of weights by name; pickles too, to say why not."""
        if spec.endswith((".safetensors", *PICKLES)):
            return True
        try:
            return (Path(spec) / "config.json").is_file() and holds_weights(Path(spec))
        except (OSError, ValueError):
            return False

    def load(
        self, spec: str, *, phase: str | None = None, batch: int = 1, seq: int | None = None,
        context: int | None = None, dtype: str | None = None,
    ) -> Workload:  # fmt: skip
        """The model of the config with the patterns of its weights."""
        from workloads.huggingface import transformer

        stored_tensors(spec)  # what cannot be read is said before anything is built
        folder = Path(spec).parent if Path(spec).is_file() else Path(spec)
        if not (folder / "config.json").is_file():
            raise InputError.expected("weights", spec, "a file with its config.json beside it")
        model = transformer(folder, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
        return with_measured(model, spec)


SOURCE = WeightsSource()
