"""What a run gives, and the metrics in which sources print it: one function a metric, from an `Outcome`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from simsparse.errors import UnsupportedError
from simsparse.intervals import Bounds, through


@dataclass(frozen=True)
class Outcome:
    """A priced run.

    Attributes
    ----------
    kernel : str
        Which ran, or most of the time ran.
    latency_s, dense_latency_s : float
        Of the run, and of the best dense kernels for the same job.
    energy_j, dense_energy_j : float
    flops : float
        Dense FLOPs.
    items : int
        Sequences or images, over all instances.
    tokens : int
        Tokens (or images), over all instances.
    memory_bytes : float
        What has to fit; 0 for bare products.
    latency_interval_s, speedup_interval : (float, float), optional
        80 % intervals; None where the machine gives none.
    devices : int
        That share the work.
    """

    kernel: str
    latency_s: float
    dense_latency_s: float
    energy_j: float
    dense_energy_j: float
    flops: float
    items: int = 1
    tokens: int = 1
    memory_bytes: float = 0.0
    latency_interval_s: Bounds | None = None
    speedup_interval: Bounds | None = None
    devices: int = 1

    @property
    def speedup(self) -> float:
        """Dense time over this time."""
        return self.dense_latency_s / self.latency_s


def _latency(unit_s: float) -> Callable[[Outcome], float]:
    return lambda run: run.latency_s / unit_s


def _memory(unit_bytes: float) -> Callable[[Outcome], float]:
    return lambda run: run.memory_bytes / unit_bytes


METRICS: Mapping[str, Callable[[Outcome], float]] = MappingProxyType(
    {
        "latency_s": _latency(1.0),
        "latency_ms": _latency(1e-3),
        "latency_us": _latency(1e-6),
        "latency_s_per_token": _latency(1.0),  # a decode step makes one token of each sequence
        "latency_ms_per_token": _latency(1e-3),
        "prefill_ms": _latency(1e-3),
        "tflops": lambda run: run.flops / run.latency_s / 1e12,
        "tflops_effective": lambda run: run.flops / run.latency_s / 1e12,
        "speedup": lambda run: run.speedup,
        "speedup_vs_dense": lambda run: run.speedup,
        "speedup_max": lambda run: run.speedup,
        "speedup_end_to_end": lambda run: run.speedup,
        "speedup_matmul": lambda run: run.speedup,
        "tokens_per_s": lambda run: run.tokens / run.latency_s,
        "tokens_per_gpu_s": lambda run: run.tokens / run.latency_s / run.devices,
        "decode_tokens_per_s": lambda run: run.tokens / run.latency_s,
        "items_per_s": lambda run: run.items / run.latency_s,
        "images_per_s": lambda run: run.items / run.latency_s,
        "samples_per_s": lambda run: run.items / run.latency_s,
        "power_W": lambda run: run.energy_j / run.latency_s,
        "energy_j": lambda run: run.energy_j,
        "energy_eff_token_per_J": lambda run: run.tokens / run.energy_j,
        "memory_GB": _memory(1e9),
        "memory_MB": _memory(1e6),
    }
)


def in_metric(run: Outcome, metric: str) -> float:
    """A run in a row's own metric.

    Raises
    ------
    UnsupportedError
        For a metric that no prediction has.
    """
    if metric not in METRICS:
        raise UnsupportedError(f"metric {metric!r} is none that is predicted")
    return METRICS[metric](run)


def interval_in_metric(run: Outcome, metric: str) -> Bounds | None:
    """The 80 % interval of a run in a row's own metric; None where the run has none, and for energy and memory."""
    if metric.startswith("speedup"):
        return run.speedup_interval
    if run.latency_interval_s is None or metric not in METRICS or _of_energy(metric):
        return None
    return through(lambda seconds: METRICS[metric](replace(run, latency_s=seconds)), run.latency_interval_s)


def _of_energy(metric: str) -> bool:
    return metric.startswith(("power", "energy", "memory"))
