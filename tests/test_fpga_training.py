"""Training steps on the FPGA family: schemes, and the event simulation of a whole step."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from fpga_tools import built

from accel_models.fpga.columns import Mapping
from accel_models.fpga.pricing import Term
from accel_models.fpga.schemes import Scheme
from accel_models.fpga.training import average, training_speedups, widened
from simsparse.errors import InputError, UnsupportedError
from simsparse.events import run
from simsparse.ops import Contraction
from simsparse.plan import Plan, ProblemColumn
from simsparse.registry import load_workload
from simsparse.sparsity import NM
from simsparse.workload import Workload

T = TypeVar("T")


def step(network: str = "resnet-18-tiny", batch: int = 2) -> Workload:
    return load_workload(network, phase="train", batch=batch)


def sparse_products(work: Workload) -> set[str]:
    return {op.name for op in work.contractions() if isinstance(op.a.pattern, NM)}


# Of one inner layer and of the two ends: which products are N:M.
EXPECTED = {
    Scheme.BDWP: {"", ".grad_input"},
    Scheme.SR_STE: {""},
    Scheme.TRANSPOSABLE: {"", ".grad_input"},
    Scheme.SDGP: {".grad_input", ".grad_weight"},
    Scheme.BDWP_ACTIVATIONS: {"", ".grad_input", ".grad_weight"},
}


@pytest.mark.parametrize("scheme", Scheme)
def test_a_scheme_says_which_products_are_sparse(scheme: Scheme) -> None:
    names = sparse_products(scheme(step(), "2:8"))
    layer = "layer1.*.conv1"
    assert {name.removeprefix(layer) for name in names if name.startswith(layer)} == EXPECTED[scheme]
    # First layer and classifier stay dense.
    assert not any(name.startswith(("conv1", "fc")) for name in names)


def reductions(scheme: Scheme) -> tuple[float, float, float]:
    """Reduction engine beside updates, before products, and bytes that updates write besides."""
    target = built()
    plan = target.lower(scheme(step("resnet-9"), "2:8"))
    terms, counts = target.price(plan).terms_s, np.array([call.count for call in plan.calls])
    updates = np.array([call.ops[0].endswith(".update") for call in plan.calls])
    written = plan.mapping[:, Mapping.REDUCTION_WRITE_BYTES]
    return (
        float(counts @ terms[:, Term.REDUCTION]),
        float(counts @ terms[:, Term.ONLINE]),
        float(counts[updates] @ written[updates]),
    )


def test_schemes_differ_in_what_they_have_made() -> None:
    both, online, written = reductions(Scheme.BDWP)
    one, _, less = reductions(Scheme.TRANSPOSABLE)
    forward, _, more = reductions(Scheme.SR_STE)
    assert online == 0.0
    assert one == forward == pytest.approx(both / 2)
    # One copy less; but a copy more than dense weights, where the input gradient reads those.
    assert less < written < 0 < more
    made_ahead, before, _ = reductions(Scheme.SDGP)
    assert made_ahead == 0.0 < before


def test_swapped_products_do_the_same_work_and_read_the_same_gradient() -> None:
    """N:M gradients stand in for the weight: a convolution's are stored before im2col, as where they are B."""
    dense, sparse = step("resnet-9"), Scheme.SDGP(step("resnet-9"), "2:8")
    name = "layer1.conv.grad_input"

    def product(work: Workload) -> Contraction:
        return next(op for op in work.contractions() if op.name == name)

    before, after = product(dense).gemm, product(sparse).gemm
    assert (after.m, after.n, after.k) == (before.n, before.m, before.k)
    target = built()

    def row(plan: Plan) -> int:
        return next(i for i, call in enumerate(plan.calls) if call.ops[0] == name)

    plans = [target.lower(work) for work in (dense, sparse)]
    b_bytes, a_bytes = (plan.mapping[row(plan)] for plan in plans)
    values = product(dense).b.elements
    assert b_bytes[Mapping.B_BYTES] % (values * 2) == 0
    assert a_bytes[Mapping.A_BYTES] % (values / 8 * (2 * 16 + 2 * 3) / 8) == 0


