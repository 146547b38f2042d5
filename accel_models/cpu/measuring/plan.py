"""What is timed on a machine, by thread count: streams on each level, gathers, launches, products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from accel_models.cpu.measuring.identity import Identity
from accel_models.cpu.measuring.products import Product, job, peak_job
from accel_models.cpu.measuring.sampling import Job

MEMORY = 4  # stands behind the last cache
LEVEL_NAMES = {1: "L1", 2: "L2", 3: "L3", MEMORY: "memory"}
PASS_BYTES = 8e6  # that a sample of a stream moves at least
MOST_BYTES = 2**28
PEAK = 1024  # extents of the products whose rate is the peak
SHAPES = ((4096, 4096), (768, 3072), (768, 768), (256, 512), (64, 128))  # in the last, calls are what takes time
TOKENS = (1, 4, 16, 64, 256)
SPARSITIES = (0.5, 0.9)
MOST_FLOPS = 1.2e9
MOST_NONZEROS = 4e6  # of a sparse weight: making larger ones takes longer than timing them
NUMBA = "numba-csr"


@dataclass(frozen=True)
class Task:
    """A job, what a run of it counts, and the product it is, if it is one.

    Attributes
    ----------
    amount : float
        Bytes, words, operations or steps of a run; 0 for times.
    """

    job: Job
    unit: str
    amount: float = 0.0
    product: Product | None = None


def streams(identity: Identity, threads: int) -> Iterator[Task]:
    """Reading, writing and copying on every level, each thread its own data."""
    from accel_models.cpu.measuring import loops

    alone, sums = threads == 1, np.zeros(threads, np.uint64)
    for level, size in level_bytes(identity, threads).items():
        words = int(size) // 8 // threads if level >= 3 else int(size) // 8
        data, target = np.ones((threads, words), np.uint64), np.ones((threads, words // 2), np.uint64)
        passes = max(1, int(PASS_BYTES / (8 * words)))
        half = data[:, : words // 2]
        moved = float(data.nbytes * passes)

        def read(data: loops.Words = data, passes: int = passes) -> None:
            loops.read(data, passes, sums)

        def write(data: loops.Words = data, passes: int = passes) -> None:
            loops.write(data, passes)

        def copy(half: loops.Words = half, target: loops.Words = target, passes: int = passes) -> None:
            loops.copy(half, target, passes)

        for what, run in (("read", read), ("write", write), ("copy", copy)):
            yield Task(Job(f"{what} {LEVEL_NAMES[level]}", run, alone, NUMBA), "B/s", moved)


def level_bytes(identity: Identity, threads: int) -> dict[int, float]:
    """Bytes that lie in each level: half of it, of shared ones a quarter, and four times the last for memory."""
    sizes: dict[int, float] = {}
    last = 2.0**22
    for level in (1, 2, 3):
        cache = identity.cache(level)
        if cache is not None:
            sizes[level] = cache.capacity_bytes / (4 if level == 3 else 2)
            last = cache.capacity_bytes
    sizes[MEMORY] = min(max(4 * last, 2.0**26), MOST_BYTES, identity.memory_bytes / 8)
    return sizes


def small_things(identity: Identity, threads: int) -> Iterator[Task]:
    """Clock, gathers, and what a call costs that does nothing."""
    from accel_models.cpu.measuring import loops

    alone, sums = threads == 1, np.zeros(threads, np.uint64)
    rng = np.random.default_rng(0)
    for level, size in level_bytes(identity, threads).items():
        if level == 1:
            continue
        data = np.ones(int(size) // 8, np.uint64)
        index = rng.integers(0, len(data), (threads, 100_000)).astype(np.int32)

        def gather(data: loops.Words = data, index: loops.Indices = index) -> None:
            loops.gather(data, index, sums)

        yield Task(Job(f"gather {LEVEL_NAMES[level]}", gather, alone, NUMBA), "/s", float(index.size))
    yield Task(Job("launch numba", lambda: loops.nothing(threads, sums), alone, NUMBA), "s")
    tiny = np.ones((4, 4), np.float32)
    yield Task(Job("launch numpy", lambda: np.matmul(tiny, tiny), alone, "numpy"), "s")
    if alone:
        yield Task(Job("clock", lambda: loops.chain(1_000_000), alone), "Hz", 2e6)


def peaks(threads: int) -> Iterator[Task]:
    """Large products in every type that a library here multiplies."""
    for name in ("fp32", "fp64", *(("int8",) if has_onnxruntime() else ())):
        yield Task(peak_job(name, PEAK, threads), "FLOP/s", 2.0 * PEAK**3)


def products(threads: int) -> Iterator[Task]:
    """Dense and sparse products of few and many tokens."""
    for product in _products(threads):
        rate = 2.0 * product.m * product.n * product.k * (1 - product.sparsity)
        yield Task(job(product, threads), "s", rate, product)


def _products(threads: int) -> Iterator[Product]:
    dense = ("numpy", *(("onnxruntime",) if has_onnxruntime() else ()))
    for m, k in SHAPES:
        for n in TOKENS:
            if 2.0 * m * n * k <= MOST_FLOPS:
                yield from (Product(system, m, n, k) for system in dense)
            for s in SPARSITIES:
                if 2.0 * m * n * k * (1 - s) > MOST_FLOPS / 10 or m * k * (1 - s) > MOST_NONZEROS:
                    continue
                yield Product(NUMBA, m, n, k, s)
                if threads == 1:
                    yield Product("scipy-csr", m, n, k, s)
                    yield Product("scipy-bsr", m, n, k, s, 4)


def has_onnxruntime() -> bool:
    """Whether ONNX Runtime and the library that makes its models are installed."""
    return find_spec("onnxruntime") is not None and find_spec("onnx") is not None
