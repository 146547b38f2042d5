"""Constants of GPUs: few, with what they were fitted on; the same fit gives the same bytes."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accel_models.gpu.evidence import Block, read, reading_error
from accel_models.gpu.fit import Fitted, fitted
from accel_models.gpu.fit_text import spans
from accel_models.gpu.fitted import FOLDER, MOST_OF_CARD, MOST_OF_FAMILY, Search, constants, search_of
from accel_models.gpu.fitting import fit_family, predicted
from accel_models.gpu.framework_fit import measured_steps
from accel_models.gpu.scores import ASKED, left_out_cards
from accel_models.gpu.search import minimise
from simsparse.measurements import Measurement
from simsparse.registry import load_machine


@pytest.fixture(scope="module")
def blocks(evidence: Path) -> list[Block]:
    return [block for block in read(evidence / "published") if block.kernel in constants().kernels]


@pytest.fixture(scope="module")
def refitted(evidence: Path) -> Fitted:
    """A whole fit, made again."""
    return fitted(evidence / "published")


def test_the_fit_gives_the_shipped_files_byte_for_byte(refitted: Fitted) -> None:
    for name, text in refitted.texts.items():
        assert text == (FOLDER / name).read_text(encoding="utf-8"), name


def test_four_of_five_measurements_lie_in_intervals_made_without_them(refitted: Fitted) -> None:
    """Pooled 75 to 85 %, for shapes and for cards; of every family with 50 rows 65 to 92 %, for shapes."""
    shapes = refitted.covered.shapes
    for parts in (shapes, refitted.covered.cards):
        assert 0.75 <= np.concatenate(list(parts.values())).mean() <= 0.85
    for kernel, inside in shapes.items():
        if inside.size >= 50:
            assert 0.65 <= inside.mean() <= 0.92, kernel


def test_cards_that_were_left_out_are_predicted(refitted: Fitted) -> None:
    for name, found in left_out_cards(refitted.scored).items():
        assert found is not None
        assert found[0] <= ASKED[name][0], name
        assert found[1] <= ASKED[name][1], name


def test_constants_are_few() -> None:
    """Entries of the files are counted, whatever they are called."""
    data = tomllib.loads((FOLDER / "kernels.toml").read_text(encoding="utf-8"))
    assert set(data) == {"power_exponent", "frameworks", "cards", "kernels"}
    assert len(data["frameworks"]) == 4
    for card in data["cards"].values():
        assert len(card) <= MOST_OF_CARD == 3
    for family in data["kernels"].values():
        free = family.pop("free")
        assert len(family) <= MOST_OF_FAMILY == 6
        assert set(free) <= set(family)
        assert all(family.values())  # a constant of nothing is none


def test_every_kernel_has_constants_and_every_fitted_one_its_rows() -> None:
    assert set(constants().kernels) == set(load_machine("a100-sxm-80gb").kernel_names)
    said = tomllib.loads((FOLDER / "fit.toml").read_text(encoding="utf-8"))
    assert said["constants"] == constants().digest()
    for kernel, family in constants().kernels.items():
        if family.free:
            assert sum(said["families"][kernel]["rows"].values()) >= 8


def test_rows_behind_the_constants_of_frameworks_are_no_held_out_ones(evidence: Path) -> None:
    """Also those that were read alike and went into one median."""
    behind = {row for step in measured_steps(evidence / "published", constants()) for row in step.rows}
    assert len(behind) > 50
    assert behind <= load_machine("a100-sxm-80gb").fitted_rows


def test_a_constant_outside_its_range_is_refused() -> None:
    for kernel, family in constants().kernels.items():
        for name in family.free:
            search = search_of(name)
            assert search.low <= family.numbers[name] <= search.high, (kernel, name)


def test_the_search_finds_a_minimum_that_is_known() -> None:
    box = {"a": Search(1e-3, 10.0), "b": Search(0.1, 1.0)}
    found = minimise(lambda at: abs(np.log(at["a"] / 0.5)) + abs(np.log(at["b"] / 0.3)), box)
    assert found["a"] == pytest.approx(0.5, rel=0.02)
    assert found["b"] == pytest.approx(0.3, rel=0.02)
    assert minimise(lambda at: 0.0, {}) == {}


def test_a_fit_finds_what_made_the_times(blocks: list[Block]) -> None:
    """Measurements that the model makes with another constant give that constant back, whatever the start."""
    (block,) = (block for block in blocks if (block.kernel, block.machine) == ("nm-spmm", "rtx-3090"))
    truth = constants().changed("nm-spmm", {"issue_cycles": 0.7})
    made = replace(block, measured=predicted(block, truth))
    for start in (constants(), truth, constants().changed("nm-spmm", {"issue_cycles": 9.0})):
        found = fit_family("nm-spmm", [made], start)
        assert found.of("nm-spmm").issue_cycles == pytest.approx(0.7, rel=0.03)


def test_reading_errors_are_what_the_notes_say() -> None:
    def error(note: str, quality: str = "figure_digitized") -> float:
        return reading_error(Measurement("1", "s", "d", "speedup", 2.0, quality=quality, note=note))

    assert error("line plot read by eye +-0.1; memory-bound") == 0.05
    assert error("bar end read by eye, +-1 %") == 0.01
    assert error("") == 0.02
    assert error("+-0.1", "raw_csv") == 0.0


def test_row_names_are_put_together() -> None:
    assert spans(["a-0002", "a-0001", "a-0004", "b-0003", "a-0003", "b-0009"]) == ["a-0001..0004", "b-0003", "b-0009"]
