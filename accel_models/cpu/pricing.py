"""The rule by which a CPU's terms combine, compiled over arrays of kernel calls.

    busy     = (arithmetic + index cycles) / clock / threads, times the share of the fullest thread
    level    = bytes / (bandwidth of one core x busy cores); memory also: achieved bandwidth / instances
    chip     = longest of (busy, L2, L3) + exposed x (the others' sum)
    latency  = overhead + longer of (chip, memory) + exposed to memory x the shorter + power

What overlaps does so but for an exposed share of what is shorter: one share among the parts of a core and its caches,
another between these and memory, whose streams prefetchers start late. The power term is what it takes to
spread the dynamic energy of all instances over enough time for the power limit: the clock falls until it fits.
"""

from __future__ import annotations

import numpy as np

from accel_models.cpu.columns import MapColumn, Term
from simsparse.compiled import compiled
from simsparse.plan import Floats, Ints

# Plain integers: numba freezes them into the compiled code.
MACS, TYPE, CORE_CYCLES, INDEX_CYCLES, L2_BYTES, L3_BYTES, DRAM_BYTES, UNITS, UNEVEN = (
    int(c)
    for c in (
        MapColumn.MACS, MapColumn.TYPE, MapColumn.CORE_CYCLES, MapColumn.INDEX_CYCLES, MapColumn.L2_BYTES,
        MapColumn.L3_BYTES, MapColumn.DRAM_BYTES, MapColumn.UNITS, MapColumn.UNEVEN,
    )
)  # fmt: skip
OVERHEAD_CYCLES, INSTRUCTIONS = int(MapColumn.OVERHEAD_CYCLES), int(MapColumn.INSTRUCTIONS)
ROOF_CYCLES, ROOF_BYTES = int(MapColumn.ROOF_CYCLES), int(MapColumn.ROOF_BYTES)
COMPUTE, INDEX, IMBALANCE, L2, L3, DRAM, OVERHEAD, EXPOSED, POWER = (int(term) for term in Term)
# Places in the array of machine parameters.
(
    P_THREADS, P_INSTANCES, P_CLOCK, P_L2, P_L3, P_DRAM_CORE, P_DRAM, P_DRAM_PEAK, P_EXPOSED, P_DRAM_EXPOSED, P_TDP,
    P_IDLE, P_INSTRUCTION_J, P_L2_J, P_L3_J, P_DRAM_J, P_MAC_J,
) = range(17)  # fmt: skip


@compiled
def price(
    rows: Floats, p: Floats, terms: Floats, energy: Floats, latency: Floats, dynamic: Floats, roof: Floats, bound: Ints
) -> None:
    """Fill terms (n, 9), energy parts (n, 6), latency, dynamic energy, roofline and bound (n,) of mapping `rows`.

    `p` holds the machine: the places named `P_...`, from `P_MAC_J` on energies of a multiply-accumulate by type.
    """
    threads, clock = p[P_THREADS], p[P_CLOCK]
    for i in range(rows.shape[0]):
        units = rows[i, UNITS]
        cores = min(threads, units)
        compute = rows[i, CORE_CYCLES] / clock / threads
        index = rows[i, INDEX_CYCLES] / clock / threads
        fullest = np.ceil(units / threads) / units * threads * rows[i, UNEVEN]
        imbalance = (compute + index) * (fullest - 1.0)
        l2 = rows[i, L2_BYTES] / (p[P_L2] * cores)
        # What comes from memory goes past the shared cache into private ones.
        kept = max(rows[i, L3_BYTES] - rows[i, DRAM_BYTES], 0.0)
        l3 = kept / (p[P_L3] * cores) if p[P_L3] > 0.0 else 0.0
        dram = rows[i, DRAM_BYTES] / min(p[P_DRAM_CORE] * cores, p[P_DRAM] / p[P_INSTANCES])
        busy = compute + index + imbalance
        longest = max(busy, l2, l3, dram)
        within = max(busy, l2, l3)
        behind = p[P_EXPOSED] * (busy + l2 + l3 - within)
        chip = within + behind
        exposed = max(chip, dram) + p[P_DRAM_EXPOSED] * min(chip, dram) - longest
        overhead = rows[i, OVERHEAD_CYCLES] / clock
        uncapped = overhead + longest + exposed

        energy[i, 0] = rows[i, MACS] * p[P_MAC_J + int(rows[i, TYPE])]
        energy[i, 1] = rows[i, INSTRUCTIONS] * p[P_INSTRUCTION_J]
        energy[i, 2] = rows[i, L2_BYTES] * p[P_L2_J]
        energy[i, 3] = rows[i, L3_BYTES] * p[P_L3_J]
        energy[i, 4] = rows[i, DRAM_BYTES] * p[P_DRAM_J]
        dynamic[i] = energy[i, 0] + energy[i, 1] + energy[i, 2] + energy[i, 3] + energy[i, 4]
        power = max(dynamic[i] * p[P_INSTANCES] / (p[P_TDP] - p[P_IDLE]) - uncapped, 0.0)
        latency[i] = uncapped + power
        energy[i, 5] = p[P_IDLE] / p[P_INSTANCES] * latency[i]

        terms[i, COMPUTE], terms[i, INDEX], terms[i, IMBALANCE] = compute, index, imbalance
        terms[i, L2], terms[i, L3], terms[i, DRAM] = l2, l3, dram
        terms[i, OVERHEAD], terms[i, EXPOSED], terms[i, POWER] = overhead, exposed, power
        roof[i] = max(rows[i, ROOF_CYCLES] / clock / threads, rows[i, ROOF_BYTES] / p[P_DRAM_PEAK])

        if power > 0.0:
            bound[i] = POWER
        elif overhead > longest:
            bound[i] = OVERHEAD
        elif longest == busy:
            bound[i] = COMPUTE
            if index > compute:
                bound[i] = INDEX
            if imbalance > max(compute, index):
                bound[i] = IMBALANCE
        elif longest == dram:
            bound[i] = DRAM
        elif longest == l3:
            bound[i] = L3
        else:
            bound[i] = L2
