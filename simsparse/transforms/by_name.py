"""Methods by name: `slice:0.25`, `drop:8`, `quantize:int4-g128`, `tp:2`, `pipeline:4`, `offload`, `dynamic:2:4`, …"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from simsparse.errors import InputError, UnknownNameError
from simsparse.transforms.depth import drop_layers
from simsparse.transforms.dynamic_masks import dynamic_masks
from simsparse.transforms.megatron import tensor_parallel
from simsparse.transforms.offload import offload
from simsparse.transforms.quantization import quantize_weights
from simsparse.transforms.slicing import slice_model
from simsparse.transforms.stages import pipeline
from simsparse.workload import Workload

# From a workload and the text after the colon (empty if there is none) to what the method makes of it.
Method = Callable[[Workload, str], Workload]


def apply_method(workload: Workload, text: str) -> Workload:
    """Apply a method given as `NAME` or `NAME:ARGUMENT`.

    `slice:FRACTION`; `drop:COUNT`, `drop:FRACTION` or `drop:3,20-27`; `quantize:DTYPE` or `quantize:DTYPE@GLOB`;
    `tp:DEVICES`; `pipeline:STAGES`; `offload`; `dynamic:N:M` or `dynamic:N:M@GLOB`; and methods of the entry-point
    group `simsparse.methods` or registered here.

    Raises
    ------
    UnknownNameError
        For a method nobody brings, with the known ones.
    InputError
        For an argument the method does not take.
    """
    return known_method(text)(workload, text.partition(":")[2].strip())


def known_method(text: str) -> Method:
    """The method that `NAME` or `NAME:ARGUMENT` names.

    Raises
    ------
    UnknownNameError
        For a method nobody brings, with the known ones.
    """
    name, known = text.partition(":")[0].strip(), methods()
    if name not in known:
        raise UnknownNameError(f"no method is named {name!r}; known: {', '.join(sorted(known))}")
    return known[name]


def methods() -> dict[str, Method]:
    """All methods by name: those here, those of packages, those registered."""
    from simsparse.registry import added_methods

    return {**BUILT_IN, **added_methods()}


def _slice(workload: Workload, argument: str) -> Workload:
    return slice_model(workload, _number("slice", argument, "a fraction, such as slice:0.25"))


def _drop(workload: Workload, argument: str) -> Workload:
    if re.fullmatch(r"\d{1,6}", argument):
        return drop_layers(workload, int(argument))
    if re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", argument):
        bounds = [part.partition("-") for part in argument.split(",")]
        return drop_layers(workload, [i for low, _, high in bounds for i in range(int(low), int(high or low) + 1)])
    return drop_layers(
        workload, _number("drop", argument, "a count, a fraction or layers, such as drop:8 or drop:20-27")
    )


def _quantize(workload: Workload, argument: str) -> Workload:
    kind, _, glob = argument.partition("@")
    return quantize_weights(workload, kind, glob or "*")


def _dynamic(workload: Workload, argument: str) -> Workload:
    pattern, _, glob = argument.partition("@")
    return dynamic_masks(workload, pattern or "2:4", glob or "*")


def _tp(workload: Workload, argument: str) -> Workload:
    return tensor_parallel(workload, _devices("tp", argument))


def _pipeline(workload: Workload, argument: str) -> Workload:
    return pipeline(workload, _devices("pipeline", argument))


def _offload(workload: Workload, argument: str) -> Workload:
    if argument:
        raise InputError.expected("argument of offload", argument, "none")
    return offload(workload)


BUILT_IN: Mapping[str, Method] = MappingProxyType(
    {
        "slice": _slice,
        "drop": _drop,
        "quantize": _quantize,
        "tp": _tp,
        "pipeline": _pipeline,
        "offload": _offload,
        "dynamic": _dynamic,
    }
)


def _number(method: str, argument: str, expectation: str) -> float:
    try:
        return float(argument)
    except ValueError:
        raise InputError.expected(f"argument of {method}", argument, expectation) from None


def _devices(method: str, argument: str) -> int:
    if not re.fullmatch(r"\d{1,6}", argument):
        raise InputError.expected(f"argument of {method}", argument, f"a number of devices, such as {method}:2")
    return int(argument)
