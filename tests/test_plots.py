"""What the pictures show is what the results say; how they look was checked by eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import simsparse
from simsparse import plots
from simsparse.compared import Comparison
from simsparse.inventory import op_group
from simsparse.result import Result
from simsparse.roofline import TIME_AREA, _coinciding

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def dense() -> Result:
    return simsparse.simulate("toy-model", "toy", seq=512)


@pytest.fixture
def sparse() -> Result:
    return simsparse.simulate("toy-model", "toy", seq=512, sparsity={"*.up_proj": "2:4"})


def bars(ax: Axes) -> dict[str, list[Rectangle]]:
    """Bars by legend entry."""
    return {c.get_label(): list(c) for c in ax.containers if isinstance(c, BarContainer)}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def no_overlap(figure: Figure) -> bool:
    """Whether the texts inside the axes keep apart."""
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for ax in figure.axes for text in ax.texts if text.get_text()]
    return not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_roofline_points_and_roofs(sparse: Result) -> None:
    figure = plots.roofline(sparse)
    (ax,) = figure.axes
    drawn = {tuple(offset): c.get_sizes()[0] for c in ax.collections for offset in c.get_offsets().tolist()}
    prices, share = sparse.prices, sparse.prices.latency_s * sparse.counts / sparse.latency_s
    # The norm is no product, the other two are points.
    for row in (1, 2):
        point = (prices.flops[row] / prices.level_bytes[row, 0], prices.flops[row] / prices.latency_s[row])
        assert drawn.pop(point) == pytest.approx(TIME_AREA * share[row])
    assert not drawn
    tops = [line.get_ydata().max() for line in ax.lines]
    assert tops == [100e12, 200e12]
    for line in ax.lines:
        x, y = line.get_data()
        np.testing.assert_allclose(y, np.minimum(y.max(), x * 1e12))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"mlp.down_proj (dense)  {share[2]:.0%}", f"mlp.up_proj (2:4)  {share[1]:.0%}"]
    assert no_overlap(figure)


def test_calls_that_coincide_are_one_point(dense: Result) -> None:
    (ax,) = plots.roofline(dense).axes
    prices = dense.prices
    assert prices.flops[1] == prices.flops[2]
    (points,) = ax.collections
    assert points.get_sizes()[0] == pytest.approx(TIME_AREA * 2 * 2 * prices.latency_s[1] / dense.latency_s)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mlp.up_proj, down_proj (dense)  98%"]


def test_no_roofline_without_roofs(sparse: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_machine

    monkeypatch.delattr(toy_machine.Toy, "peak_flops_per_s")
    bare = simsparse.simulate("toy-model", "toy")
    with pytest.raises(simsparse.UnsupportedError, match="machine 'toy' gives no rooflines, expected peak FLOP/s"):
        plots.roofline(bare)
    # The overview leaves it out: waterfall, latency and energy remain.
    assert len(plots.overview(bare).axes) == 3
    assert "gives no rooflines" in plots.overview(bare).get_suptitle()
    assert len(plots.overview(sparse).axes) == 4


@pytest.mark.parametrize("by", plots.By)
def test_stacked_bars_add_up(dense: Result, sparse: Result, by: plots.By) -> None:
    figure = plots.stacked([dense, sparse], by=by)
    for ax, figures in zip(figure.axes, ("latency_s", "energy_j"), strict=True):
        parts = bars(ax)
        for index, result in enumerate((dense, sparse)):
            total = sum(parts[group][index].get_width() for group in parts)
            assert total == pytest.approx(getattr(result, figures), rel=1e-12)
    latency = bars(figure.axes[0])
    if by is plots.By.BOUND:
        for index, result in enumerate((dense, sparse)):
            drawn = [latency[term][index].get_width() for term in result.prices.term_names]
            assert drawn == pytest.approx(result.bound_seconds)
    else:
        assert set(latency) == {"mlp", "norm"}
        mlp = dense.prices.latency_s[1:] @ dense.counts[1:]
        assert latency["mlp"][0].get_width() == pytest.approx(mlp)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["toy\ndense", "toy\n*.up_proj=2:4"]
    assert no_overlap(figure)


def test_small_groups_go_into_other() -> None:
    bars_of = [{"a": 100.0, "b": 0.5, "c": 0.3}, {"a": 50.0, "d": 0.1}]
    assert plots._largest(bars_of) == ["a", plots.OTHER]
    many = {f"g{i}": 1.0 + i for i in range(12)}
    groups = plots._largest([many])
    assert len(groups) == plots.MOST
    assert sum(plots._of_group(many, group, groups) for group in groups) == sum(many.values())


def test_speedup_bars_are_the_speedups(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_machine

    other = toy_machine.Toy()
    monkeypatch.setattr(other, "name", "other")
    patterns = ["dense", "2:4", "4:8"]
    comparison = Comparison.of(simsparse.compare("toy-model", ["toy", other], patterns, seq=512), patterns)
    figure = plots.speedup_bars(comparison)
    (ax,) = figure.axes
    drawn = bars(ax)
    assert list(drawn) == patterns
    for column, pattern in enumerate(patterns):
        heights = [bar.get_height() for bar in drawn[pattern]]
        assert heights == [line[column].speedup for line in comparison.results]
    assert texts(figure) == [f"{line[i].speedup:.2f}" for i in range(3) for line in comparison.results]
    assert [line.get_ydata()[0] for line in ax.lines] == [1.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["toy", "other"]
    assert no_overlap(figure)
    # Bars differ without colour, too.
    assert len({bar.get_hatch() for group in drawn.values() for bar in group}) == 3


def test_a_machine_whose_memory_is_too_small_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toy_machine.Toy.memory_bytes", 25e6)
    patterns = ["dense", "2:4"]
    comparison = Comparison.of(simsparse.compare("toy-model", ["toy"], patterns), patterns)
    (ax,) = plots.speedup_bars(comparison).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["toy\ndoes not fit"]


def test_waterfall_climbs_to_the_latency(sparse: Result) -> None:
    figure = plots.waterfall(sparse)
    (ax,) = figure.axes
    whole, steps, totals = (list(c) for c in ax.containers)
    shares = plots.term_shares(sparse)
    assert [bar.get_width() for bar in steps] == pytest.approx([shares["compute"], shares["dram"]])
    ends = [bar.get_x() + bar.get_width() for bar in steps]
    assert [bar.get_x() for bar in steps] == pytest.approx([0.0, *ends[:-1]])
    assert ends[-1] == pytest.approx(sparse.latency_s)
    assert [bar.get_width() for bar in whole] == pytest.approx((sparse.counts @ sparse.prices.terms_s).tolist())
    assert [bar.get_width() for bar in totals] == [sparse.latency_s, sparse.dense_latency_s]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["compute", "dram", "all", "dense"]
    assert no_overlap(figure)


def test_terms_share_the_latency_of_their_calls(sparse: Result) -> None:
    # The toy takes the longest term alone: two products bound by compute, the norm by memory.
    time_s = sparse.prices.latency_s * sparse.counts
    shares = plots.term_shares(sparse)
    assert shares == pytest.approx({"compute": time_s[1:].sum(), "dram": time_s[0], "other": 0.0}, abs=1e-15)
    result = simsparse.simulate("llama-2-7b", "a100-sxm-80gb", phase="decode", sparsity={"*": "2:4"})
    shares = plots.term_shares(result)
    assert sum(shares.values()) == pytest.approx(result.latency_s, rel=1e-12)
    # Every call is launched; a term never adds more than it takes.
    launch_s = result.prices.terms_s[:, result.prices.term_names.index("launch")]
    assert 0 < shares["launch"] <= float(result.counts @ launch_s) * (1 + 1e-12)
    assert no_overlap(plots.waterfall(result))


def test_many_machines_stand_in_rows() -> None:
    comparison = Comparison.of(simsparse.compare("toy-model", ["toy"] * 6, ["dense", "2:4"], seq=8), ["dense", "2:4"])
    figure = plots.speedup_bars(comparison)
    assert [len(ax.get_xticklabels()) for ax in figure.axes] == [4, 2]
    assert figure.axes[0].get_title() == "toy-model: prefill, batch 1, fp16"
    assert no_overlap(figure)


def test_points_that_would_hide_each_other_are_one() -> None:
    points = np.array([[100.0, 10.0, 0], [101.0, 10.1, 1], [100.0, 20.0, 2]])
    assert _coinciding(points, np.array([0.2, 0.5, 0.3])) == [[1, 0], [2]]


def test_groups_leave_out_indices() -> None:
    names = ("layer3.*.conv1", "layer3.0.downsample.0", "encoder.layers.*.mlp.fc1", "lm_head")
    assert [op_group(name) for name in names] == ["layer3", "layer3", "encoder.mlp", "lm_head"]


def test_drawn_on_given_axes_and_saved(sparse: Result, tmp_path: Path) -> None:
    figure = Figure()
    ax = figure.subplots()
    assert plots.waterfall(sparse, ax, tmp_path / "a.pdf") is figure
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(simsparse.InputError, match=r"path is '.*a\.nope', expected a picture that can be written"):
        plots.waterfall(sparse, path=tmp_path / "a.nope")
    assert plots.waterfall(sparse)._repr_png_().startswith(b"\x89PNG")
