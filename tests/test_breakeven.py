"""Where patterns start to pay: crossings against prices asked one by one, and what the command says."""

import json

import numpy as np
import pytest

from simsparse import estimate_gemm
from simsparse.breakeven import TARGETS, breakeven, members
from simsparse.breakeven_report import spans
from simsparse.cli import main
from simsparse.errors import InputError, UnsupportedError

CARD = "a100-sxm-80gb"


def test_crossings_are_those_of_single_prices():
    found = breakeven(CARD, 4096, 4096, 4096, families=("block32x32:*", "vnm64:2:*"), patterns=())
    dense_s = estimate_gemm(CARD, 4096, 4096, 4096).latency_s[0]
    assert found.dense_latency_s == dense_s
    for curve in found.curves:
        for target in TARGETS:
            at = curve.reaches(target)
            assert at is not None
            # From there on it holds, right before it does not.
            for i in range(at - 1 if at else 0, len(curve.patterns), 7):
                alone = estimate_gemm(CARD, 4096, 4096, 4096, pattern=curve.patterns[i], kernel=curve.kernel[i])
                assert alone.speedup[0] == curve.speedup[i]
                assert (alone.speedup[0] >= target) == (i >= at)


def test_a_pattern_over_n_is_the_best_of_all_kernels():
    found = breakeven(CARD, 4096, 1, 4096, families=(), patterns=("unstructured:0.8",), most_n=2048)
    (curve,) = found.by_batch
    alone = estimate_gemm(CARD, 4096, found.batches, 4096, pattern="unstructured:0.8")
    np.testing.assert_array_equal(curve.speedup, alone.speedup)
    # Zeros spare bytes while tokens are few; where memory no longer bounds, they have to spare multiplications.
    assert curve.gains[0]
    assert not curve.gains.all()


def test_families():
    assert members("2:*") == ("2:4", "2:8", "2:12", *(f"2:{m}" for m in range(16, 65, 4)))
    assert members("unstructured:*", 0.1)[:2] == ("unstructured:0.3", "unstructured:0.4")
    assert members("vnm64:2:*")[0] == "vnm64:2:4"
    for bad in ("unstructured:0.5", "*:*", "nonsense:*"):
        with pytest.raises(InputError, match="expected"):
            members(bad)


def test_what_no_kernel_is_made_for_says_why():
    found = breakeven("stc", 256, 64, 256, families=("unstructured:*",), patterns=(), dtype="fp16")
    assert not found.curves
    (family, reason) = found.refused[0]
    assert family == "unstructured:*"
    assert reason
    with pytest.raises(UnsupportedError):
        breakeven("rtx-3090", 256, 64, 256, dtype="fp8")


def test_spans():
    assert spans([1, 2, 4, 8], [True, True, False, True]) == "1 to 2, 8"
    assert spans([1, 2], [False, False]) == "none"


def test_the_command(tmp_path, capsys):
    picture = tmp_path / "breakeven.png"
    command = ["breakeven", "4096", "16", "4096", "--on", CARD, "--family", "unstructured:*", "--pattern", "2:4"]
    assert main([*command, "--format", "json", "--plot", str(picture)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["speedup"] for row in told["crossings"]] == list(TARGETS)
    assert {row["pattern"] for row in told["rows"] if not row["family"]} == {"2:4"}
    assert picture.stat().st_size > 10_000
    assert main(["breakeven", "0", "16", "4096", "--on", CARD]) == 2
    assert capsys.readouterr().err.count("\n") == 1
