"""Compiled: what formats and actions do to the dense counts: compression, gating, skipping, spatial and by position."""

from __future__ import annotations

from numba import njit

from simsparse.dataflow._arrays import (
    ActionCode,
    ActionColumn,
    Asked,
    Count,
    Counts,
    DensityArrays,
    DensityKind,
    Ints,
    LoopColumn,
    MachineArrays,
    ProblemArrays,
    Question,
    Scratch,
    Total,
)
from simsparse.dataflow._dense import kept_inside, kept_outside
from simsparse.dataflow._occupancy import ask, empty, fullest
from simsparse.dataflow._ranks import fiber_tree, tile_metadata
from simsparse.dataflow.rounding import down, up


@njit(cache=True)
def has_position(machine: MachineArrays, level: int, t: int) -> bool:
    """Whether a tensor is skipped by position at a level."""
    for k in range(len(machine.actions)):
        action = machine.actions[k]
        if (
            action[ActionColumn.LEVEL] == level
            and action[ActionColumn.CODE] == ActionCode.SKIP_POSITION
            and action[ActionColumn.TARGET] == t
        ):
            return True
    return False


@njit(cache=True)
def compress(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints, n_loops: int,
    stored: Ints, rounding: int, scratch: Scratch, result: Counts,
) -> None:  # fmt: skip
    """Occupancies, actual data accesses, and accesses to metadata, of every tensor at every level."""
    levels, tensors = stored.shape
    for t in range(tensors):
        for level in range(levels - 1, -1, -1):
            counts = result.counts[level, t]
            counts[Count.ACTUAL_READS : Count.SKIPPED_READS + 3] = 0.0
            result.metadata[level, t] = 0.0
            if stored[level, t] == 0:
                continue
            tile = counts[Count.TILE]
            counts[Count.OCCUPANCY_MAX] = counts[Count.OCCUPANCY_MEAN] = tile
            counts[Count.ACTUAL_READS] = counts[Count.READS]
            counts[Count.ACTUAL_READS + 1] = counts[Count.FILLS]
            counts[Count.ACTUAL_READS + 2] = counts[Count.UPDATES]
            outer = kept_outside(stored, t, level)
            arrives = 1.0  # P(a tile is sent at all)
            if outer >= 0 and machine.compressed[outer, t] != 0:
                arrives = 1.0 - empty(problem, density, asked, t, scratch.extents[level])
                if not has_position(machine, level, t):
                    counts[Count.INSTANCES_MEAN] *= arrives
            if machine.compressed[level, t] != 0:
                kept = density.density[t]
                if not has_position(machine, level, t) and arrives > 0.0:
                    kept = min(1.0, kept / arrives)
                counts[Count.OCCUPANCY_MAX] = fullest(problem, density, asked, t, scratch.extents[level], rounding)
                counts[Count.OCCUPANCY_MEAN] = tile * kept
                for action in range(3):
                    dense = counts[Count.READS + action]
                    counts[Count.ACTUAL_READS + action] = dense - down(dense * (1.0 - kept), rounding)
            if machine.n_ranks[level, t] > 0:
                fiber_tree(problem, machine, loops, n_loops, stored, level, t, scratch)
                out = result.metadata_max[level, t]
                tile_metadata(problem, density, machine, asked, level, t, True, rounding, scratch, result, out)
                for r in range(machine.n_ranks[level, t]):
                    out[r, 0], out[r, 1] = up(out[r, 0], rounding), up(out[r, 1], rounding)
                mean = scratch.ranks
                tile_metadata(problem, density, machine, asked, level, t, False, rounding, scratch, result, mean)
                for r in range(machine.n_ranks[level, t]):
                    for part in range(2):
                        words = mean[r, part] / arrives if arrives > 0.0 else 0.0
                        for action in range(3):
                            passes = counts[Count.READS + action] / tile
                            result.metadata[level, t, r, 0, action, part] = up(words * passes, rounding)


