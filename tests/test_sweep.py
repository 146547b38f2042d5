"""Sweeps: a table that does not depend on who made it when, that survives being killed, and errors of one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd
import psutil
import pytest
import slow_sweep
import toy_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from simsparse import register, simulate, versions
from simsparse.cli import main
from simsparse.errors import InputError, UnknownNameError
from simsparse.grid import Grid, SweepSpec
from simsparse.plan import Machine, Provenance
from simsparse.registry import Family
from simsparse.specs import Figure, Spec
from simsparse.sweep import Progress, run_sweep, sweep
from simsparse.sweep_progress import said

pytestmark = pytest.mark.usefixtures("toy")

SPEC: dict[str, object] = {
    "workload": "toy-model",
    "phase": ["prefill", "encode"],
    "batch": [1, 4, 16],
    "seq": [1, 128],
    "machine": "toy",
    "pattern": ["dense", "2:4", "unstructured:0.5"],
    "on": ["*", "*.up_proj"],
    "kernel": ["best", "2:4"],
}


class SwitchSpec(Spec):
    family: Literal["switches"]
    bytes_per_s: Figure[float]


class Switch(toy_machine.Toy):
    """A toy whose bandwidth is a figure of its spec."""

    def __init__(self, spec: SwitchSpec) -> None:
        self.name, self.bytes_per_s = spec.name, spec.bytes_per_s.value

    def price_rows(self, *rows: object) -> object:
        prices = super().price_rows(*rows)
        prices.latency_s[:] = prices.level_bytes[:, 0] / self.bytes_per_s
        return prices


def build_switch(spec: Spec) -> Machine:
    assert isinstance(spec, SwitchSpec)
    return Switch(spec)


def test_rows_stand_in_the_order_of_the_grid_and_equal_single_results() -> None:
    table = sweep(SPEC)
    points = list(Grid(SweepSpec.read(SPEC)).points(0, 144))
    assert len(table) == len(points) == 144
    for (_, row), point in zip(table.iterrows(), points, strict=True):
        assert (row.batch, row.pattern, row.kernel) == (point.batch, point.pattern, point.kernel)
        sparsity = {} if point.pattern == "dense" else {point.on: point.pattern}
        options = {"phase": point.phase, "batch": point.batch, "seq": point.seq}
        if point.kernel == "2:4" and point.pattern != "2:4":
            assert row.error == "kernel '2:4' of toy runs no op of this workload: the pattern is not 2:4"
            assert pd.isna(row.latency_s)
            continue
        result = simulate("toy-model", "toy", sparsity=sparsity, kernel=point.kernel, **options)
        assert pd.isna(row.error)
        assert (row.latency_s, row.dense_latency_s, row.energy_j) == (
            result.latency_s, result.dense_latency_s, result.energy_j,
        )  # fmt: skip
        assert (row.speedup, row.bound, row.fits) == (result.speedup, result.bound, True)


def test_a_second_process_changes_nothing(tmp_path: Path) -> None:
    alone, together = (run_sweep(SPEC, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert alone.read_bytes() == together.read_bytes()


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    seen: list[Progress] = []
    first = run_sweep(SPEC, tmp_path, progress=seen.append).read_bytes()
    assert [(p.done, p.resumed) for p in seen] == [(0, 0), (72, 0), (144, 0)]
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    longer = {**SPEC, "workload": "toy-model", "batch": SPEC["batch"], "phase": ["prefill", "encode", "train"]}
    seen.clear()
    run_sweep(longer, tmp_path, progress=seen.append)
    assert [(p.done, p.resumed) for p in seen] == [(144, 144), (216, 144)]
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    assert run_sweep(SPEC, tmp_path).read_bytes() == first


def test_the_table_says_what_the_model_chose() -> None:
    table = sweep({"workload": "llama-3.2-1b", "phase": ["prefill", "decode"], "machine": "toy"})
    assert table[["seq", "context"]].to_numpy().tolist() == [[2048, 0], [1, 2048]]
    none_cached = sweep({"workload": "gpt2", "phase": "decode", "context": 0, "machine": "toy"})
    assert none_cached[["phase", "seq", "context"]].iloc[0].tolist() == ["decode", 1, 0]


def test_methods_are_an_axis() -> None:
    table = sweep({"workload": "llama-3.2-1b", "machine": "toy", "method": ["none", "drop:8", "drop:8; tp:2", "tp:0"]})
    whole, half, shared, wrong = table["latency_s"]
    assert shared < half < whole
    assert table["speedup"][1] > 1
    assert pd.isna(wrong)
    assert "devices" in table["error"][3]


def test_failures_are_told_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.toml").write_text(
        'workload = "toy-model"\nmachine = "toy"\npattern = ["dense", "2:4", "4:8"]\nkernel = "2:4"\n'
    )
    assert main(["sweep", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("3 rows in ")
    assert err == (
        "2 of them could not run, see column error; the first: kernel '2:4' of toy runs no op of this workload: "
        "the pattern is not 2:4\n"
    )


def test_figures_of_specs_are_axes(tmp_path: Path) -> None:
    (tmp_path / "switch.toml").write_text(
        'name = "switch"\nfamily = "switches"\nbytes_per_s = { value = 1e12, source = "assumed: a test" }\n'
    )
    register(Family("switches", SwitchSpec, tmp_path, build_switch))
    table = sweep({"workload": "toy-model", "machine": "switch", "set": {"bytes_per_s": [1e12, 2e12]}})
    assert table["bytes_per_s"].tolist() == [1e12, 2e12]
    assert table["latency_s"][0] == 2 * table["latency_s"][1]
    wrong = sweep({"workload": "toy-model", "machine": ["switch"], "set": {"clock_hz": 1e9}})
    assert wrong["error"][0].startswith("no field of machine 'switch' is named 'clock_hz'")


def test_a_killed_sweep_goes_on_and_ends_with_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, slow_sweep.__file__, str(out), "2"])
    deadline = time.monotonic() + 60
    while not list(out.glob("parts/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    made = {path: path.stat().st_mtime_ns for path in out.glob("parts/*.parquet")}
    assert 1 <= len(made) < 4
    assert not (out / "table.parquet").exists()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive

    monkeypatch.setattr(versions, "_code_digest", slow_sweep.same_code)
    register(slow_sweep.Slow(0.0))
    table = run_sweep(slow_sweep.SPEC, out)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(list(out.glob("parts/*.parquet"))) == 4
    assert table.read_bytes() == run_sweep(slow_sweep.SPEC, tmp_path / "other").read_bytes()
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("content", [b"", b"PAR1 cut off"])
def test_a_broken_part_is_named(tmp_path: Path, content: bytes) -> None:
    run_sweep(SPEC, tmp_path)
    part = min((tmp_path / "parts").iterdir())
    part.write_bytes(content)
    with pytest.raises(InputError) as error:
        run_sweep(SPEC, tmp_path)
    assert str(error.value) == f"sweep part {str(part)!r} is broken, expected it whole: delete it and start again"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"worload": "a"}, InputError, "sweep: unknown key 'worload', expected one of the fields of SweepSpec"),
        ({"phase": "sleep"}, InputError, "sweep: phase.0 is 'sleep', expected: input should be 'prefill', 'decode'"),
        ({"batch": 0}, InputError, "sweep: batch.0 is 0, expected: input should be greater than or equal to 1"),
        ({"batch": [2.5]}, InputError, "sweep: batch.0 is 2.5, expected: input should be a valid integer"),
        ({"batch": []}, InputError, "sweep: batch is [], expected"),
        ({"pattern": ["2:4", "2:4"]}, InputError, "axis pattern is ['2:4', '2:4'], expected each value once"),
        ({"pattern": "5:4"}, InputError, "pattern is '5:4', expected N from 0 to M in N:M"),
        ({"dtype": "posit"}, InputError, "dtype is 'posit', expected one of"),
        ({"method": "slyce:0.2"}, UnknownNameError, "no method is named 'slyce'; known: "),
        ({"context": -1}, InputError, "sweep: context.0 is -1, expected: input should be greater than or equal to 0"),
        ({"machine": "tox"}, UnknownNameError, "no machine is named 'tox'; near names: toy"),
        ({"workload": "toy-modle"}, UnknownNameError, "no workload is named 'toy-modle'; near names: toy-model"),
        ({"batch": list(range(1, 300)), "seq": list(range(1, 100_000))}, InputError, "points of the sweep is"),
    ],
)
def test_bad_specs_get_one_line(change: Mapping[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as error:
        sweep({**SPEC, **change})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_versions_follow_code_specs_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(**axes: object) -> str:
        return versions.sweep_version(SweepSpec.model_validate({**SPEC, **axes}))

    first = version()
    assert version(batch=[7]) == first  # points have their own hash
    mask = tmp_path / "mask.npy"
    mask.write_bytes(b"a")
    with_mask = version(pattern=f"mask:{mask}")
    mask.write_bytes(b"abc")
    assert len({first, with_mask, version(pattern=f"mask:{mask}")}) == 3
    monkeypatch.setattr(toy_machine.Toy, "provenance", Provenance("another-spec", "no-constants"))
    other_spec = version()
    monkeypatch.setattr(versions, "_code_digest", slow_sweep.same_code)
    assert len({first, other_spec, version()}) == 3


def test_missing_axes_and_files_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^sweep: field 'machine' is missing, expected SweepSpec to have it$"):
        sweep({"workload": "toy-model"})
    with pytest.raises(InputError, match=r"no readable TOML \(No such file or directory\), expected a TOML file$"):
        sweep(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"^output is '', expected a folder$"):
        sweep(SPEC, "")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"expected a folder that can be written"):
        run_sweep(SPEC, tmp_path / "file")
    with pytest.raises(InputError, match=r"^jobs is 0, expected at least 1$"):
        run_sweep(SPEC, tmp_path, jobs=0)


def test_spec_files_nest_fields_as_toml_does(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text('workload = "toy-model"\nmachine = ["toy"]\n[set]\nmac_rate.fp16 = [1, 2]\nsm_count = 8\n')
    assert SweepSpec.read(path).set == {"mac_rate.fp16": (1, 2), "sm_count": (8,)}


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_chunks_cover_the_grid_once(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=3, max_size=3))
    batch, seq, context = (tuple(range(1, size + 1)) for size in sizes)
    grid = Grid(SweepSpec(workload=("w",), machine=("m",), batch=batch, seq=seq, context=context))
    assert [index for start, stop in grid.chunks for index in range(start, stop)] == list(range(len(grid)))
    index = data.draw(st.integers(0, len(grid) - 1))
    (point,) = grid.points(index, index + 1)
    assert index == ((point.batch - 1) * sizes[1] + point.seq - 1) * sizes[2] + point.context - 1


def test_progress_in_words() -> None:
    assert said(Progress(40, 160, 20, 10.0)) == "2.0 points/s, 1:00 left"
    assert said(Progress(20, 160, 20, 0.0)) == "20 found"
