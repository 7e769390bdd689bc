"""Figures show every seed, epoch, trial and unit that the rows have."""

from io import BytesIO

import pytest
import torch
from row_cases import EVALUATIONS, LEVEL_ROWS, TRIAL_ROWS

from gradnet.core.files import save_figure
from gradnet.experiments.figures import (
    CLOCKS,
    GRID,
    draw_curves,
    draw_decisions,
    draw_errors,
    draw_hidden_units,
    draw_levels,
)
from gradnet.experiments.gradient_figures import draw_norms


def test_the_figure_has_a_line_a_method_and_a_point_a_seed():
    (axes,) = draw_levels(LEVEL_ROWS, "title").axes
    assert [line.get_label() for line in axes.lines] == [
        "base network",
        "GradNet (default)",
        "mine",
        "fine-tuned",
    ]
    assert sum(len(c.get_offsets()) for c in axes.collections) == len(LEVEL_ROWS)
    assert axes.get_title() == "title" and "test accuracy" in axes.get_ylabel()


def test_every_clock_has_a_panel_with_a_line_a_seed_and_dots_at_growth():
    figure = draw_curves(EVALUATIONS, "title")
    assert [axes.get_xlabel() for axes in figure.axes] == list(CLOCKS.values())
    for axes, clock in zip(figure.axes, CLOCKS, strict=True):
        assert len(axes.lines) == 4
        points = [tuple(c.get_offsets()[0]) for c in axes.collections]
        grown = next(r for r in EVALUATIONS if r["stage"] == 1)
        assert set(points) == {(grown[clock], 100 * (1 - grown["accuracy"]))}
        assert [len(c.get_offsets()) for c in axes.collections] == [1] * 4


def test_every_trial_stands_in_the_histogram_the_failures_apart():
    (axes,) = draw_hidden_units(TRIAL_ROWS).axes
    heights = [round(bar.get_height()) for bar in axes.patches]
    assert sum(heights) == len(TRIAL_ROWS)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["solved (3)", "given up (1)"]


def test_errors_follow_each_other_with_dots_where_units_came():
    nan = float("nan")
    errors = [
        torch.tensor([[4.0, 3.0], [9.0, nan]]),
        torch.tensor([[2.0, nan], [nan, nan]]),
    ]
    (axes,) = draw_errors(errors, [0, 1]).axes
    lines = [line.get_ydata().tolist() for line in axes.lines[::2]]
    assert lines == [[4, 3, 2], [9]]
    dots = [list(zip(*line.get_data(), strict=True)) for line in axes.lines[1::2]]
    assert dots == [[(2, 2.0)], []]


def test_decision_maps_show_the_plane_as_it_lies():
    inputs = torch.tensor([[1.0, 0.5], [-1.0, -0.5]], dtype=torch.float64)
    targets = torch.tensor([1.0, 0.0])
    asked = []

    def outputs(points, units):
        asked.append(units)
        return points[:, 0] - 10 * points[:, 1]

    figure = draw_decisions(outputs, inputs, targets, [0, 2, 5])
    assert asked == [0, 2, 5] and len(figure.axes) == 3
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (GRID, GRID)
    assert image[0].mean() > 0 > image[-1].mean()  # below: high, as y is low there
    assert image[GRID // 2, -1] > image[GRID // 2, 0]


@pytest.mark.parametrize("units", [1, 4, 5])
def test_as_many_maps_as_were_asked_for(units):
    inputs = torch.zeros(2, 2, dtype=torch.float64) + 1
    figure = draw_decisions(
        lambda points, count: points[:, 0], inputs, torch.ones(2), list(range(units))
    )
    assert len(figure.axes) == units


@pytest.mark.parametrize("name", ["a$^2$", r"$\frac{$", "$$", r"a\$b$", "$x"])
def test_dollar_signs_are_drawn_as_they_are_written(name, tmp_path):
    rows = [{**row, "method": name} for row in LEVEL_ROWS[:2]]
    evaluations = [{**row, "method": name} for row in EVALUATIONS]
    for figure in (draw_levels(rows, name), draw_curves(evaluations, name)):
        save_figure(tmp_path / "figure.png", figure)
        titles = [panel.title for panel in figure.axes if panel.get_title()]
        (title,) = titles
        assert title._preprocess_math(title.get_text()) == (name, False)


def test_names_are_shown_as_they_are():
    name = "$x_{1$ \x1b[31m"
    rows = [{**row, "method": f"_{name}"} for row in LEVEL_ROWS]
    records = [{**record, "method": name} for record in EVALUATIONS]
    drawn = draw_levels(rows, name), draw_curves(records, name)
    drawn += (draw_norms(torch.ones(2, 3), [name, "b"]),)
    for figure in drawn:
        figure.savefig(BytesIO())  # it is read as mathematics only here
    (label,) = [text.get_text() for text in drawn[0].axes[0].get_legend().texts]
    assert label == r" _\$x_{1\$ \x1b[31m"
