"""`Result`: what one workload costs on one machine, call by call, with the reason, beside the dense baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simsparse.capacity import Footprint, footprint
from simsparse.errors import InputError
from simsparse.fallback import unused_patterns
from simsparse.intervals import Bounds, Calls, IntervalColumn
from simsparse.inventory import layer_ranges, methods_of
from simsparse.plan import COMPUTE_TYPES, Floats, Plan, Prices, ProblemColumn, ProblemKind, Provenance, Roofs
from simsparse.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Priced:
    """A plan, and what its calls cost, one call each."""

    plan: Plan
    prices: Prices

    @cached_property
    def counts(self) -> Floats:
        """How often each call runs, shape (n,)."""
        return np.array([call.count for call in self.plan.calls], dtype=np.float64)

    @property
    def latency_s(self) -> float:
        """Of the whole step: calls run one after the other."""
        return float(self.prices.latency_s @ self.counts)

    @property
    def energy_j(self) -> float:
        """Of the whole step, on one device."""
        return float(self.prices.energy_j @ self.counts)

    @cached_property
    def intervals(self) -> Calls | None:
        """What is known about how far the calls are off; None where the machine does not say."""
        return Calls.of(self.prices, self.plan.kernel, self.counts)


@dataclass(frozen=True, kw_only=True)
class Baseline(Priced):
    """What speedup is over: a priced plan of the dense workload."""

    name: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(Priced):
    """A priced plan and what is known about it. Rows are kernel calls; a row's figures are of one call.

    Attributes
    ----------
    workload : Workload
    machine : str
    plan : Plan
    prices : Prices
    baseline : Baseline
    footprint : Footprint
    provenance : Provenance
    roofs : Roofs, optional
        Of the machine, for pictures.
    """

    workload: Workload
    machine: str
    baseline: Baseline
    footprint: Footprint
    provenance: Provenance
    roofs: Roofs | None = None

    @property
    def dense_latency_s(self) -> float:
        """Of the baseline."""
        return self.baseline.latency_s

    @property
    def dense_energy_j(self) -> float:
        """Of the baseline."""
        return self.baseline.energy_j

    @property
    def speedup(self) -> float:
        """Baseline time over this time."""
        return self.dense_latency_s / self.latency_s

    @property
    def latency_interval_s(self) -> Bounds | None:
        """Bounds of the 80 % interval of `latency_s`; None where the machine gives none."""
        return None if self.intervals is None else self.intervals.latency_s

    @property
    def speedup_interval(self) -> Bounds | None:
        """The same of `speedup`."""
        return None if self.intervals is None else self.intervals.speedup(self.dense_latency_s)

    @property
    def baseline_text(self) -> str:
        """What speedup is over, in words."""
        against = self.baseline.plan.workload
        if against is None or any(call.pattern not in ("", "dense") for call in self.baseline.plan.calls):
            return f"{self.baseline.name}, as it was given"
        kept, done = methods_of(against), methods_of(self.workload)
        both = [text for text in done if text in kept]
        alone = [text for text in done if text not in kept]
        told = [f"with {', '.join(both)} too"] if both else []
        told += [f"without {', '.join(alone)}"] if alone else []
        return ", ".join(["dense on the best kernels", *told])

    @property
    def energy_gain(self) -> float:
        """Baseline energy over this energy."""
        return self.dense_energy_j / self.energy_j

    @property
    def tokens_per_s(self) -> float:
        """Tokens (images) of the step over its time."""
        return self.workload.tokens / self.latency_s

    @property
    def tokens_per_j(self) -> float:
        """Tokens (images) of the step over the energy of all devices."""
        return self.workload.tokens / self.all_devices_energy_j

    @property
    def all_devices_energy_j(self) -> float:
        """Of the whole step on all devices; in a pipeline the stages that wait burn their idle power."""
        idle_j = self.energy_j - float(self.prices.dynamic_j @ self.counts)
        beside = self.workload.devices // self.workload.stages
        return beside * (self.energy_j + (self.workload.stages - 1) * idle_j)

    @property
    def bound(self) -> str:
        """What bounds most of the time."""
        return self.prices.term_names[int(np.argmax(self.bound_seconds))]

    @cached_property
    def bound_seconds(self) -> Floats:
        """Time spent in calls bound by each of `prices.term_names`, shape (t,)."""
        time_s = self.prices.latency_s * self.counts
        return np.bincount(self.prices.bound, weights=time_s, minlength=len(self.prices.term_names)).astype(np.float64)

    @cached_property
    def row_dense_latency_s(self) -> Floats:
        """Baseline time of the ops of each row, for one call; NaN where the baseline has no such op. Shape (n,).

        Where a baseline call covers other ops together, each op has an equal share of it.
        """
        shares: dict[tuple[str, int], float] = {}
        for call, latency_s in zip(self.baseline.plan.calls, self.baseline.prices.latency_s.tolist(), strict=True):
            for layer in call.layers or (0,):
                for name in call.ops:
                    shares[name, layer] = latency_s / len(call.ops)
        rows = []
        for call in self.plan.calls:
            layers = call.layers or (0,)
            found = [shares.get((name, layer), np.nan) for name in call.ops for layer in layers]
            rows.append(sum(found) / len(layers))
        return np.array(rows)

    @cached_property
    def needed_flops(self) -> Floats:
        """Dense FLOPs of each call without those of scores that a causal mask or window leaves out, shape (n,)."""
        problem = self.plan.problem
        attention = problem[:, ProblemColumn.KIND] == ProblemKind.ATTENTION
        return np.where(attention, self.prices.flops * problem[:, ProblemColumn.NEEDED], self.prices.flops)

    @cached_property
    def peak_fraction(self) -> Floats:
        """Needed FLOP/s over the dense peak of the type, shape (n,); NaN for streams or without `roofs`.

        More than one only where zeros of a pattern are skipped, since they count.
        """
        peaks = dict(self.roofs.flops_per_s) if self.roofs is not None else {}
        of_type = np.array([peaks.get(name, np.nan) for name in COMPUTE_TYPES])
        problem = self.plan.problem
        products = np.isin(problem[:, ProblemColumn.KIND], (ProblemKind.GEMM, ProblemKind.ATTENTION))
        peak = np.where(products, of_type[problem[:, ProblemColumn.COMPUTE].astype(np.int64)], np.nan)
        return self.needed_flops / self.prices.latency_s / peak

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader has to know before trusting the figures."""
        found = []
        memory = self.footprint
        if not memory.fits:
            need, have = memory.total_bytes / 1e9, memory.memory_bytes / 1e9
            found.append(
                f"needs {need:.3g} GB, {self.machine} has {have:.3g} GB; the largest batch that fits is "
                f"{memory.largest_batch}"
            )
        elif (dense := self._baseline_footprint) is not None and not dense.fits:
            need, have = dense.total_bytes / 1e9, dense.memory_bytes / 1e9
            found.append(
                f"the baseline needs {need:.3g} GB, {self.machine} has {have:.3g} GB: it could not run, its time is "
                f"what it would take"
            )
        if not self.workload.weights and self.footprint.total_bytes == 0:
            found.append("the workload lists no weights: memory was not checked")
        return tuple(found)

    @cached_property
    def _baseline_footprint(self) -> Footprint | None:
        plan = self.baseline.plan
        return None if plan.workload is None else footprint(plan.workload, plan, self.footprint.memory_bytes)

    def columns(self) -> dict[str, list[object]]:
        """The rows as plain columns, one list per figure; what every table and file is made of."""
        prices, calls = self.prices, self.plan.calls
        seconds = prices.latency_s
        dense = self.row_dense_latency_s
        columns: dict[str, list[object]] = {
            "ops": [" + ".join(call.ops) for call in calls],
            "kernel": [call.kernel for call in calls],
            "pattern": [call.pattern for call in calls],
            "count": [call.count for call in calls],
            "layers": [layer_ranges(call.layers) for call in calls],
            "latency_s": seconds.tolist(),
            "total_latency_s": (seconds * self.counts).tolist(),
            "dense_latency_s": dense.tolist(),
            "speedup": (dense / seconds).tolist(),
            "energy_j": prices.energy_j.tolist(),
            **self._bounds(),
            "flops": prices.flops.tolist(),
            "bound": [prices.term_names[i] for i in prices.bound],
            "peak_fraction": self.peak_fraction.tolist(),
            "roofline_fraction": (prices.roofline_s / seconds).tolist(),
        }
        for index, name in enumerate(prices.term_names):
            columns[f"{name}_s"] = prices.terms_s[:, index].tolist()
        for index, name in enumerate(prices.level_names):
            columns[f"{name}_bytes"] = prices.level_bytes[:, index].tolist()
        for index, name in enumerate(prices.energy_names):
            columns[f"{name}_j"] = prices.energy_terms_j[:, index].tolist()
        columns["alternatives"] = [
            "; ".join(
                f"{a.kernel} {a.latency_s:.3g} s" if a.latency_s is not None else f"{a.kernel}: {a.reason}"
                for a in call.alternatives
            )
            for call in calls
        ]
        return columns

    def _bounds(self) -> dict[str, list[object]]:
        """Columns of the 80 % interval of each call's latency, on machines that give one."""
        if self.prices.interval is None:
            return {}
        bounds = self.prices.latency_s[:, None] * self.prices.interval
        return {
            "latency_low_s": bounds[:, IntervalColumn.LATENCY_LOW].tolist(),
            "latency_high_s": bounds[:, IntervalColumn.LATENCY_HIGH].tolist(),
        }

    def to_frame(self) -> pd.DataFrame:
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def summary(self) -> dict[str, object]:
        """Totals and provenance as plain values."""
        memory = self.footprint
        return {
            "workload": self.workload.name,
            "phase": str(self.workload.phase),
            "batch": self.workload.batch,
            "seq": self.workload.seq,
            "context": self.workload.context,
            "assumed": list(self.workload.assumed),
            "dtype": str(self.workload.dtype),
            "transforms": list(self.workload.transforms),
            "machine": self.machine,
            "latency_s": self.latency_s,
            "dense_latency_s": self.dense_latency_s,
            "speedup": self.speedup,
            "latency_interval_s": self.latency_interval_s,
            "speedup_interval": self.speedup_interval,
            "baseline": self.baseline_text,
            "devices": self.workload.devices,
            "energy_j": self.energy_j,
            "dense_energy_j": self.dense_energy_j,
            "all_devices_energy_j": self.all_devices_energy_j,
            "energy_gain": self.energy_gain,
            "unit": self.workload.unit,
            "tokens_per_s": self.tokens_per_s,
            "tokens_per_j": self.tokens_per_j,
            "bound": self.bound,
            "bound_s": dict(zip(self.prices.term_names, self.bound_seconds.tolist(), strict=True)),
            "parameters": self.workload.parameters,
            "flops": self.workload.flops,
            "memory": {
                "weights_bytes": memory.weights_bytes,
                "metadata_bytes": memory.metadata_bytes,
                "kv_cache_bytes": memory.kv_cache_bytes,
                "activation_bytes": memory.activation_bytes,
                "optimizer_bytes": memory.optimizer_bytes,
                "total_bytes": memory.total_bytes,
                "memory_bytes": memory.memory_bytes,
                "fits": memory.fits,
                "largest_batch": memory.largest_batch,
            },
            "unused_patterns": list(unused_patterns(self)),
            "warnings": list(self.warnings),
            "provenance": {
                "spec_hash": self.provenance.spec_hash,
                "constants_hash": self.provenance.constants_hash,
                "unverified": list(self.provenance.unverified),
                "assumed": list(self.provenance.assumed),
            },
        }

    def to_json(self) -> str:
        """Totals, provenance and rows as one JSON object with `schema_version`."""
        columns = self.columns()
        names = list(columns)
        calls = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for call, entry in zip(calls, self.plan.calls, strict=True):
            call["layers"] = list(entry.layers)
            call["alternatives"] = [
                {"kernel": a.kernel, "latency_s": a.latency_s, "reason": a.reason} for a in entry.alternatives
            ]
        return dumps({**self.summary(), "calls": calls})

    def to_parquet(self, path: str | Path) -> None:
        """Write the rows, with the totals in the file's metadata.

        Raises
        ------
        InputError
            If the path cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(self.columns())
        note = {b"simsparse": dumps(self.summary()).encode()}
        try:
            pq.write_table(table.replace_schema_metadata(note), path)
        except OSError as error:
            raise InputError.expected("output", str(path), f"a path that can be written ({error.strerror})") from None

    def __repr__(self) -> str:
        name, seconds, gain = self.workload.name, self.latency_s, self.speedup
        return f"<Result: {name} on {self.machine}, {seconds:.4g} s, {gain:.2f} times as fast as dense>"

    def _repr_html_(self) -> str:
        from simsparse.render import result_html

        return result_html(self)

    def __rich__(self) -> object:
        from simsparse.render import result_table

        return result_table(self)


def dumps(data: Mapping[str, object]) -> str:
    """Strict JSON with the schema version first; NaN and infinity become null."""
    return json.dumps(_finite({"schema_version": SCHEMA_VERSION, **data}), allow_nan=False, indent=1)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