@njit(cache=True)
def met_by_access(
    problem: ProblemArrays, machine: MachineArrays, loops: Ints, n_loops: int, stored: Ints, level: int, t: int,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Fill `scratch.part` with the operations that one access to a tensor at a level serves.

    The word stays in the child from one advance of a relevant temporal loop to the next, and is shared by all
    instances that spatial loops over other dimensions reach.
    """
    part = scratch.part
    part[:] = 1
    levels = len(stored)
    child = kept_inside(stored, t, level)
    resident = n_loops
    if child < levels:
        resident = 0
        for i in range(scratch.start[child] - 1, -1, -1):
            if loops[i, LoopColumn.KIND] == 0 and problem.relevant[t] >> loops[i, LoopColumn.DIM] & 1:
                resident = i + 1
                break
    innermost = -1
    for i in range(n_loops - 1, -1, -1):
        relevant = problem.relevant[t] >> loops[i, LoopColumn.DIM] & 1
        if relevant and innermost < 0:
            innermost = i
        if relevant:
            continue
        if (loops[i, LoopColumn.KIND] == 0 and i >= resident) or (
            loops[i, LoopColumn.KIND] != 0 and i >= scratch.start[level]
        ):
            part[loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
    if innermost >= 0 and machine.block_words[level] > 1.0:
        part[loops[innermost, LoopColumn.DIM]] = min(
            loops[innermost, LoopColumn.FACTOR], int(machine.block_words[level])
        )


@njit(cache=True)
def dead(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints, n_loops: int,
    stored: Ints, level: int, t: int, on: int, scratch: Scratch,
) -> float:  # fmt: skip
    """Fraction of the accesses to a tensor that serve only operations in which some tensor of `on` is zero."""
    met_by_access(problem, machine, loops, n_loops, stored, level, t, scratch)
    part = scratch.part
    joint = density.kind[t] == DensityKind.ASKED and machine.compressed[level, t] != 0
    measured = False
    for c in range(len(density.kind)):
        measured = measured or (on >> c & 1 and density.kind[c] == DensityKind.ASKED)
    if measured and (joint or (on & (on - 1)) != 0):
        everything = (1 << len(part)) - 1
        row = ask(asked, Question.LIVE, t, on, machine.compressed[level, t], part, everything)
        return 1.0 - (asked.values[row, 0] if row >= 0 else 1.0)
    live = 1.0
    for c in range(len(density.kind)):
        if on >> c & 1:
            live *= 1.0 - empty(problem, density, asked, c, part)
    return 1.0 - live


@njit(cache=True)
def save(machine: MachineArrays, level: int, t: int, output: bool, fraction: float, state: int, rounding: int,
         result: Counts) -> None:  # fmt: skip
    """Move a fraction of the accesses from the actual ones to the gated (1) or skipped (2); 0: they vanish.

    Those that vanish take the fills with them: a level outside no longer sends the words.
    """
    counts = result.counts[level, t]
    before = counts[Count.ACTUAL_READS + 2]
    for action in range(3):
        if action == 1 and state != 0:
            continue
        moved = counts[Count.ACTUAL_READS + action] * fraction
        moved = up(moved, rounding) if output and action == 0 and state != 0 else down(moved, rounding)
        moved = min(moved, counts[Count.ACTUAL_READS + action])
        counts[Count.ACTUAL_READS + action] -= moved
        if state > 0:
            counts[Count.ACTUAL_READS + 3 * state + action] += moved
        for r in range(machine.n_ranks[level, t]):
            for part in range(2):
                words = result.metadata[level, t, r, 0, action, part]
                moved = down(words * fraction, rounding)
                result.metadata[level, t, r, 0, action, part] = words - moved
                if state > 0:
                    result.metadata[level, t, r, state, action, part] += moved
    if before > 0.0:
        counts[Count.REDUCTIONS] = up(counts[Count.REDUCTIONS] * counts[Count.ACTUAL_READS + 2] / before, rounding)


@njit(cache=True)
def gate_and_skip(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints, n_loops: int,
    stored: Ints, rounding: int, scratch: Scratch, result: Counts,
) -> None:  # fmt: skip
    """Gating and skipping at storage; a level inside loses what a level outside no longer sends."""
    levels, tensors = stored.shape
    scratch.saved[:] = 0.0
    actions = machine.actions
    for level in range(levels):
        for t in range(tensors):
            if stored[level, t] != 0 and scratch.saved[t] > 0.0:
                save(machine, level, t, t == problem.output, scratch.saved[t], 0, rounding, result)
        k = 0
        while k < len(actions):
            last = k
            best, best_saving, best_dead, best_level = -1, -1.0, 0.0, -1
            while (
                last < len(actions)
                and actions[last, ActionColumn.LEVEL] == actions[k, ActionColumn.LEVEL]
                and (actions[last, ActionColumn.GROUP] == actions[k, ActionColumn.GROUP])
            ):
                t = actions[last, ActionColumn.TARGET]
                at = actions[last, ActionColumn.LEVEL]
                if stored[at, t] == 0:
                    at = kept_outside(stored, t, at)
                if at == level and actions[last, ActionColumn.CODE] <= ActionCode.SKIP:
                    fraction = dead(
                        problem,
                        density,
                        machine,
                        asked,
                        loops,
                        n_loops,
                        stored,
                        at,
                        t,
                        actions[last, ActionColumn.ON],
                        scratch,
                    )
                    saving = machine.charges_pj[at, 0] / machine.block_words[at]
                    saving *= result.counts[at, t, Count.OCCUPANCY_MEAN] * fraction
                    if saving > best_saving:
                        best, best_saving, best_dead, best_level = last, saving, fraction, at
                last += 1
            if best >= 0:
                t = actions[best, ActionColumn.TARGET]
                fraction = best_dead
                if scratch.saved[t] > 0.0:
                    fraction = (
                        max(0.0, 1.0 - (1.0 - fraction) / (1.0 - scratch.saved[t])) if scratch.saved[t] < 1.0 else 0.0
                    )
                save(
                    machine,
                    best_level,
                    t,
                    t == problem.output,
                    fraction,
                    1 + actions[best, ActionColumn.CODE],
                    rounding,
                    result,
                )
                scratch.own[t] = max(scratch.own[t], best_dead)
            k = last
        for t in range(tensors):
            scratch.saved[t] = max(scratch.saved[t], scratch.own[t])
            scratch.own[t] = 0.0


@njit(cache=True)
def skip_lanes(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints, n_loops: int,
    stored: Ints, rounding: int, scratch: Scratch, result: Counts,
) -> int:  # fmt: skip
    """Spatial skipping: instances under a spatial loop over zeros are not there. Gives the tensors whose zeros count.

    The most lanes that the fullest fiber needs are kept, and on average those of nonzero sub-tiles are busy.
    """
    levels, tensors = stored.shape
    box = scratch.box
    used = 0
    shrink_max, shrink_mean = 1.0, 1.0
    for level in range(levels):
        first, last = scratch.spatial_start[level], scratch.start[level + 1]
        x, y, mean = 1.0, 1.0, 1.0
        dense_x, dense_y = 1.0, 1.0
        on = 0
        for k in range(len(machine.actions)):
            action = machine.actions[k]
            if action[ActionColumn.LEVEL] == level and action[ActionColumn.CODE] == ActionCode.SKIP_SPATIAL:
                on |= action[ActionColumn.ON]
        done = 0
        box[:] = scratch.extents[level + 1]
        for i in range(last - 1, first - 1, -1):
            factor = float(loops[i, LoopColumn.FACTOR])
            most = factor
            box[loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
            for c in range(tensors):
                source = kept_outside(stored, c, level + 1)
                if not on >> c & 1 or not problem.relevant[c] >> loops[i, LoopColumn.DIM] & 1 or source < 0:
                    continue
                if machine.compressed[source, c] == 0:
                    continue
                most = min(most, fullest(problem, density, asked, c, box, rounding))
                if not done >> c & 1:
                    # The innermost loop says which sub-tiles are nonzero; outer ones contain them.
                    box[loops[i, LoopColumn.DIM]] //= loops[i, LoopColumn.FACTOR]
                    mean *= 1.0 - empty(problem, density, asked, c, box)
                    box[loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
                done |= 1 << c
            if loops[i, LoopColumn.KIND] == 1:
                x, dense_x = x * most, dense_x * factor
            else:
                y, dense_y = y * most, dense_y * factor
        apply_lanes(stored, level, used, shrink_max, shrink_mean, scratch, result)
        used |= done
        shrink_max *= down(x, rounding) * down(y, rounding) / (dense_x * dense_y)
        shrink_mean *= mean
    result.totals[Total.INSTANCES_MAX] = scratch.instances[levels] * shrink_max
    result.totals[Total.INSTANCES_MEAN] = scratch.instances[levels] * shrink_mean
    return used


@njit(cache=True)
def apply_lanes(
    stored: Ints, level: int, on: int, shrink_max: float, shrink_mean: float, scratch: Scratch, result: Counts
) -> None:
    """Instances of a level that are left under spatial skipping outside of it."""
    for t in range(stored.shape[1]):
        counts = result.counts[level, t]
        counts[Count.INSTANCES_MAX] = scratch.instances[level] * shrink_max
        if on >> t & 1:
            counts[Count.INSTANCES_MEAN] = scratch.instances[level] * shrink_mean
        else:
            counts[Count.INSTANCES_MEAN] *= shrink_mean


@njit(cache=True)
def skip_positions(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, loops: Ints,
    stored: Ints, rounding: int, scratch: Scratch, result: Counts,
) -> int:  # fmt: skip
    """Skipping by position: nonzeros of a tile are packed into as many lanes as the level has over the tensor.

    A tile with n nonzeros takes ⌈n/S⌉ rounds of S lanes; other operands are read once a round. Gives the tensors
    whose zeros are packed away.
    """
    levels, tensors = stored.shape
    used = 0
    for level in range(levels):
        rounds = scratch.rounds
        rounds[:] = 1.0
        here = 0
        for x in range(tensors):
            if not has_position(machine, level, x) or stored[level, x] == 0:
                continue
            here |= 1 << x
            lanes = 1
            for i in range(scratch.spatial_start[level], scratch.start[level + 1]):
                if problem.relevant[x] >> loops[i, LoopColumn.DIM] & 1:
                    lanes *= loops[i, LoopColumn.FACTOR]
            if machine.compressed[level, x] == 0:
                continue
            row = ask(asked, Question.LANES, x, lanes, 0, scratch.extents[level], problem.relevant[x])
            outer = kept_outside(stored, x, level)
            sent = outer >= 0 and machine.compressed[outer, x] != 0
            turns = asked.values[row, 0 if sent else 1] if row >= 0 else 1.0
            rounds[x] = turns / (result.counts[level, x, Count.TILE] / lanes)
            busy = asked.values[row, 2] if row >= 0 else 1.0
            result.totals[Total.INSTANCES_MEAN] *= busy / lanes
        used |= here
        if here == 0:
            continue
        for x in range(tensors):
            if stored[level, x] == 0 or x == problem.output:
                continue
            counts = result.counts[level, x]
            reads = counts[Count.READS]
            if machine.compressed[level, x] != 0:
                reads *= density.density[x]
            for y in range(tensors):
                if y != x and here >> y & 1:
                    reads *= rounds[y]
            counts[Count.ACTUAL_READS] = up(reads, rounding)
    return used
