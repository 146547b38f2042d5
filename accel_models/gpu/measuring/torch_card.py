"""The card of this machine as PyTorch sees it: what it is, its queue, and products of dense and 2:4 weights."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from accel_models.gpu.measuring.timing import Event, Job
from simsparse.errors import UnsupportedError

LEAST_TORCH = (2, 3)  # has both classes of semi-structured tensors
LEAST_CACHE_BYTES = 256 * 2**20
# Tokens that kernels of 2:4 take at least, by type: 16 bytes of a row.
PAD = {"bf16": 8, "fp8": 16}
# The six ways to keep two of four.
MASKS = ((1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (0, 1, 1, 0), (0, 1, 0, 1), (0, 0, 1, 1))


def torch_with_a_card() -> ModuleType:
    """PyTorch, where it has a card with sparse tensor cores.

    Raises
    ------
    UnsupportedError
        Where there is no PyTorch, an old one, no card, or one without.
    """
    try:
        torch = import_module("torch")
    except ImportError:
        raise UnsupportedError("calibrate gpu times with PyTorch, which is not installed, expected `torch`") from None
    found = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if found < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        raise UnsupportedError(f"calibrate gpu found torch {torch.__version__}, expected {least} or newer")
    if torch.version.cuda is None or not torch.cuda.is_available():
        raise UnsupportedError("calibrate gpu found no CUDA card, expected one that torch.cuda can use")
    capability = torch.cuda.get_device_capability()
    if capability < (8, 0):
        name, version = torch.cuda.get_device_name(), ".".join(map(str, capability))
        raise UnsupportedError(
            f"{name} has no sparse tensor cores (compute capability {version}), expected 8.0 or higher"
        )
    return torch


class TorchCard:
    """The current CUDA device.

    Parameters
    ----------
    torch : module
        As `torch_with_a_card` gives it.
    """

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch
        self._properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.name = str(self._properties.name)
        torch.manual_seed(0)
        size = max(LEAST_CACHE_BYTES, 4 * getattr(self._properties, "L2_cache_size", 0))
        self._large = torch.ones(size // 4, dtype=torch.float32, device="cuda")

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types that are timed: fp8 from Ada on."""
        return ("bf16", "fp8") if self._torch.cuda.get_device_capability() >= (8, 9) else ("bf16",)

    @property
    def versions(self) -> str:
        """Of the libraries and the driver."""
        torch = self._torch
        sparselt = torch.backends.cusparselt.version()
        parts = [f"torch {torch.__version__}", f"CUDA {torch.version.cuda}"]
        parts += [f"cuSPARSELt {sparselt}"] if sparselt is not None else []
        (driver,) = self._asked("driver_version") or ("",)
        return ", ".join([*parts, f"driver {driver or 'not known'}"])

    def clocks(self) -> str:
        """Of the SMs and the memory at this moment, as the driver says; empty where it says nothing."""
        found = self._asked("clocks.sm", "clocks.mem")
        return f"SM {found[0]} MHz, memory {found[1]} MHz" if found is not None else ""

    def _asked(self, *fields: str) -> tuple[str, ...] | None:
        device = f"GPU-{self._properties.uuid}" if hasattr(self._properties, "uuid") else "0"
        command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "-i", device]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        except (OSError, subprocess.SubprocessError):
            return None
        cells = tuple(cell.strip() for cell in said.strip().split(","))
        return cells if len(cells) == len(fields) else None

    def event(self) -> Event:
        """One that knows its time."""
        made: Event = self._torch.cuda.Event(enable_timing=True)
        return made

    def empty_cache(self) -> None:
        """Read more than L2 holds: lines that were written would be stored while the next job runs."""
        self._torch.sum(self._large)

    def wait(self) -> None:
        """Until the queue is empty."""
        self._torch.cuda.synchronize()

    def weight(self, outputs: int, inputs: int, dtype: str) -> Weight:
        """Random weights, dense and with two of four kept anywhere."""
        torch = self._torch
        dense = torch.randn(outputs, inputs, dtype=torch.bfloat16, device="cuda")
        masks = torch.tensor(MASKS, dtype=torch.bfloat16, device="cuda")
        pruned = dense * masks[torch.randint(len(MASKS), (outputs * inputs // 4,), device="cuda")].view_as(dense)
        return Weight(torch, dense, pruned, dtype)


class Weight:
    """A weight and its products with tokens; nothing is made before it is asked for."""

    def __init__(self, torch: ModuleType, dense: Any, pruned: Any, dtype: str) -> None:
        self._torch = torch
        self._dtype = dtype
        self._type = torch.bfloat16 if dtype == "bf16" else torch.float8_e4m3fn
        self._dense, self._pruned = dense.to(self._type), pruned.to(self._type)

    def kinds(self) -> Iterator[tuple[str, Callable[[], Callable[[int], Job]]]]:
        """What can run it, by name: the weight in its form, which then makes the job for so many tokens.

        CUTLASS' kernels that PyTorch calls know no fp8.
        """
        sparse = self._torch.sparse
        yield "cuBLAS via PyTorch", lambda: self._jobs(self._dense, 1)
        yield "cuSPARSELt via PyTorch", lambda: self._semi_structured(sparse.SparseSemiStructuredTensorCUSPARSELT)
        if self._dtype == "bf16":
            yield "CUTLASS 2:4 via PyTorch", lambda: self._semi_structured(sparse.SparseSemiStructuredTensorCUTLASS)

    def _semi_structured(self, kind: Any) -> Callable[[int], Job]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls its semi-structured tensors a prototype
            return self._jobs(kind.from_dense(self._pruned), PAD[self._dtype])

    def _jobs(self, weight: Any, step: int) -> Callable[[int], Job]:
        """Products with `weight`; tokens are padded to whole steps before, not while the clock runs.

        2:4 weights stand on the left, where their kernels want them: `linear` of PyTorch brings them there.
        """
        torch = self._torch
        one = torch.ones(1, device="cuda")

        def job(tokens: int) -> Job:
            rows = -(-tokens // step) * step
            given = torch.randn(rows, weight.shape[1], dtype=torch.bfloat16, device="cuda").to(self._type)
            left, right = (given, weight.t()) if weight is self._dense else (weight, given.t())
            if self._dtype == "bf16":
                return lambda: torch.mm(left, right)
            return lambda: torch._scaled_mm(left, right, one, one, out_dtype=torch.bfloat16)

        return job