@pytest.mark.parametrize(("pattern", "bound"), [("2:4", 1.5), ("2:8", 2.0), ("2:16", 2.4)])
def test_speedups_stay_inside_their_arithmetic_bound(pattern: str, bound: float) -> None:
    rows = training_speedups(built(), pattern)
    assert all(1.0 < row.speedup < row.bound < bound for row in rows)


def test_wider_networks_gain_more() -> None:
    """All products and streams grow; the plan is lowered again, and updates make more weights."""
    networks = [("resnet-9", 8)]
    same, wider = (training_speedups(built(), "2:8", networks=networks, change=widened(f)) for f in (1.0, 2.0))
    as_lowered = training_speedups(built(), "2:8", networks=networks)
    assert same[0].sparse.latency_s == pytest.approx(as_lowered[0].sparse.latency_s)
    assert wider[0].dense.flops == pytest.approx(4 * same[0].dense.flops, rel=0.01)
    assert average(wider) > average(same)


def test_a_whole_step_of_resnet_50_event_by_event_and_in_closed_form() -> None:
    """Batch 64: within a minute and 2 GB, coarsened; finer tiles change the total by less than 1 %."""
    target = built()
    plan = target.lower(Scheme.BDWP(step("resnet-50", 64), "2:8"))
    closed_s = min(_timed(lambda: target.price(plan))[1] for _ in range(3))
    prices = target.price(plan)
    log, took_s = _timed(lambda: run(target, plan, tiles_per_call=128))
    finer, _ = _timed(lambda: run(target, plan, tiles_per_call=256))
    counts = np.array([call.count for call in plan.calls])
    print(f"closed form {closed_s * 1e3:.2f} ms, events {took_s:.1f} s, {len(log):,} events")
    assert closed_s < 0.02
    assert took_s < 60
    assert took_s > 1000 * closed_s
    # Peak of this whole process, in KiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20
    assert log.total_s == pytest.approx(finer.total_s, rel=0.01)
    assert log.total_s == pytest.approx(float(prices.latency_s @ counts), rel=0.01)
    assert np.abs(prices.latency_s / log.latency_s - 1).max() < 0.1


def _timed(what: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    found = what()
    return found, time.process_time() - start


# --- bad input -------------------------------------------------------------------------------------------------------


def test_nm_that_elements_cannot_take_is_refused() -> None:
    expected = "machine 'sat-vcu1525' runs resnet-9 dense in 15:32: M is larger than the 16 that elements take"
    with pytest.raises(UnsupportedError) as refusal:
        training_speedups(built(), "15:32")
    assert str(refusal.value) == expected


@pytest.mark.parametrize(
    ("work", "pattern", "message"),
    [
        ("encode", "2:8", "phase of the workload is 'encode', expected train"),
        ("train", "unstructured:0.9", "pattern is 'unstructured:0.9', expected N:M, such as 2:8"),
    ],
)
def test_a_scheme_takes_a_training_step_and_nm(work: str, pattern: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        Scheme.BDWP(load_workload("resnet-9", phase=work, batch=1), pattern)
    assert str(refusal.value) == message


def test_a_batch_of_zero_is_refused() -> None:
    with pytest.raises(InputError, match="batch is 0, expected at least 1"):
        training_speedups(built(), "2:8", networks=[("resnet-9", 0)])


def test_padding_is_counted_and_said() -> None:
    """A 3 x 3 convolution of 3 channels in 2:8: 27 values in 4 groups."""
    target = built()
    plan = target.lower(load_workload("resnet-9", phase="encode", batch=2).with_sparsity({"*": "2:8"}))
    (note,) = target.notes(plan)
    assert note.startswith("M does not divide the reduction of 1 products, which are padded to whole groups: ")
    assert note.endswith("at most from 27 to 32 (prep.conv)")
    row = int(np.argmax(plan.problem[:, ProblemColumn.K] == 27))
    assert target.price(plan).terms_s[row, Term.PADDING] > 0
    assert target.notes(target.lower(load_workload("resnet-9", phase="encode"))) == ()
