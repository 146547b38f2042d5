"""Profiles of torch and Nsight become rows that `validate` reads and prices."""

import gzip
import json
from pathlib import Path

import pytest

from simsparse.cli import main
from simsparse.measurements import read_measurements
from simsparse.validate import validate

HALF = "c10::Half"


def op(name: str, dims: list[list[int]], number: int, dtype: str = HALF, dur: float = 50.0) -> dict[str, object]:
    args = {"External id": number, "Input Dims": dims, "Input type": [dtype] * len(dims)}
    return {"ph": "X", "cat": "cpu_op", "name": name, "ts": number, "dur": dur, "args": args}


def launch(name: str, dur: float, number: int) -> dict[str, object]:
    return {"ph": "X", "cat": "kernel", "name": name, "ts": number, "dur": dur, "args": {"External id": number}}


def trace(path: Path, events: list[dict[str, object]], *cards: str) -> Path:
    path.write_text(
        json.dumps({"deviceProperties": [{"id": 0, "name": card} for card in cards], "traceEvents": events})
    )
    return path


def test_a_trace_of_torch(tmp_path, capsys):
    events = [
        op("aten::mm", [[4096, 1024], [1024, 512]], 1), launch("ampere_h16816", 30.0, 1),
        op("aten::mm", [[4096, 1024], [1024, 512]], 2), launch("ampere_h16816", 34.0, 2),
        op("aten::addmm", [[512], [4096, 1024], [1024, 512]], 3), launch("ampere_h16816", 40.0, 3),
        # Two kernels of one product count together: split along the reduction.
        op("aten::bmm", [[8, 128, 64], [8, 64, 256]], 4), launch("gemm", 5.0, 4), launch("reduce", 1.0, 4),
        op("aten::_cslt_sparse_mm", [[4096 * 1024 * 9 // 16], [1024, 512]], 5), launch("cusparselt", 20.0, 5),
        op("aten::_sparse_semi_structured_mm", [[4096, 512], [4096, 64], [1024, 512]], 6), launch("cutlass", 22.0, 6),
        op("aten::mm", [[1, 1], [1, 1]], 7),  # launched nothing
        op("aten::relu", [[4096, 512]], 8), launch("elementwise", 3.0, 8),
    ]  # fmt: skip
    out = tmp_path / "rows.csv"
    path = trace(tmp_path / "t.json", events, "NVIDIA A100-SXM4-80GB")
    assert main(["measurements", "import", str(path), "--output", str(out)]) == 0
    rows = read_measurements(out)
    assert [(r.system, r.product, r.batch, r.pattern, r.value) for r in rows] == [
        ("PyTorch matmul", (4096, 512, 1024), 1, "dense", 32.0),
        ("PyTorch matmul", (4096, 512, 1024), 1, "dense", 40.0),
        ("PyTorch matmul", (128, 256, 64), 8, "dense", 6.0),
        ("cuSPARSELt", (4096, 512, 1024), 1, "2:4", 20.0),
        ("CUTLASS 2:4", (4096, 512, 1024), 1, "2:4", 22.0),
    ]
    assert "median over 2 runs; 30.000 to 34.000" in rows[0].note
    priced = validate([out]).rows
    assert [row.predicted is not None for row in priced] == [True] * 5
    # Eight products side by side take longer than one, which a table without the column says.
    one = tmp_path / "one.csv"
    one.write_text(out.read_text().replace("128,256,64,8,", "1024,2048,512,1,"))
    eight = tmp_path / "eight.csv"
    eight.write_text(one.read_text().replace("1024,2048,512,1,", "1024,2048,512,8,"))
    assert validate([eight]).rows[2].predicted > 3 * validate([one]).rows[2].predicted
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    again = tmp_path / "again.csv"
    assert main(["measurements", "import", str(tmp_path / "t.json.gz"), "--output", str(again)]) == 0
    assert again.read_text() == out.read_text().replace("t.json", "t.json.gz")


def test_a_trace_without_a_device_takes_the_operators_times(tmp_path, capsys):
    path = trace(tmp_path / "t.json", [op("aten::mm", [[8, 16], [16, 4]], 1, "float", dur=7.0)])
    assert main(["measurements", "import", str(path), "--device", "my CPU"]) == 0
    assert ",8,4,16,1,fp32,latency_us,7," in capsys.readouterr().out


@pytest.mark.torch
def test_real_torch(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        torch.mm(torch.zeros(32, 64), torch.zeros(64, 16))
    profile.export_chrome_trace(str(tmp_path / "t.json"))
    assert main(["measurements", "import", str(tmp_path / "t.json"), "--device", "CPU"]) == 0
    assert ",32,16,64,1,fp32,latency_us," in capsys.readouterr().out


UNSHAPED = {**op("aten::mm", [], 1), "args": {"Input Dims": None, "Input type": 3}}
NSYS = """Generating SQLite file
\x20
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
60.0,"3,000,000",100,30000.0,29500.0,29000,33000,500.0,ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn
40.0,2000000,100,20000.0,19800.0,19000,23000,500.0,sm80_xmma_sparse_gemm_f16
1.0,2000,1,2000.0,2000.0,2000,2000,0.0,void elementwise
"""
NCU = """==PROF== Connected to process 1
"ID","Process ID","Kernel Name","Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"
"0","1","ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn","0","8.0","Command line","gpu__time_duration.sum","usecond","29.5"
"1","1","ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn","0","8.0","Command line","gpu__time_duration.sum","usecond","30.5"
"1","1","ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn","0","8.0","Command line","dram__bytes.sum","Mbyte","30.5"
"""
NCU_RAW = """==PROF== Connected to process 1
"ID","Kernel Name","Device","CC","gpu__time_duration.sum"
"","","","","us"
"0","ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn","0","8.0","29.5"
"1","ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn","0","8.0","30.5"
"""
GPU_TRACE = """Start (ns),Duration (ns),Device,Name
1,29000,A100,ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn
2,31000,A100,ampere_fp16_s16816gemm_fp16_128x128_ldg8_tn
"""
SHAPES = """kernel,M,N,K,dtype,pattern,system
ampere*gemm*,4096,512,1024,fp16,dense,cuBLAS
*sparse_gemm*,4096,512,1024,fp16,2:4,cuSPARSELt
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (NSYS, [(29.5, 100, "dense"), (19.8, 100, "2:4")]),
        (NCU, [(30.0, 2, "dense")]),
        (NCU_RAW, [(30.0, 2, "dense")]),
        (GPU_TRACE, [(30.0, 2, "dense")]),
    ],
    ids=["nsys summary", "ncu", "ncu raw", "nsys trace"],
)
def test_tables_of_nsight(tmp_path, capsys, content, expected):
    (tmp_path / "k.csv").write_text(content)
    (tmp_path / "s.csv").write_text(SHAPES)
    out = tmp_path / "rows.csv"
    command = ["measurements", "import", str(tmp_path / "k.csv"), "--shapes", str(tmp_path / "s.csv")]
    assert main([*command, "--device", "NVIDIA A100", "--output", str(out)]) == 0
    rows = read_measurements(out)
    assert [(row.value, row.pattern) for row in rows] == [(value, pattern) for value, _, pattern in expected]
    assert all(f"median over {runs} runs" in row.note for row, (_, runs, _) in zip(rows, expected, strict=True))
    assert ("elementwise" in capsys.readouterr().err) == (content == NSYS)


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("t.json", "{", [], "expected JSON as torch.profiler writes it"),
        ("t.json.gz", "{}", [], "no whole gzip file"),
        ("t.json", '{"traceEvents": []}', [], "expected a Chrome trace with traceEvents"),
        ("t.json", '{"traceEvents": 5}', [], "expected a Chrome trace with traceEvents"),
        ("t.json", '{"traceEvents": [{}], "deviceProperties": [7]}', [], "expected --device"),
        ("t.json", json.dumps({"traceEvents": [UNSHAPED]}), ["--device", "d"], "record_shapes=True"),
        ("t.json", json.dumps({"traceEvents": [op("aten::mm", [[8, 16], [16, 4]], 1)]}), [], "expected --device"),
        ("t.json", json.dumps({"traceEvents": [op("aten::relu", [[8]], 1)]}), ["--device", "d"], "expected operators"),
        ("t.json", json.dumps({"traceEvents": [op("aten::mm", [], 1)]}), ["--device", "d"], "record_shapes=True"),
        ("t.json", json.dumps({"traceEvents": [op("aten::mm", [[8]], 1)]}), ["--device", "d"], "expected two matrices"),
        ("k.csv", NSYS, ["--device", "d"], "expected --shapes"),
        ("k.csv", NSYS, ["--shapes", "SHAPES"], "expected --device"),
        ("k.csv", "a,b\n1,2\n", ["--device", "d", "--shapes", "SHAPES"], "a column Name or Kernel Name"),
        ("k.csv", "Name,Med (h)\nk,2\n", ["--device", "d", "--shapes", "SHAPES"], "unit of time in 'k.csv' is 'h'"),
        ("k.csv", "Name,Med (ns)\nk,-2\n", ["--device", "d", "--shapes", "SHAPES"], "Med (ns) in line 2"),
        ("k.csv", "Name,Med (ns)\nk,2\n", ["--device", "d", "--shapes", "SHAPES"], "expected one for 'k'"),
    ],
)  # fmt: skip
def test_bad_profiles_say_what_was_expected(tmp_path, capsys, name, content, options, message):
    (tmp_path / name).write_text(content)
    (tmp_path / "s.csv").write_text(SHAPES)
    given = [str(tmp_path / "s.csv") if text == "SHAPES" else text for text in options]
    assert main(["measurements", "import", str(tmp_path / name), *given]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
