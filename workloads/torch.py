"""Workloads from any `torch.nn.Module`: run once on tensors without values, every product recorded (extra `torch`).

Nothing is computed and no memory is taken. Matrix products, convolutions and attention become contractions, named
after the module whose weight they use; all else that moves data becomes streams. FLOPs are those of PyTorch's counter,
parameters exact, identical layers merged. Fused attention calls, and products around a softmax, are one
attention each.

On the command line `torch:package.module:factory` names a function that returns `(module, inputs)`, inputs being a
tensor, a tuple of arguments or a mapping of keyword arguments; it may take any of `batch`, `seq` and `context`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from simsparse.dtypes import DType
from simsparse.dtypes import dtype as read_dtype
from simsparse.errors import InputError, SimsparseError, UnsupportedError
from simsparse.workload import Phase, Workload

if TYPE_CHECKING:
    import torch

PREFIX = "torch:"


def trace(
    module: torch.nn.Module, *args: Any, name: str | None = None, phase: str | None = None, batch: int | None = None,
    tokens: int | None = None, dtype: str | DType | None = None, **kwargs: Any,
) -> Workload:  # fmt: skip
    """The workload of `module(*args, **kwargs)` in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        On any device; it is not changed.
    args, kwargs
        Inputs; only shapes and types of tensors count.
    name : str, optional
        Of the workload; default the class's.
    phase : {"encode", "prefill", "decode", "train"}, optional
        What the pass is called; `train` adds the backward pass and the update.
    batch, tokens : int, optional
        What throughput counts; default: the first extent of the first tensor, and the values of a matrix of token
        indices, else as many as `batch`.
    dtype : str, optional
        What floats are counted as; default as they are.

    Raises
    ------
    UnsupportedError
        If an op hides products, or the module looks at values.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._pytree import tree_leaves, tree_map

    from workloads._torch_trace import Recorder, watch_modules

    called = name or type(module).__name__
    kind = read_dtype(dtype) if dtype is not None else None
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    with fakes:
        shapes = {label: _shape_of(tensor) for label, tensor in state.items()}
        args, kwargs = tree_map(_shape_of, (args, kwargs))
    recorder = Recorder({label: shapes[label] for label, _ in module.named_parameters()}, called, kind)
    training = [part for part in module.modules() if part.training]
    with ExitStack() as stack:
        for handle in watch_modules(module, recorder):
            stack.callback(handle.remove)
        for part in training:
            part.training = False
            stack.callback(setattr, part, "training", True)
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        # oneDNN's recurrent layers hide their products.
        stack.callback(torch.backends.mkldnn.set_flags, torch.backends.mkldnn.set_flags(False)[0])
        for context in (
            torch.no_grad(),
            torch.device("cpu"),
            fakes,
            recorder,
        ):
            stack.enter_context(context)
        try:
            torch.func.functional_call(module, shapes, args, kwargs)
        except SimsparseError:
            raise
        except Exception as failed:  # whatever the module's own code raises
            reason = (str(failed).strip().splitlines() or [type(failed).__name__])[0][:200]
            raise UnsupportedError(f"module {called!r} does not run without values ({reason})") from failed
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    first = tensors[0] if tensors else None
    images = batch or (int(first.shape[0]) if first is not None and first.dim() else 1)
    counted = first.numel() if first is not None and first.dim() == 2 and not first.is_floating_point() else images
    common = kind or read_dtype(str(next((p.dtype for p in module.parameters()), torch.float32)))
    forward = recorder.capture.workload(
        called, batch=images, tokens=tokens or counted, dtype=common, phase=_forward_phase(phase)
    )
    if phase != Phase.TRAIN:
        return forward
    from workloads.training import training_step

    return training_step(forward)


def _forward_phase(phase: str | None) -> Phase:
    try:
        chosen = Phase(phase or Phase.ENCODE)
    except ValueError:
        raise InputError.expected("phase", phase, f"one of {', '.join(Phase)}") from None
    return Phase.ENCODE if chosen is Phase.TRAIN else chosen


def _shape_of(value: Any) -> Any:
    """A tensor without values (under a `FakeTensorMode`), as if on a CPU."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")


class TorchSource:
    """Workload source for `torch:package.module:factory`."""

    def names(self) -> list[str]:
        """It ships none."""
        return []

    def accepts(self, spec: str) -> bool:
        """Whether it begins with `torch:`."""
        return spec.startswith(PREFIX)

    def load(
        self, spec: str, *, phase: str | None = None, batch: int = 1, seq: int | None = None,
        context: int | None = None, dtype: str | None = None,
    ) -> Workload:  # fmt: skip
        """Call the factory and trace what it returns.

        Raises
        ------
        InputError
            If PyTorch is not installed, nothing answers to the name, or the factory fails or returns something else.
        """
        factory = _factory(spec)
        given = {"batch": batch, "seq": seq, "context": context}
        taken = inspect.signature(factory).parameters
        for label, value in given.items():
            if label not in taken and value not in (None, 1):
                raise InputError.expected(label, value, f"nothing, since {spec!r} takes no {label}")
        options = {label: value for label, value in given.items() if label in taken and value is not None}
        try:
            made = factory(**options)
        except Exception as failed:  # user code
            raise InputError(f"{spec!r} failed ({type(failed).__name__}: {str(failed)[:200]})") from failed
        if not (isinstance(made, tuple) and len(made) == 2 and hasattr(made[0], "named_parameters")):
            raise InputError.expected(f"what {spec!r} returns", type(made).__name__, "a tuple (module, inputs)")
        module, inputs = made
        args = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, Mapping) else (inputs,)
        kwargs = inputs if isinstance(inputs, Mapping) else {}
        name = spec.rpartition(":")[2]
        return trace(
            module, *args, name=name, phase=phase, batch=batch if "batch" in taken else None, dtype=dtype, **kwargs
        )


def _factory(spec: str) -> Any:
    package, _, attribute = spec.removeprefix(PREFIX).partition(":")
    if not package or not attribute:
        raise InputError.expected("workload", spec, "torch:package.module:factory")
    try:
        importlib.import_module("torch")
    except ImportError:
        raise InputError(f"workload {spec!r} needs PyTorch, expected the extra torch to be installed") from None
    try:
        found: Any = importlib.import_module(package)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as missing:
        raise InputError.expected("workload", spec, f"a function that can be imported ({missing})") from None
    if not callable(found):
        raise InputError.expected("workload", spec, "a function")
    return found


SOURCE = TorchSource()
