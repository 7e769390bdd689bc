"""Tables count failures, and pictures show each trial, each epoch and each unit."""

import pandas
import pytest
import torch

from gradnet.experiments.trials_report import (
    GRID,
    draw_decisions,
    draw_errors,
    draw_hidden_units,
    summarize,
    write_trials,
)

ROWS = [
    {"trial": n, "solved": n != 2, "hidden_units": units, "epochs": 100 * units}
    for n, units in enumerate((3, 5, 9, 4))
]


def test_failures_are_counted_and_left_out_of_the_means():
    line = summarize(ROWS).splitlines()[2]
    assert line == "| 4 | 3 | 4.0 (3 to 5) | 4 | 400 |"


def test_a_study_without_a_solution_says_so():
    line = summarize([dict(row, solved=False) for row in ROWS]).splitlines()[2]
    assert line == "| 4 | 0 | - | - | - |"


def test_every_trial_stands_in_the_histogram_the_failures_apart():
    (axes,) = draw_hidden_units(ROWS).axes
    heights = [round(bar.get_height()) for bar in axes.patches]
    assert sum(heights) == len(ROWS)
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


def test_files_stand_in_the_folder(tmp_path):
    text = write_trials(ROWS, tmp_path, "xor")
    assert (tmp_path / "table.md").read_text() == text
    assert pandas.read_csv(tmp_path / "trials.csv")["epochs"].sum() == 2100
    assert (tmp_path / "hidden-units.png").stat().st_size > 1000


@pytest.mark.parametrize("units", [1, 4, 5])
def test_as_many_maps_as_were_asked_for(units):
    inputs = torch.zeros(2, 2, dtype=torch.float64) + 1
    figure = draw_decisions(
        lambda points, count: points[:, 0], inputs, torch.ones(2), list(range(units))
    )
    assert len(figure.axes) == units


def test_depth_and_test_accuracy_are_told_where_they_are_known():
    rows = [dict(row, depth=2 * row["hidden_units"]) for row in ROWS]
    lines = summarize(rows).splitlines()
    assert lines[0].endswith("| epochs: mean | depth: mean |")
    assert lines[1].count("---") == lines[0].count("|") - 1
    assert lines[2].endswith("| 400 | 8 |")
    lines = summarize([dict(row, test_accuracy=0.5) for row in ROWS]).splitlines()
    assert lines[0].endswith("| test accuracy: mean |") and lines[2].endswith("| 0.5 |")
