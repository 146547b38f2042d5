"""CPUs against the measurements of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from accel_models.cpu.constants import Constants, constants
from accel_models.cpu.fit import STAGES, Stage, Target, fit_stage, prediction, target_of
from simsparse.measurements import read_measurements
from simsparse.outcomes import Outcome
from simsparse.plan import Floats
from simsparse.predictions import predict
from simsparse.registry import readers
from simsparse.validate import read_row


@lru_cache
def targets_of(stage: Stage, evidence: Path) -> list[Target]:
    rows = read_measurements(evidence / "published" / "cpu.csv")
    return stage.targets(rows)


def errors(targets: Sequence[Target], fitted: Constants) -> Floats:
    """Absolute relative errors of the predictions."""
    return np.abs(prediction(targets)(fitted) / [target.measured_s for target in targets] - 1)


@pytest.mark.parametrize(
    ("stage", "median", "p90"),
    [(1, 0.04, 0.12), (2, 0.04, 0.12), (3, 0.04, 0.12), (4, 0.04, 0.25)],
)
def test_predicted_encoders_and_networks_come_near_the_measured_ones(
    evidence: Path, stage: int, median: float, p90: float
) -> None:
    """ITREX encoders, Fast Sparse ConvNets, ONNX Runtime and DeepSparse, with the constants that ship.

    Asked for: encoders 4 and 12 %, ConvNets 10 and 25 %, DeepSparse 15 % and each within 35 %.
    """
    targets = targets_of(STAGES[stage], evidence)
    error = errors(targets, constants())
    assert len(targets) >= 5
    assert np.median(error) <= median
    assert np.quantile(error, 0.9) <= p90
    assert error.max() <= 0.35


@pytest.mark.parametrize("model", ["BERT-Large", "DistilBERT"])
def test_encoders_of_a_model_hold_without_it_in_the_fit(evidence: Path, model: str) -> None:
    """Asked for: 10 and 25 %. The third, BERT-Mini, is what the overhead of an op is fitted to: none is as small."""
    stage = STAGES[1]
    assert len(stage.names) <= 6
    targets = targets_of(stage, evidence)
    fitted = fit_stage(stage, [t for t in targets if t.row.model != model][::3], constants())
    error = errors([t for t in targets if t.row.model == model], fitted)
    assert len(error) >= 39
    assert np.median(error) <= 0.07
    assert np.quantile(error, 0.9) <= 0.13


def test_engines_on_32_cores_hold_with_constants_of_4(evidence: Path) -> None:
    """DeepSparse's int8 models; its dense ones, and ONNX Runtime, come out two and three times too fast there."""
    rows = read_measurements(evidence / "published" / "cpu.csv")
    found = [target_of(row) for row in rows if "16xlarge" in row.device and row.system.startswith("DeepSparse pruned")]
    targets = [target for target in found if target is not None]
    assert len(targets) == 2
    assert errors(targets, constants()).max() <= 0.15


def test_speedups_of_sparse_prefill_hold_without_a_fit(evidence: Path) -> None:
    """OPT-2.7B on DeepSparse, 40 to 60 % zero; asked for: 15 %."""
    rows = [r for r in read_measurements(evidence / "published" / "cpu.csv") if r.model == "OPT-2.7B"]
    answers = predict(rows, [read_row(row, list(readers())) for row in rows])
    gains = [a.dense_latency_s / a.latency_s for a in answers if isinstance(a, Outcome)]
    assert gains == pytest.approx([row.value for row in rows], rel=0.06)
    assert len(gains) == 3


def test_the_shipped_constants_are_what_the_fit_finds(evidence: Path) -> None:
    stage = STAGES[-1]
    targets = targets_of(stage, evidence)
    (name,) = stage.names
    again = fit_stage(stage, targets, constants())
    assert getattr(again, name).value == pytest.approx(getattr(constants(), name).value, rel=0.02)
    assert getattr(again, name).n == len(targets) == 5


@pytest.mark.parametrize(
    ("sparse", "dense"),
    [
        ("MobileNetV1 1.0", "MobileNetV1 0.75"),  # top-1 68.4 % both
        ("MobileNetV1 1.4", "MobileNetV1 1.0"),  # 72.0 and 70.9 %
    ],
)
def test_sparse_mobilenets_gain_what_is_claimed_at_equal_accuracy(evidence: Path, sparse: str, dense: str) -> None:
    """1.3 to 2.4 times over a dense network no more accurate than it; accuracies of dense ones are recalled.

    MobileNetV2 gains nothing here, nor as measured (54 ms at width 1.4 sparse, 53 ms at 1.0 dense, 72 % both).
    """
    rows = read_measurements(evidence / "published" / "cpu.csv")
    (row,) = (r for r in rows if r.model == sparse)
    pair = [row, replace(row, model=dense, pattern="dense")]
    answers = predict(pair, [read_row(each, list(readers())) for each in pair])
    fast, slow = (answer.latency_s for answer in answers if isinstance(answer, Outcome))
    assert 1.3 <= slow / fast <= 2.4
