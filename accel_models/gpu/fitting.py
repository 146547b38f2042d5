"""Constants from measured kernels: cards and dense kernels in turns, then every other family by itself.

The loss of a family is the mean of |log(predicted / measured)| beyond the reading error of figures read off plots,
every distinct problem with the same weight, cards by the root of their number of problems.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

import numpy as np

from accel_models.gpu import FAMILY
from accel_models.gpu.evidence import Block
from accel_models.gpu.fitted import KINDS, CardConstants, Constants, Search, kind_of, search_of
from accel_models.gpu.machine import GpuMachine
from accel_models.gpu.search import Point, minimise, rounded
from accel_models.gpu.spec import GpuSpec
from simsparse.plan import Floats
from simsparse.readings import Changes

# Dense kernels tell what a card reaches; constants of a family or card are fitted on that many rows at least.
DENSE = ("cublas", "cublas-simt")
FEWEST = 8
ROUNDS = 2
# What moving a card's constant from where it stands for most by a factor of e costs, so that it needs a reason.
OF_CARD = CardConstants.model_fields
RELUCTANCE = {"clock_fraction": 0.0, "dram_fraction": 0.05, "l2_fraction": 0.05}


@cache
def spec_of(machine: str, changes: Changes = ()) -> GpuSpec:
    """The shipped spec of a card, with what a row changes of it."""
    spec = FAMILY.spec(FAMILY.files[machine]).with_figures(dict(changes))
    assert isinstance(spec, GpuSpec)
    return spec


@cache
def card_of(machine: str, changes: Changes = ()) -> GpuMachine:
    """The shipped card with the shipped constants, for `refitted`."""
    return GpuMachine(spec_of(machine, changes))


def dense_seconds(block: Block, constants: Constants) -> Floats:
    """Time of the best dense kernel for each row's job."""
    machine = card_of(block.machine).refitted(constants)
    return machine.price(machine.lower_problems(block.dense)).latency_s


def predicted(block: Block, constants: Constants) -> Floats:
    """What `block.measured` should be."""
    machine = card_of(block.machine).refitted(constants)
    seconds = machine.price(machine.lower_problems(block.problem, kernel=block.kernel)).latency_s
    return dense_seconds(block, constants) / seconds if block.speedup else seconds


def loss(blocks: Sequence[Block], constants: Constants) -> float:
    """Weighted mean of |log(predicted / measured)| beyond the reading error."""
    total = weight = 0.0
    for block in blocks:
        off = np.abs(np.log(predicted(block, constants) / block.measured))
        weights = block.weights
        total += float(weights @ np.maximum(off - block.noise, 0.0))
        weight += float(weights.sum())
    return total / weight


def fit(blocks: Sequence[Block], start: Constants) -> Constants:
    """All free constants.

    Parameters
    ----------
    blocks : sequence of Block
        What they are fitted on.
    start : Constants
        Which of them are free, and the values of the others. Free values in it play no part.
    """
    return refit(blocks, _neutral(start), set(start.kernels))


def refit(blocks: Sequence[Block], start: Constants, kernels: Collection[str]) -> Constants:
    """Those of cards, dense kernels and `kernels`; `start` holds the others. Cards without rows are unknown again."""
    found = start.model_copy(update={"cards": {kind: start.cards[kind] for kind in KINDS}})
    for _ in range(ROUNDS):
        found = _cards(blocks, found)
        for kernel in DENSE:
            found = fit_family(kernel, blocks, found)
    for kernel in found.kernels:
        if kernel in kernels and kernel not in DENSE:
            found = fit_family(kernel, blocks, found)
    return found


def _neutral(start: Constants) -> Constants:
    """Free values in the middle of their ranges, so that nothing depends on an earlier fit; no card known."""
    cards = dict.fromkeys(KINDS, CardConstants(clock_fraction=0.9))
    found = start.model_copy(update={"cards": cards})
    for kernel, family in start.kernels.items():
        middle = {name: rounded(float(np.sqrt(search_of(name).low * search_of(name).high))) for name in family.free}
        found = found.changed(kernel, middle)
    return found


def _cards(blocks: Sequence[Block], constants: Constants) -> Constants:
    """Those of every card with enough dense rows, and the means of each kind for the others."""
    found = constants
    for machine in sorted({block.machine for block in blocks}):
        dense = [block for block in blocks if block.machine == machine and block.kernel in DENSE]
        if sum(map(len, dense)) >= FEWEST:
            found = found.with_card(machine, _card(machine, dense, found))
    return _with_means(found)


def _card(machine: str, dense: Sequence[Block], constants: Constants) -> CardConstants:
    def cost(point: Point) -> float:
        moved = sum(
            RELUCTANCE[name] * abs(float(np.log(value / OF_CARD[name].default))) for name, value in point.items()
        )
        return loss(dense, constants.with_card(machine, CardConstants(**point))) + moved

    box = {name: next(mark for mark in field.metadata if isinstance(mark, Search)) for name, field in OF_CARD.items()}
    return CardConstants(**minimise(cost, box))


def _with_means(constants: Constants) -> Constants:
    fitted = {name: card for name, card in constants.cards.items() if name not in KINDS}
    for kind in KINDS:
        alike = [card for name, card in fitted.items() if kind_of(spec_of(name)) == kind] or list(fitted.values())
        if not alike:
            continue
        mean = {name: rounded(float(np.mean([getattr(card, name) for card in alike]))) for name in OF_CARD}
        constants = constants.with_card(kind, CardConstants(**mean))
    return constants


def fit_family(kernel: str, blocks: Sequence[Block], constants: Constants) -> Constants:
    """Those of one family from its rows on all cards; as they were where it has too few."""
    chosen = [block for block in blocks if block.kernel == kernel]
    free = constants.of(kernel).free
    if not free or sum(map(len, chosen)) < FEWEST:
        return constants
    box = {name: search_of(name) for name in free}
    return constants.changed(kernel, minimise(lambda point: loss(chosen, constants.changed(kernel, point)), box))
