"""Compiled: computes, energy and cycles from the counts, and `evaluate`, which does all of it for one mapping."""

from __future__ import annotations

import math

from numba import njit

from simsparse.dataflow._actions import compress, gate_and_skip, met_by_access, skip_lanes, skip_positions
from simsparse.dataflow._arrays import (
    ActionCode,
    ActionColumn,
    Asked,
    Charge,
    Count,
    Counts,
    DensityArrays,
    DensityKind,
    Ints,
    MachineArrays,
    ProblemArrays,
    Question,
    Scratch,
    Total,
)
from simsparse.dataflow._dense import dense_counts, kept_outside, survey
from simsparse.dataflow._occupancy import ask, empty
from simsparse.dataflow.rounding import down, six_digits, up


@njit(cache=True)
def has_metadata(machine: MachineArrays, stored: Ints, t: int) -> bool:
    """Whether the compute is told where a tensor is zero."""
    innermost = kept_outside(stored, t, len(stored))
    return innermost >= 0 and machine.compressed[innermost, t] != 0


@njit(cache=True)
def live_operations(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints, n_loops: int,
    stored: Ints, rounding: int, packed: int, scratch: Scratch,
) -> tuple[float, int]:  # fmt: skip
    """Fraction of the operations that are left by what is skipped on the way, and the tensors whose zeros decide it.

    What skips are actions at storage, lanes and positions.
    """
    live, deciding = 1.0, 0
    measured = False
    box = scratch.box
    box[:] = 1
    for c in range(len(density.kind)):
        part_live = 1.0
        if packed >> c & 1 and has_metadata(machine, stored, c):
            part_live = density.density[c]
            deciding |= 1 << c
        for k in range(len(machine.actions)):
            action = machine.actions[k]
            if (
                action[ActionColumn.CODE] > ActionCode.SKIP
                or action[ActionColumn.TARGET] == problem.output
                or not action[ActionColumn.ON] >> c & 1
            ):
                continue
            level = action[ActionColumn.LEVEL]
            if stored[level, action[ActionColumn.TARGET]] == 0:
                level = kept_outside(stored, action[ActionColumn.TARGET], level)
            met_by_access(problem, machine, loops, n_loops, stored, level, action[ActionColumn.TARGET], scratch)
            left = 1.0 - empty(problem, density, asked, c, scratch.part)
            left = left if density.kind[c] == DensityKind.ASKED else six_digits(left, rounding)
            if left <= part_live:
                part_live = left
                # Dimensions that tensors share are single in every window, so that one box holds all windows.
                for d in range(len(box)):
                    if problem.relevant[c] >> d & 1:
                        box[d] = scratch.part[d]
            deciding |= 1 << c
        measured = measured or (deciding >> c & 1 and density.kind[c] == DensityKind.ASKED)
        live *= part_live
    if measured and deciding & (deciding - 1):
        row = ask(asked, Question.PAIRS, 0, deciding, 0, box, (1 << len(box)) - 1)
        live = asked.values[row, 0] if row >= 0 else live
    return live, deciding


@njit(cache=True)
def compute_counts(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints, n_loops: int,
    stored: Ints, rounding: int, packed: int, scratch: Scratch, result: Counts,
) -> None:  # fmt: skip
    """Operations: all, done, gated, skipped; those that never reach the compute are none of them."""
    levels, tensors = stored.shape
    total = scratch.outside[n_loops] * scratch.instances[levels]
    live, deciding = live_operations(
        problem, density, machine, asked, loops, n_loops, stored, rounding, packed, scratch
    )
    both, told, neither, operands, present = 1.0, 0, 1.0, 0, 0.0
    measured = False
    for c in range(tensors):
        if c == problem.output:
            continue
        operands |= 1 << c
        present += density.density[c]
        both *= six_digits(density.density[c], rounding)
        measured = measured or density.kind[c] == DensityKind.ASKED
        if has_metadata(machine, stored, c):
            told |= 1 << c
            neither *= 1.0 - six_digits(density.density[c], rounding)
        else:
            neither = 0.0
    if measured:
        scratch.part[:] = 1
        row = ask(asked, Question.PAIRS, 0, operands, 0, scratch.part, 0)
        both = asked.values[row, 0] if row >= 0 else both
        neither = neither if neither == 0.0 else 1.0 - present + both
    if deciding == 0:
        live = 1.0 - neither
    both = min(both, live)
    idle = (live - both) * total  # operations with a zero operand that are left
    skipped = idle if machine.compute_skips != 0 and told != 0 else 0.0
    gated = idle - skipped if machine.compute_gates != 0 else 0.0
    totals = result.totals
    totals[Total.COMPUTES] = total
    totals[Total.SKIPPED] = down(skipped, rounding)
    totals[Total.GATED] = down(gated, rounding)
    absent = math.floor(total * (1.0 - live)) if rounding != 0 else total * (1.0 - live)
    totals[Total.ACTUAL] = total - totals[Total.SKIPPED] - totals[Total.GATED] - absent
    busy = (
        (totals[Total.ACTUAL] + totals[Total.GATED]) / totals[Total.INSTANCES_MEAN]
        if totals[Total.INSTANCES_MEAN] > 0.0
        else 0.0
    )
    totals[Total.COMPUTE_CYCLES] = up(busy, rounding)
    energy = 0.0
    for state in range(3):
        energy += totals[Total.ACTUAL + state] * machine.compute_pj[state]
    totals[Total.COMPUTE_ENERGY_PJ] = energy


@njit(cache=True)
def metadata_bits(machine: MachineArrays, level: int, t: int, state: int, action: int, result: Counts) -> float:
    """Bits of metadata and payloads that an action moves."""
    bits = 0.0
    for r in range(machine.n_ranks[level, t]):
        for part in range(2):
            bits += result.metadata[level, t, r, state, action, part] * machine.rank_bits[level, t, r, part]
    return bits


