"""`Comparison`: patterns × machines as a grid of results, with the reason of each speedup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simsparse.errors import InputError
from simsparse.fallback import why_row_is_dense
from simsparse.result import Result


@dataclass(frozen=True)
class Comparison:
    """Results of `compare`, in its order.

    Attributes
    ----------
    machines, patterns : tuple of str
    results : tuple of tuple of Result
        One row a machine, one column a pattern.
    """

    machines: tuple[str, ...]
    patterns: tuple[str, ...]
    results: tuple[tuple[Result, ...], ...]

    @classmethod
    def of(cls, results: Sequence[Result], patterns: Sequence[str]) -> Comparison:
        """Arrange what `compare(…, machines, patterns)` gave.

        Raises
        ------
        InputError
            If the results are not machines times patterns.
        """
        if not patterns or not results or len(results) % len(patterns):
            raise InputError.expected("results", len(results), f"a positive multiple of the {len(patterns)} patterns")
        grid = tuple(tuple(results[i : i + len(patterns)]) for i in range(0, len(results), len(patterns)))
        return cls(tuple(line[0].machine for line in grid), tuple(patterns), grid)

    def rows(self) -> list[dict[str, object]]:
        """One plain row a pair."""
        return [
            {
                "machine": result.machine,
                "pattern": pattern,
                "latency_s": result.latency_s,
                "dense_latency_s": result.dense_latency_s,
                "speedup": result.speedup,
                "energy_j": result.energy_j,
                "dense_energy_j": result.dense_energy_j,
                "energy_gain": result.energy_gain,
                "bound": result.bound,
                "memory_fits": result.footprint.fits,
                "reason": reason(result),
            }
            for line in self.results
            for pattern, result in zip(self.patterns, line, strict=True)
        ]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader has to know before trusting the figures: one sentence a machine."""
        return tuple(text for line in self.results for text in self._of_machine(line))

    def _of_machine(self, line: Sequence[Result]) -> Iterator[str]:
        over = [
            f"{pattern} {result.footprint.total_bytes / 1e9:.3g} GB"
            for pattern, result in zip(self.patterns, line, strict=True)
            if not result.footprint.fits
        ]
        if not over:
            yield from line[0].warnings
        else:
            have = line[0].footprint.memory_bytes / 1e9
            yield f"does not fit {line[0].machine}, which has {have:.3g} GB: {', '.join(over)}"

    def fit(self, machine: int) -> bool:
        """Whether every pattern fits the memory of a machine, by its place in `machines`."""
        return all(result.footprint.fits for result in self.results[machine])

    def columns(self) -> dict[str, list[object]]:
        """The rows as columns."""
        rows = self.rows()
        return {name: [row[name] for row in rows] for name in rows[0]}


def reason(result: Result) -> str:
    """Why a result is as fast as it is: main kernel of the patterned calls, what bounds it, their share of the time.

    Where that kernel gains nothing over dense: why the kernels that use the pattern were not taken.
    """
    calls, time_s = result.plan.calls, result.prices.latency_s * result.counts
    patterned = [i for i, call in enumerate(calls) if call.pattern not in ("", "dense")]
    if not patterned:
        return f"{result.bound}-bound"
    share = float(time_s[patterned].sum() / time_s.sum())
    main = max(patterned, key=lambda i: float(time_s[i]))
    call, bound = calls[main], result.prices.term_names[int(result.prices.bound[main])]
    text = f"{call.kernel}, {bound}-bound, {share:.0%} of the time"
    why = why_row_is_dense(result, main)
    return f"{text}; {why}" if why else text
