"""Engines beside the array: N:M weights made ahead or online, updates of weights."""

from __future__ import annotations

import numpy as np
import pytest
from fpga_tools import (
    built,
    priced,
    trained,
)

from accel_models.fpga.columns import Mapping
from accel_models.fpga.generation import engine_cycles
from accel_models.fpga.machine import SatMachine
from accel_models.fpga.pricing import Term
from accel_models.fpga.reduction import reduce_groups
from accel_models.fpga.schemes import Scheme
from accel_models.fpga.streams import PIECE_BYTES
from simsparse.dtypes import dtype
from simsparse.errors import InputError
from simsparse.ops import Role, Stream, StreamKind, Tensor
from simsparse.plan import ProblemColumn
from simsparse.problems import gemm_problems, problem_of
from simsparse.registry import load_workload
from simsparse.workload import Workload
from workloads.training import training_step


def test_the_reduction_engine_keeps_the_largest_of_each_group() -> None:
    weights = np.random.default_rng(5).normal(size=(100, 8))
    found = reduce_groups(weights, 2, lanes=32)
    largest = np.sort(np.argsort(-np.abs(weights), axis=1)[:, :2], axis=1)
    assert found.places.tolist() == largest.tolist()
    assert found.values.tolist() == np.take_along_axis(weights, largest, axis=1).tolist()
    # 100 groups on 32 lanes, 8 cycles each.
    assert found.cycles == 4 * 8
    made = np.zeros((1, len(Mapping)))
    made[0, [Mapping.REDUCTION_GROUPS, Mapping.REDUCTION_M]] = 100, 8
    assert found.cycles == engine_cycles(built().hardware[0], made)[0]
    # Of equal magnitudes the earlier stays: a later one is no larger.
    assert reduce_groups(np.array([[1.0, -3.0, 3.0, 1.0, 2.0, -2.0, 1.0, 3.0]]), 2, 1).places.tolist() == [[1, 2]]
    rows, columns = (reduce_groups(w.reshape(-1, 8), 2, 32) for w in (weights[:64], weights[:64].T))
    assert sorted(rows.places.ravel()) != sorted(columns.places.ravel())
    with pytest.raises(InputError, match="N of the reduction engine is 9, expected from 1 to 8"):
        reduce_groups(weights, 9, 1)
    with pytest.raises(InputError, match="lanes is 0, expected at least 1"):
        reduce_groups(weights, 2, 0)


def updates(target: SatMachine, work: Workload) -> dict[str, tuple[float, float, float]]:
    """By weight that an update renews: reduction engine, latency, and bytes written besides."""
    plan = target.lower(work)
    prices = target.price(plan)
    written = plan.mapping[:, Mapping.REDUCTION_WRITE_BYTES]
    figures = zip(prices.terms_s[:, Term.REDUCTION], prices.latency_s, written, strict=True)
    named = zip(plan.calls, figures, strict=True)
    return {call.ops[0]: found for call, found in named if call.ops[0].endswith(".update")}


def test_updates_make_the_weights_of_both_directions() -> None:
    """A 256 x 128 x 3 x 3 weight in 2:8: groups along rows and along columns, each weight looked at once for each."""
    work = Scheme.BDWP(load_workload("resnet-9", phase="train", batch=2), "2:8")
    name = "layer2.conv.weight.update"
    weights = 256 * 128 * 9
    made, took, written = updates(built(), work)[name]
    assert made == pytest.approx(2 * weights / 32 / 200e6)
    # Two copies of 2 values and 2 indices of 3 bits a group; nobody reads the dense weights any more.
    assert written == 2 * weights / 8 * (2 * 16 + 2 * 3) / 8 - weights * 2
    dense = updates(built(), load_workload("resnet-9", phase="train", batch=2))
    assert dense[name][0] == dense[name][2] == 0.0
    assert took < dense[name][1]
    slow = updates(built(reduction_lanes=4), work)[name]
    assert slow[0] == pytest.approx(8 * made)
    assert slow[1] > slow[0] > took
    assert all(value == 0.0 for value, _, _ in updates(built(pregeneration=False), work).values())