@njit(cache=True)
def storage_energy(machine: MachineArrays, stored: Ints, level: int, t: int, rounding: int, result: Counts) -> float:
    """Energy in pJ of one instance, vector access by vector access."""
    counts = result.counts[level, t]
    charges = machine.charges_pj[level]
    energy = 0.0
    width = machine.metadata_width_bits[level]
    for state in range(3):
        for action in range(3):
            at = 3 * state + action
            energy += up(counts[Count.ACTUAL_READS + at] / machine.block_words[level], rounding) * charges[at]
            if machine.n_ranks[level, t] > 0 and width > 0.0:
                bits = metadata_bits(machine, level, t, state, action, result)
                energy += up(bits / width, rounding) * charges[Charge.METADATA + at]
    outer = kept_outside(stored, t, level)
    if outer >= 0 and machine.compressed[outer, t] != 0 and machine.compressed[level, t] == 0:
        energy += counts[Count.ACTUAL_READS + 1] * charges[Charge.DECOMPRESSION]
        above = result.counts[outer, t]
        share = (
            above[Count.INSTANCES_MEAN] / counts[Count.INSTANCES_MEAN] if counts[Count.INSTANCES_MEAN] > 0.0 else 0.0
        )
        energy += above[Count.ACTUAL_READS + 2] * share * charges[Charge.COMPRESSION]
    return energy


@njit(cache=True)
def words_moved(machine: MachineArrays, level: int, t: int, write: bool, rounding: int, result: Counts) -> float:
    """Words a cycle budget must carry, of the average instance: actual and gated accesses with their metadata."""
    counts = result.counts[level, t]
    words = 0.0
    bits = 0.0
    for action in range(1, 3) if write else range(1):
        for state in range(2):
            words += counts[Count.ACTUAL_READS + 3 * state + action]
            bits += metadata_bits(machine, level, t, state, action, result)
    words += down(bits / machine.word_bits[level], rounding)
    return up(words * counts[Count.INSTANCES_MEAN] / counts[Count.INSTANCES_MAX], rounding)


@njit(cache=True)
def price(machine: MachineArrays, stored: Ints, rounding: int, result: Counts) -> None:
    """Energy of each level, cycles of each level, and what bounds the mapping."""
    levels, tensors = stored.shape
    totals = result.totals
    compute_cycles = totals[Total.COMPUTE_CYCLES]
    cycles, bound = compute_cycles, levels
    energy = totals[Total.COMPUTE_ENERGY_PJ]
    for level in range(levels):
        reads, writes = 0.0, 0.0
        for t in range(tensors):
            counts = result.counts[level, t]
            counts[Count.ENERGY_PJ] = counts[Count.READ_WORDS] = counts[Count.WRITE_WORDS] = 0.0
            if stored[level, t] == 0:
                continue
            one = storage_energy(machine, stored, level, t, rounding, result)
            counts[Count.ENERGY_PJ] = one * counts[Count.INSTANCES_MEAN]
            energy += counts[Count.ENERGY_PJ]
            counts[Count.READ_WORDS] = words_moved(machine, level, t, False, rounding, result)
            counts[Count.WRITE_WORDS] = words_moved(machine, level, t, True, rounding, result)
            reads += counts[Count.READ_WORDS]
            writes += counts[Count.WRITE_WORDS]
        slowdown = 1.0
        if compute_cycles > 0.0:
            if reads > 0.0:
                slowdown = min(slowdown, machine.read_words_per_cycle[level] / (reads / compute_cycles))
            if writes > 0.0:
                slowdown = min(slowdown, machine.write_words_per_cycle[level] / (writes / compute_cycles))
        needed = max(reads / machine.read_words_per_cycle[level], writes / machine.write_words_per_cycle[level])
        result.levels[level, 1] = slowdown
        result.levels[level, 0] = (
            up(compute_cycles / slowdown, rounding) if compute_cycles > 0.0 else up(needed, rounding)
        )
        if result.levels[level, 0] > cycles:
            cycles, bound = result.levels[level, 0], level
    result.levels[levels, 0], result.levels[levels, 1] = compute_cycles, 1.0
    totals[Total.CYCLES], totals[Total.BOUND], totals[Total.ENERGY_PJ] = cycles, bound, energy
    room = cycles * totals[Total.INSTANCES_MAX]
    totals[Total.UTILISATION] = totals[Total.ACTUAL] / room if room > 0.0 else 0.0


@njit(cache=True)
def evaluate(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints, n_loops: int,
    stored: Ints, rounding: int, scratch: Scratch, result: Counts,
) -> None:  # fmt: skip
    """Count and price one mapping.

    Parameters
    ----------
    loops : (n, 4) ndarray
        `LoopColumn`; the first `n_loops` rows count, factors of 1 are left out.
    stored : (L, T) ndarray
        `Stored`.
    """
    survey(loops, n_loops, scratch)
    dense_counts(problem, loops, n_loops, stored, rounding, scratch, result)
    compress(problem, density, machine, asked, loops, n_loops, stored, rounding, scratch, result)
    gate_and_skip(problem, density, machine, asked, loops, n_loops, stored, rounding, scratch, result)
    packed = skip_lanes(problem, density, machine, asked, loops, n_loops, stored, rounding, scratch, result)
    packed |= skip_positions(problem, density, machine, asked, loops, stored, rounding, scratch, result)
    compute_counts(problem, density, machine, asked, loops, n_loops, stored, rounding, packed, scratch, result)
    price(machine, stored, rounding, result)
