"""Products `C[M,N] = A[M,K] · B[K,N]` in fp32, as libraries run them: M outputs, N tokens, A the weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_models.cpu.measuring.sampling import Job

Singles = NDArray[np.float32]
Stored = Any  # an array of scipy.sparse, which has no types of its own
SEED = 0


@dataclass(frozen=True)
class Product:
    """A product and what is zero in A: `dense`, `unstructured:s` or `block4x1:s` style text."""

    system: str
    m: int
    n: int
    k: int
    sparsity: float = 0.0
    block: int = 0  # side of square blocks that are zero together; 0: single weights

    @property
    def pattern(self) -> str:
        """As `simsparse.sparsity` writes it."""
        if self.sparsity == 0:
            return "dense"
        return f"block{self.block}x{self.block}:{self.sparsity:g}" if self.block else f"unstructured:{self.sparsity:g}"


def weight(product: Product) -> Singles:
    """A (M, K), with the zeros of the product; the same each time."""
    return _weight(product.m, product.k, product.sparsity, max(product.block, 1))


@lru_cache(maxsize=4)
def _weight(m: int, k: int, sparsity: float, side: int) -> Singles:
    """What is kept are the largest of equally distributed values: one draw for all, as large ones are made often."""
    drawn = np.random.default_rng(SEED).random((m // side, k // side), dtype=np.float32)
    drawn[drawn < sparsity] = 0.0
    return np.repeat(np.repeat(drawn, side, axis=0), side, axis=1) if side > 1 else drawn


@lru_cache(maxsize=10)
def _stored(m: int, k: int, sparsity: float, block: int) -> Stored:
    """A in CSR or in blocks, shared by products of other tokens and systems."""
    from scipy.sparse import bsr_array, csr_array

    a = _weight(m, k, sparsity, max(block, 1))
    return bsr_array(a, blocksize=(block, block)) if block else csr_array(a)


def tokens(product: Product) -> Singles:
    """B (K, N)."""
    return np.random.default_rng(SEED + 1).standard_normal((product.k, product.n), dtype=np.float32)


def job(product: Product, threads: int) -> Job:
    """The product as its system runs it, ready to be timed."""
    run = _MAKERS[product.system](product, threads)
    return Job(product.system, run, threads == 1 or product.system in ONE_THREAD, product.system)


def _numpy(product: Product, threads: int) -> Callable[[], object]:
    """numpy's BLAS, which was told its threads when the process began."""
    a, b = weight(product), tokens(product)
    c = np.empty((product.m, product.n), np.float32)
    return lambda: np.matmul(a, b, out=c)


def _scipy(product: Product, threads: int) -> Callable[[], object]:
    """CSR or blocks, as the product says, in one thread."""
    a, b = _stored(product.m, product.k, product.sparsity, product.block), tokens(product)
    return lambda: a @ b


def _numba_csr(product: Product, threads: int) -> Callable[[], object]:
    from accel_models.cpu.measuring.loops import csr_spmm

    a, b = _stored(product.m, product.k, product.sparsity, 0), tokens(product)
    c = np.empty((product.m, product.n), np.float32)
    start, index = a.indptr.astype(np.int32), a.indices.astype(np.int32)
    return lambda: csr_spmm(start, index, a.data, b, c)


def _onnxruntime(product: Product, threads: int) -> Callable[[], object]:
    """ONNX Runtime's MatMul of tokens (N, K) by the weight (K, M)."""
    session = _session(product.m, product.k, threads)
    x = np.ascontiguousarray(tokens(product).T)
    return lambda: session.run(None, {"x": x})


@lru_cache(maxsize=2)
def _session(m: int, k: int, threads: int) -> Any:
    """One session of a dense weight for any number of tokens."""
    from accel_models.cpu.measuring.onnx_models import matmul

    return _of_model(matmul(_weight(m, k, 0.0, 1).T), threads)


def _of_model(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


_MAKERS: dict[str, Callable[[Product, int], Callable[[], object]]] = {
    "numpy": _numpy,
    "scipy-csr": _scipy,
    "scipy-bsr": _scipy,
    "numba-csr": _numba_csr,
    "onnxruntime": _onnxruntime,
}
ONE_THREAD = ("scipy-csr", "scipy-bsr")


def peak_job(type_name: str, size: int, threads: int) -> Job:
    """A square product in a type: numpy's BLAS in floating point, ONNX Runtime in int8."""
    alone = threads == 1
    if type_name == "int8":
        from accel_models.cpu.measuring.onnx_models import matmul_int8

        session = _of_model(matmul_int8(size), threads)
        x = np.ones((size, size), np.uint8)
        return Job("peak int8", lambda: session.run(None, {"x": x}), alone, "onnxruntime")
    a, b, c = (np.ones((size, size), {"fp32": np.float32, "fp64": np.float64}[type_name]) for _ in range(3))
    return Job(f"peak {type_name}", lambda: np.matmul(a, b, out=c), alone, "numpy")
