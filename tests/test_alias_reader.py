"""Alias tables: texts of a row become a reading, or a reason why not; and what is read is simulated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from measurement_rows import GEMM, Row, Write

from simsparse.alias_reader import AliasReader
from simsparse.errors import InputError
from simsparse.measurements import read_measurements
from simsparse.readings import GemmReading, ModelReading, Reader, Unreadable
from simsparse.registry import registered
from simsparse.simulate import estimate_gemm, simulate
from simsparse.validate import validate

pytestmark = pytest.mark.usefixtures("toy")

TABLE = r"""
family = "toys"
threads_field = "threads_used"

[[device]]
match = 'toy card'
machine = "toy"

[[device]]
match = 'toy'
reason = "only toy cards are known"

[[system]]
match = '^SpMM'
phases = ["gemm"]
kernel = "2:4"
dense_kernel = "dense"

[[system]]
match = '^SpMM'
phases = ["train"]
products = [{ m = "M", n = "N", k = "K" }, { m = "N", n = "K", k = "M", dense = true }]

[[system]]
match = '^SpMM'
on = ["*.up_proj"]

[[model]]
match = '^Toy (\w+)'
workload = 'toy-\1'
"""


@pytest.fixture
def reader(tmp_path: Path) -> AliasReader:
    (tmp_path / "toys.toml").write_text(TABLE, encoding="utf-8")
    return AliasReader(tmp_path / "toys.toml")


def read_one(reader: AliasReader, write: Write, **cells: object) -> object:
    (row,) = read_measurements(
        write({**GEMM, "device": "Toy Card 3000", "system": "SpMM v2", "phase": "gemm", **cells})
    )
    return reader.reading(row)


def test_alias_tables_turn_texts_into_readings(reader: AliasReader, write: Write) -> None:
    assert isinstance(reader, Reader)
    sparse = read_one(reader, write, pattern_text="2:4", sparse_operand="B", dtype="fp16, fp16 accumulate", threads=4)
    assert sparse == GemmReading("toy", (("threads_used", 4),), "2:4", "2:4", "fp16", "", "B", 16)
    dense = read_one(reader, write, pattern_text="dense", dtype="w4a16")
    assert dense == GemmReading("toy", (), "dense", "dense", "fp16", "int4", "B", 32)
    sliced = read_one(reader, write, pattern_text="slice:0.25", sparse_operand="B", dtype="bf16")
    assert sliced == GemmReading("toy", (), "dense", "dense", "bf16", "", "A", 32)
    decode = read_one(
        reader, write, phase="decode", model="Toy model", batch=2, seq=64, pattern_text="2:4", instances=3
    )
    assert decode == ModelReading(
        "toy", (), "best", "2:4", "fp16", "", "toy-model", "decode", 2, None, 64, ("*.up_proj",), 3
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"device": "toys"}, "only toy cards are known"),
        ({"dtype": "posit8", "pattern_text": "2:4"}, "no type is known by 'posit8'"),
        ({"pattern_text": ""}, "no single pattern says what is zero"),
        ({"pattern_text": "2:4", "sparse_operand": "AB"}, "sparse operand 'AB' is neither A nor B"),
        ({"pattern_text": "2:4", "phase": "op"}, "no model runs phase 'op'"),
        ({"pattern_text": "2:4", "phase": "encode"}, "several ops timed together, and no model that names them"),
        ({"pattern_text": "2:4", "phase": "encode", "model": "Fable"}, "no workload is known by 'Fable'"),
        ({"pattern_text": "2:4", "phase": "encode", "model": "Toy model", "devices": 2}, "runs on 2 devices together"),
    ],
)
def test_rows_that_cannot_be_read_say_why(reader: AliasReader, write: Write, cells: Row, reason: str) -> None:
    assert read_one(reader, write, **cells) == Unreadable(reason)


def test_devices_of_others_are_left_to_them(reader: AliasReader, write: Write) -> None:
    assert read_one(reader, write, device="abacus", pattern_text="2:4") is None


def test_models_are_simulated(reader: AliasReader, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered(), "readers", [reader])
    row = {
        **GEMM, "device": "toy card", "system": "SpMM", "phase": "prefill", "model": "Toy model", "batch": 4, "seq": 32,
        "pattern_text": "2:4", "metric": "speedup_vs_dense", "value": 1.5, "M": "", "N": "", "K": "",
    }  # fmt: skip
    (found,) = validate(write(row)).rows
    expected = simulate("toy-model", "toy", sparsity={"*.up_proj": "2:4"}, phase="prefill", batch=4, seq=32)
    assert found.predicted == expected.speedup
    assert expected.speedup > 1


def test_products_timed_together_are_added(reader: AliasReader, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered(), "readers", [reader])
    row = {
        **GEMM,
        "device": "toy card",
        "system": "SpMM",
        "phase": "train",
        "pattern_text": "2:4",
        "sparse_operand": "B",
    }
    dense = estimate_gemm("toy", 128, 256, 64)
    sparse = estimate_gemm("toy", 64, 128, 256, pattern="2:4", sparse_operand="B")
    (found,) = validate(write(row)).rows
    assert math.isclose(found.predicted or 0, float(sparse.latency_s[0] + dense.latency_s[0]) / 1e-6)
    (speedup,) = validate(write({**row, "metric": "speedup"})).rows
    whole = float(sparse.dense_latency_s[0] + dense.latency_s[0])
    assert math.isclose(speedup.predicted or 0, whole / float(sparse.latency_s[0] + dense.latency_s[0]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[[device]]\nmatch = '('\nmachine = 'toy'", "a regular expression"),
        ("[[device]]\nmatch = 'a'", "a machine or a reason, not both"),
        ("[[system]]\nmatch = 'a'\nkernels = 'b'", "unknown key 'system.0.kernels'"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "bad.toml").write_text(table, encoding="utf-8")
    with pytest.raises(InputError) as error:
        _ = AliasReader(tmp_path / "bad.toml").aliases
    assert message in str(error.value)
    assert "\n" not in str(error.value)
