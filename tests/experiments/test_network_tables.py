"""The table of one network: a line a method, the base once, errors to scale."""

import math

import pytest

from gradnet.experiments.network_tables import draw_methods, network_to_markdown


def row(seed, method, accuracy, **more):
    return {
        "seed": seed,
        "method": method,
        "test_accuracy": accuracy,
        "validation_accuracy": accuracy + 0.01,
        "parameters": 1234,
        **more,
    }


TRAINED = {"samples_seen": 640, "fit_seconds": 2.4}
ROWS = [
    row(0, "base", 0.8),
    row(0, "fine-tuned", 0.9, learning_rate=1e-3, **TRAINED),
    row(0, "default", 0.86, **TRAINED),
    row(1, "base", 0.8),
    row(1, "default", 0.9, **TRAINED),
    row(1, "a|b", 0.5, **TRAINED),
]


def test_means_and_spreads_stand_beside_the_base_which_counts_once():
    lines = network_to_markdown(ROWS).splitlines()
    assert lines[2:6] == [
        "| base network | 80.00 (1) | 81.00 (1) | 1,234 |  |  |",
        "| GradNet (default) | 88.00 ± 2.83 (2) | 89.00 ± 2.83 (2) | 1,234 | 640 | 2 s "
        "|",
        r"| a\|b | 50.00 (1) | 51.00 (1) | 1,234 | 640 | 2 s |",
        "| fine-tuned | 90.00 (1) | 91.00 (1) | 1,234 | 640 | 2 s |",
    ]
    assert "several learning rates" in network_to_markdown(ROWS)
    assert "several learning rates" not in network_to_markdown(ROWS[2:3])


def test_the_notes_say_what_was_trained_on_what():
    about = {"trained_on": "the val part", "train_samples": 1800, "test_samples": 400}
    text = network_to_markdown(ROWS, about)
    assert "1,800 samples of the val part, which the network has not seen" in text
    error = 100 * math.sqrt(0.8 * 0.2 / 400)
    assert "On 400 test samples the standard error" in text and f"{error:.2f}." in text


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]], ids=["all", "base alone"])
def test_the_figure_has_a_bar_a_method_and_a_point_a_seed(rows):
    (axes,) = draw_methods(rows, "title $x").axes
    methods = {row["method"] for row in rows}
    assert len(axes.patches) == len(methods)
    points = sum(len(c.get_offsets()) for c in axes.collections)
    assert points == len(rows) - (1 if len(rows) > 1 else 0)
    assert axes.get_title() == r"title \$x"
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "base network" and len(labels) == len(methods)
