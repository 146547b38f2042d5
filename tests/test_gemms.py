"""Tables of GEMM shapes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsparse.errors import InputError, SimsparseError
from simsparse.ops import GemmView
from workloads.gemms import SOURCE


def table(folder: Path, text: str) -> str:
    path = folder / "shapes.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_table_is_a_workload(tmp_path: Path) -> None:
    text = "\ufeffname,m,n,k,count,dtype,pattern,batch\nup,64,8,32,3,int8,2:4,\n,16,4,8,,,,5\n\nup,1,1,1,,,,\n"
    workload = SOURCE.load(table(tmp_path, text), dtype="bf16")
    up, batched, other = workload.contractions()
    assert [op.name for op in (up, batched, other)] == ["up.*", "gemm_16x4x8", "up"]
    assert (up.count, str(up.a.dtype), up.a.pattern.text, up.gemm) == (3, "int8", "2:4", GemmView(1, 64, 8, 32))
    assert (str(batched.a.dtype), batched.gemm) == ("bf16", GemmView(5, 16, 4, 8))
    assert workload.flops == 2 * (3 * 64 * 8 * 32 + 5 * 16 * 4 * 8 + 1)
    assert workload.parameters == 3 * 64 * 32 + 5 * 16 * 8 + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "header of 'shapes.csv' is ''"), ("M,N\n1,1\n", "header"), ("M,N,K,K\n1,1,1,1", "header"),
        ("M,N,K,colour\n1,1,1,1", "header"), ("M,N,K\n", "no rows"), ("M,N,K\n1,1\n", "row 2 .* has 2 cells"),
        ("M,N,K\n1,0,1", "N in row 2 .* is '0'"), ("M,N,K\n1,-3,1", "is '-3'"), ("M,N,K\n1,1.5,1", r"is '1\.5'"),
        ("M,N,K\n1,1,9999999999999", "is '9999999999999'"), ("M,N,K,count\n1,1,1,1000000", "count in row 2"),
        ("M,N,K,dtype\n1,1,1,fp12", "row 2 .*: dtype is 'fp12'"), ("M,N,K,pattern\n1,1,1,4:2", "row 2 .*: pattern is"),
        ('M,N,K\n"1,1,1', "a readable CSV file"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        SOURCE.load(table(tmp_path, text))


def test_missing_files_and_options_that_do_not_apply(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a readable CSV file"):
        SOURCE.load(str(tmp_path / "none.csv"))
    for option in ({"batch": 4}, {"seq": 1}, {"context": 1}, {"phase": "decode"}):
        with pytest.raises(InputError, match="nothing for a table of GEMMs"):
            SOURCE.load(table(tmp_path, "M,N,K\n1,1,1"), **option)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from('MNK,name\ndtype"12:4*\0é'), max_size=60))
def test_no_text_escapes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    with suppress(SimsparseError):
        SOURCE.load(table(tmp_path_factory.mktemp("csv"), f"M,N,K,name,pattern\n{text}"))
