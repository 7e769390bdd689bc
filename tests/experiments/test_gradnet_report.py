"""Tables: mean and spread by plain numpy, an order for the eye, whole files."""

import numpy as np
import pandas
import pytest

from gradnet.experiments.gradnet_report import (
    draw,
    summarize,
    to_markdown,
    write_report,
)


def row(seed, level, method, accuracy):
    return {
        "seed": seed,
        "level": level,
        "method": method,
        "test_accuracy": accuracy,
    }


ROWS = [
    row(0, 0.7, "fine-tuned", 0.9),
    row(0, 0.7, "mine", 0.8),
    *(row(s, 0.7, "default", a) for s, a in enumerate((0.71, 0.74, 0.8))),
    *(row(s, 0.5, "base", a) for s, a in enumerate((0.51, 0.52))),
    row(0, 0.7, "base", 0.7),
]


def test_mean_and_spread_over_seeds():
    statistics = summarize(ROWS).loc[0.7, "default"]
    values = np.array([0.71, 0.74, 0.8])
    assert statistics["mean"] == pytest.approx(values.mean())
    assert statistics["std"] == pytest.approx(values.std(ddof=1))
    assert statistics["count"] == 3


def test_the_base_comes_first_and_the_controls_last():
    methods = list(dict.fromkeys(summarize(ROWS).columns.get_level_values(0)))
    assert methods == ["base", "default", "mine", "fine-tuned"]


def test_the_markdown_table_shows_spread_count_and_gaps():
    lines = to_markdown(summarize(ROWS)).splitlines()
    assert lines[0].startswith("| level | base network | GradNet (default) | mine |")
    assert lines[2].startswith("| 0.5 | 51.50 ± 0.71 (2) |  |")
    assert "75.00 ± 4.58 (3)" in lines[3] and "80.00 (1)" in lines[3]


def test_the_files_are_written(tmp_path):
    write_report(ROWS, tmp_path, "title")
    tidy = pandas.read_csv(tmp_path / "table.csv")
    assert len(tidy) == len(ROWS) and list(tidy)[:3] == ["seed", "level", "method"]
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.md").read_text().count("|") > 20


def test_the_figure_has_a_line_a_method_and_a_point_a_seed():
    (axes,) = draw(ROWS, "title").axes
    assert [line.get_label() for line in axes.lines] == [
        "base network",
        "GradNet (default)",
        "mine",
        "fine-tuned",
    ]
    assert sum(len(c.get_offsets()) for c in axes.collections) == len(ROWS)
    assert axes.get_title() == "title" and "test accuracy" in axes.get_ylabel()