def test_without_pregeneration_weights_are_made_before_the_product() -> None:
    rows = trained(gemm_problems(1024, 512, 1024, pattern="2:8"))
    assert priced(built(), rows).terms_s[0, Term.ONLINE] == 0.0
    weights = 1024 * 1024
    ahead, online = built(), built(pregeneration=False)
    found = priced(online, rows)
    making = weights / 32 / 200e6
    assert found.terms_s[0, Term.ONLINE] == pytest.approx(making, rel=0.1)
    assert found.terms_s[0, Term.ONLINE] > making
    assert found.latency_s[0] == pytest.approx(priced(ahead, rows).latency_s[0] + found.terms_s[0, Term.ONLINE])
    more = found.level_bytes[0, 0] - priced(ahead, rows).level_bytes[0, 0]
    assert more == weights * 2 + weights / 8 * (2 * 16 + 2 * 3) / 8
    activations = rows.copy()
    activations[:, ProblemColumn.A_IS_WEIGHT] = 0.0
    assert priced(ahead, activations, "sat-nm").terms_s[0, Term.ONLINE] > 0.0


def test_weights_are_made_in_training_only() -> None:
    """At inference they are packed beforehand, whatever makes them."""
    rows, target = gemm_problems(1024, 512, 1024, pattern="2:8"), built(pregeneration=False, reduction_lanes=8)
    assert priced(target, rows).terms_s[0, Term.ONLINE] == 0.0
    for phase, reduces in (("encode", False), ("train", True)):
        work = load_workload("resnet-18-tiny", phase=phase, batch=2).with_sparsity({"layer*": "2:8"})
        found = target.price(target.lower(work)).terms_s[:, Term.ONLINE]
        assert bool((found > 0.0).any()) is reduces


def update_of(elements: int) -> Stream:
    def tensor(name: str, kind: str, role: Role) -> Tensor:
        return Tensor(name, (elements,), dtype(kind), role)

    state = (tensor("w.master", "fp32", Role.OPTIMIZER), tensor("w.moment", "fp32", Role.OPTIMIZER))
    gradient, weight = tensor("w.grad", "fp16", Role.GRADIENT), tensor("w", "fp16", Role.WEIGHT)
    return Stream("w.update", StreamKind.OPTIMIZER, (gradient, *state), (*state, weight), flops=4.0 * elements)


def test_update_is_bound_by_memory_or_by_its_lanes() -> None:
    row = problem_of(update_of(1 << 20))[None]
    by_memory, pieces = priced(built(), row), (1 << 20) * 10 / PIECE_BYTES
    # It passes through in pieces, each with the gap of a burst; all the while memory is busy.
    moved = (1 << 20) * 20 / (4 * 19.2e9 * 0.8) + 2 * pieces * 50e-9
    assert by_memory.latency_s[0] == pytest.approx(moved)
    assert by_memory.term_names[by_memory.bound[0]] == "dram"
    by_lanes = priced(built(update_lanes=2), row)
    # The first has to come, the last to leave.
    assert by_lanes.latency_s[0] == pytest.approx((1 << 19) / 200e6 + moved / pieces)
    assert by_lanes.term_names[by_lanes.bound[0]] == "update"


@pytest.mark.parametrize(("optimizer", "states"), [("momentum", 2), ("adam", 3), ("sgd", 1)])
def test_an_optimizer_moves_the_state_it_keeps(optimizer: str, states: int) -> None:
    """FP16 gradient in and weight out; FP32 master and moments in and out."""
    forward = load_workload("resnet-18-tiny", phase="encode", batch=1)
    plan = built().lower(training_step(forward, optimizer))
    row = next(i for i, call in enumerate(plan.calls) if call.ops[0] == "fc.weight.update")
    values = 512 * 200
    assert built().price(plan).level_bytes[row, 0] == values * (2 + 2 + states * 8)
