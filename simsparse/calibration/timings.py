"""What a family gives that times products on a card of this machine: rows for `validate`, and a comparison of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median

from simsparse.profiles.rows import Timed, table
from simsparse.result import dumps


@dataclass(frozen=True)
class Compared:
    """A product: its dense time, and the speedups of `Timings.others` over it, None where one did not run it."""

    dtype: str
    m: int
    n: int
    k: int
    dense_s: float
    speedups: tuple[float | None, ...]


@dataclass(frozen=True)
class Timings:
    """Timed products.

    Attributes
    ----------
    device : str
        As the driver calls it.
    source : str
        What timed them, with versions.
    dense : str
        System of the dense rows.
    warnings : tuple of str
        What was left out, and why.
    """

    device: str
    source: str
    dense: str
    rows: tuple[Timed, ...]
    warnings: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """Systems of the other rows, in order."""
        return tuple(dict.fromkeys(row.system for row in self.rows if row.system != self.dense))

    def compared(self) -> list[Compared]:
        """Products that have a dense time."""
        times: dict[tuple[str, int, int, int], dict[str, float]] = {}
        for row in self.rows:
            times.setdefault((row.dtype, row.m, row.n, row.k), {})[row.system] = median(row.seconds)
        return [
            Compared(*product, taken[self.dense], tuple(_over(taken[self.dense], taken.get(o)) for o in self.others))
            for product, taken in times.items()
            if self.dense in taken
        ]

    def to_csv(self) -> str:
        """The rows in the columns of `simsparse validate`."""
        return table(self.rows, self.source, "calibrate")

    def to_json(self) -> str:
        """One JSON object with `schema_version`: the products compared."""
        return dumps({
            "device": self.device, "source": self.source, "dense": self.dense, "others": list(self.others),
            "products": [asdict(line) for line in self.compared()], "warnings": list(self.warnings),
        })  # fmt: skip


def _over(dense_s: float, taken_s: float | None) -> float | None:
    return None if taken_s is None else dense_s / taken_s
