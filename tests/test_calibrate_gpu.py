"""`calibrate gpu`: what is timed, in which order, and the rows that come of it, on a card that is only pretended."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accel_models.gpu.measuring import card as measuring
from accel_models.gpu.measuring.shapes import Layer, layers
from accel_models.gpu.measuring.timing import ROUNDS, WARM_UP, in_turns
from accel_models.gpu.measuring.torch_card import TorchCard, torch_with_a_card
from simsparse.cli import main
from simsparse.errors import UnsupportedError
from simsparse.measurements import read_measurements
from simsparse.validate import validate

# Seconds that the pretended card takes for a multiply-accumulate.
TAKES = {"cuBLAS via PyTorch": 4e-15, "cuSPARSELt via PyTorch": 2e-15, "CUTLASS 2:4 via PyTorch": 2.5e-15}


@dataclass
class Event:
    card: Card
    at_s: float = 0.0

    def record(self) -> None:
        self.at_s = self.card.now_s

    def elapsed_time(self, end_event: Event, /) -> float:
        assert self.card.waited, "times are there once the card is done"
        return 1e3 * (end_event.at_s - self.at_s)


@dataclass
class Card:
    """A clock that jobs move on, and a log of what was put into the queue."""

    name: str = "NVIDIA A100-SXM4-80GB"
    dtypes: tuple[str, ...] = ("bf16", "fp8")
    versions: str = "torch 9.9, CUDA 99"
    now_s: float = 0.0
    waited: bool = False
    log: list[str] = field(default_factory=list)

    def clocks(self) -> str:
        return "SM 1410 MHz, memory 1593 MHz"

    def event(self) -> Event:
        return Event(self)

    def empty_cache(self) -> None:
        self._run("empty", 1e-4)

    def wait(self) -> None:
        self.waited = True

    def _run(self, what: str, seconds: float) -> None:
        self.waited = False
        self.log.append(what)
        self.now_s += seconds

    def weight(self, outputs: int, inputs: int, dtype: str) -> Weight:
        return Weight(self, outputs * inputs, dtype)


@dataclass
class Weight:
    card: Card
    size: int
    dtype: str

    def kinds(self) -> Iterator[tuple[str, Callable[[], Callable[[int], Callable[[], None]]]]]:
        def jobs_of(system: str) -> Callable[[int], Callable[[], None]]:
            if system.startswith("CUTLASS") and self.dtype == "fp8":
                raise RuntimeError("no kernel for fp8\nat line 3")
            return lambda tokens: lambda: self.card._run(system, self.size * tokens * TAKES[system])

        return ((system, lambda system=system: jobs_of(system)) for system in TAKES)


def test_layers_of_both_models_meet_one_token_to_a_prompt() -> None:
    shapes = {(layer.outputs, layer.inputs, tokens) for layer in layers() for tokens in layer.tokens}
    assert len(shapes) >= 60
    for outputs, inputs in ((4096, 4096), (11008, 4096), (4096, 11008), (8192, 8192), (28672, 8192), (8192, 28672)):
        assert {(outputs, inputs, tokens) for tokens in (1, 16, 256, 4096)} <= shapes
    # What kernels of 2:4 take: whole groups along inputs, rows of 32 outputs.
    assert all(outputs % 32 == 0 and inputs % 64 == 0 for outputs, inputs, _ in shapes)


def test_jobs_run_in_turns_on_an_empty_cache() -> None:
    card = Card()
    jobs = {name: lambda name=name, s=s: card._run(name, s) for name, s in (("a", 1e-3), ("b", 2e-3), ("c", 3e-3))}
    busy: list[bool] = []
    taken = in_turns(card, jobs, lambda: busy.append(not card.waited))
    assert busy == [True]
    assert {name: (len(runs), pytest.approx(runs[0])) for name, runs in taken.items()} == {
        "a": (ROUNDS, 1e-3), "b": (ROUNDS, 2e-3), "c": (ROUNDS, 3e-3),
    }  # fmt: skip
    assert card.log[: 3 * WARM_UP] == [*"aaabbbccc"]
    turns = card.log[3 * WARM_UP :]
    assert set(turns[::2]) == {"empty"}
    assert turns[1:18:2] == [*"abcbcacab"]
    # Each follows each other one about equally often.
    assert max(Counter(zip(turns[1::2], turns[3::2], strict=False)).values()) <= ROUNDS


def test_rows_are_measurements_that_validate_prices(tmp_path: Path) -> None:
    shares: list[float] = []
    found = measuring.timings_of(Card(), layers(), lambda _, share: shares.append(share))
    assert shares == sorted(shares)
    assert found.warnings == ("CUTLASS 2:4 via PyTorch, fp8 was left out where it failed: no kernel for fp8",)
    path = tmp_path / "rows.csv"
    path.write_text(found.to_csv())
    rows = read_measurements(path)
    products = sum(len(layer.tokens) for layer in layers())
    assert Counter((row.system, row.dtype) for row in rows) == {
        (system, dtype): products for system in TAKES for dtype in ("bf16", "fp8")
        if dtype == "bf16" or not system.startswith("CUTLASS")
    }  # fmt: skip
    assert len({row.id for row in rows}) == len(rows)
    first = rows[1]
    assert (first.product, first.pattern, first.sparse_operand) == ((1, 4096, 4096), "2:4", "B")
    assert first.seconds == pytest.approx(4096 * 4096 * TAKES[first.system], rel=1e-5)
    assert "LLaMA-7B attention; L2 emptied before each; tokens padded to 8; SM 1410 MHz" in first.note
    assert first.source == "simsparse calibrate gpu: torch 9.9, CUDA 99"
    # An A100 multiplies no fp8, which is said; all others have prices of the kernels they name.
    priced = validate(path)
    assert {row.kernel for row in priced.rows if row.predicted is not None} == {"cublas", "cusparselt", "cutlass-24"}
    assert {row.reason for row in priced.rows if row.predicted is None} != {""}
    assert sum(row.predicted is not None for row in priced.rows) == 3 * products


def test_the_command_writes_rows_and_compares(tmp_path, capsys, monkeypatch) -> None:
    work = (Layer("one", 4096, 4096, (16, 64)),)
    monkeypatch.setattr(measuring, "measure", lambda watch: measuring.timings_of(Card(), work, watch))
    path = tmp_path / "rows.csv"
    assert main(["calibrate", "gpu", "-o", str(path), "--format", "csv"]) == 0
    said = capsys.readouterr()
    header, first, *_ = said.out.splitlines()
    assert header == "dtype,m,n,k,dense_s,speedup cuSPARSELt via PyTorch,speedup CUTLASS 2:4 via PyTorch"
    assert first.startswith("bf16,16,4096,4096,")
    assert [float(cell) for cell in first.split(",")[5:]] == pytest.approx([2.0, 1.6])
    assert len(read_measurements(path)) == 2 * 3 + 2 * 2
    assert said.err.startswith("simsparse: warning: CUTLASS 2:4 via PyTorch, fp8 was left out")


def test_a_card_on_which_nothing_runs_gives_no_file(tmp_path, capsys, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Card, "weight", fails)
    monkeypatch.setattr(measuring, "measure", lambda watch: measuring.timings_of(Card(), layers()[:1], watch))
    assert main(["calibrate", "gpu", "-o", str(tmp_path / "rows.csv")]) == 2
    assert capsys.readouterr().err == "simsparse: none of the products ran on NVIDIA A100-SXM4-80GB: out of memory\n"
    assert list(tmp_path.iterdir()) == []


def pretended(
    version: str = "2.6.0", cuda: str | None = "12.4", capability: tuple[int, int] = (8, 0)
) -> SimpleNamespace:
    device = SimpleNamespace(
        is_available=lambda: cuda is not None, get_device_capability=lambda: capability,
        get_device_name=lambda: "Tesla T4",
    )  # fmt: skip
    return SimpleNamespace(__version__=version, version=SimpleNamespace(cuda=cuda), cuda=device)


@pytest.mark.parametrize(
    ("torch", "message"),
    [
        (None, "calibrate gpu times with PyTorch, which is not installed, expected `torch`"),
        (pretended("2.2.1"), "calibrate gpu found torch 2.2.1, expected 2.3 or newer"),
        (pretended(cuda=None), "calibrate gpu found no CUDA card, expected one that torch.cuda can use"),
        (pretended(capability=(7, 5)), "Tesla T4 has no sparse tensor cores (compute capability 7.5), expected 8.0"),
    ],
    ids=["no torch", "old torch", "no card", "Turing"],
)
def test_without_a_card_there_is_one_line(torch, message, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert main(["calibrate", "gpu", "-o", str(tmp_path / "rows.csv")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"simsparse: {message}")
    assert list(tmp_path.iterdir()) == []
    assert main(["calibrate", "gpu", "-o", str(tmp_path / "rows.toml")]) == 2
    assert "expected a file that ends in .csv" in capsys.readouterr().err


class OnHost:
    """PyTorch with the host in the place of the card; a semi-structured tensor stays a tensor."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        kind = SimpleNamespace(from_dense=lambda weight: weight)
        self.sparse = SimpleNamespace(SparseSemiStructuredTensorCUSPARSELT=kind, SparseSemiStructuredTensorCUTLASS=kind)
        properties = SimpleNamespace(name="a host", L2_cache_size=2**20)
        self.cuda = SimpleNamespace(
            current_device=lambda: 0, get_device_properties=lambda _: properties, synchronize=lambda: None,
            get_device_capability=lambda: (8, 0),
        )  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._torch, name)

        def on_host(*args: object, device: str, **others: object) -> Any:
            assert device == "cuda"
            return found(*args, **others)

        return on_host if name in ("randn", "randint", "ones", "tensor") else found


@pytest.mark.torch
def test_weights_keep_two_of_four_and_products_are_products() -> None:
    torch = pytest.importorskip("torch")
    card = TorchCard(OnHost(torch))
    assert card.dtypes == ("bf16",)
    made = {system: make() for system, make in card.weight(64, 128, "bf16").kinds()}
    assert list(made) == list(TAKES)
    assert made["cuBLAS via PyTorch"](3)().shape == (3, 64)
    sparse = made["cuSPARSELt via PyTorch"](3)
    left, right = (cell.cell_contents for cell in sparse.__closure__[:2])
    assert (left.shape, right.shape) == ((64, 128), (128, 8))
    kept = (left.view(-1, 4) != 0).sum(dim=1)
    assert set(kept.tolist()) == {2}
    assert len({tuple(row) for row in (left.view(-1, 4) != 0).tolist()}) == 6
    assert torch.equal(sparse(), torch.mm(left, right))


@pytest.mark.torch
def test_this_torch_is_refused_without_a_card() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(UnsupportedError, match="found no CUDA card"):
        torch_with_a_card()
