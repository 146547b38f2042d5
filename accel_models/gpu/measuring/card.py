"""`measure`: rows of 2:4 and dense products timed on the card of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from accel_models.gpu.measuring.shapes import Layer, layers
from accel_models.gpu.measuring.timing import Job, Queue, in_turns
from accel_models.gpu.measuring.torch_card import PAD, TorchCard, torch_with_a_card
from simsparse.calibration.measured import Watch
from simsparse.calibration.timings import Timings
from simsparse.errors import UnsupportedError
from simsparse.profiles.rows import Timed

DENSE = "cuBLAS via PyTorch"


class Weight(Protocol):
    """Makes jobs, see `torch_card.Weight`."""

    def kinds(self) -> Iterator[tuple[str, Callable[[], Callable[[int], Job]]]]:
        """What can run it."""


class Card(Queue, Protocol):
    """What is timed on, see `torch_card.TorchCard`."""

    @property
    def name(self) -> str:
        """As the driver calls it."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types that are timed."""

    @property
    def versions(self) -> str:
        """Of what runs the products."""

    def clocks(self) -> str:
        """At this moment."""

    def weight(self, outputs: int, inputs: int, dtype: str) -> Weight:
        """A weight to multiply with."""


def measure(watch: Watch) -> Timings:
    """Time dense and 2:4 products on the card of this machine, in a few minutes.

    Raises
    ------
    UnsupportedError
        Without PyTorch or a card with sparse tensor cores, or where none of the products runs.
    """
    return timings_of(TorchCard(torch_with_a_card()), layers(), watch)


def timings_of(card: Card, work: Sequence[Layer], watch: Watch) -> Timings:
    """All products of `work` in all types of the card; what does not run is said once, with why."""
    rows: list[Timed] = []
    failed: dict[str, str] = {}
    parts = [(dtype, layer) for dtype in card.dtypes for layer in work]
    whole, done = sum(len(layer.tokens) for _, layer in parts), 0
    for dtype, layer in parts:
        made = dict(_forms(card, layer, dtype, failed))
        for tokens in layer.tokens:
            watch(f"{layer.name}, {tokens} tokens, {dtype}", done / whole)
            rows += _rows(card, layer, tokens, dtype, made, failed)
            done += 1
    if not rows:
        raise UnsupportedError(f"none of the products ran on {card.name}: {next(iter(failed.values()), 'no reason')}")
    warnings = [f"{what} was left out where it failed: {reason}" for what, reason in failed.items()]
    if not card.clocks():
        warnings.append("nvidia-smi does not say at which clocks the card ran")
    return Timings(card.name, f"simsparse calibrate gpu: {card.versions}", DENSE, tuple(rows), tuple(warnings))


@contextmanager
def _noting(failed: dict[str, str], what: str) -> Iterator[None]:
    """What PyTorch refuses becomes a line of what failed, the first of each."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        failed.setdefault(what, (str(error).strip().splitlines() or [type(error).__name__])[0])


def _forms(card: Card, layer: Layer, dtype: str, failed: dict[str, str]) -> Iterator[tuple[str, Callable[[int], Job]]]:
    """By system, what makes its jobs with the weight of a layer."""
    with _noting(failed, f"{layer.name}, {dtype}"):
        for system, make in card.weight(layer.outputs, layer.inputs, dtype).kinds():
            with _noting(failed, f"{system}, {dtype}"):
                yield system, make()


def _rows(
    card: Card, layer: Layer, tokens: int, dtype: str, made: dict[str, Callable[[int], Job]], failed: dict[str, str]
) -> Iterator[Timed]:
    """One product by everything that runs it."""
    jobs: dict[str, Job] = {}
    for system, job_of in made.items():
        with _noting(failed, f"{system}, {dtype}"):
            job = job_of(tokens)
            job()
            card.wait()
            jobs[system] = job
    clocks: list[str] = []
    taken = in_turns(card, jobs, lambda: clocks.append(card.clocks())) if jobs else {}
    for system, seconds in taken.items():
        dense = system == DENSE
        rows = -(-tokens // PAD[dtype]) * PAD[dtype]
        padded = f"tokens padded to {rows}" if rows > tokens and not dense else ""
        note = "; ".join(filter(None, (layer.name, "L2 emptied before each", padded, clocks[0])))
        yield Timed(
            system, card.name, dtype, "dense" if dense else "2:4", "" if dense else "B",
            "mm" if dtype == "bf16" else "_scaled_mm", tokens, layer.outputs, layer.inputs, 1, seconds,
            len(seconds), note,
        )  # fmt: skip
