"""The table and the figure of a study of one trained network: a line a method."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from gradnet.core.text import figure_text
from gradnet.experiments.figures import MARKERS, new_axes
from gradnet.experiments.tables import (
    LAST,
    LEVEL_COLUMNS,
    TITLES,
    markdown_table,
    order_methods,
    spread_of,
)

NETWORK_COLUMNS = (*(c for c in LEVEL_COLUMNS if c != "level"), "learning_rate")


def network_to_markdown(
    rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any] | None = None
) -> str:
    """The rows of a study of one network as Markdown, a line a method.

    Args:
        rows: see :func:`gradnet.experiments.results.read_rows`.
        about: of the study's file: ``trained_on``, ``train_samples``,
            ``test_samples``; what is missing is left out.
    """
    titles = ["method", "test accuracy", "validation accuracy", "parameters"]
    titles += ["samples seen", "training time"]
    lines = []
    for method, group in _by_method(rows):
        trained = group.reindex(columns=["samples_seen", "fit_seconds"]).dropna()
        seen, seconds = trained["samples_seen"], trained["fit_seconds"]
        lines.append(
            [
                TITLES.get(method, method),
                spread_of(100 * group["test_accuracy"], 2),
                spread_of(100 * group["validation_accuracy"], 2),
                f"{group['parameters'].mean():,.0f}",
                f"{seen.mean():,.0f}" if len(seen) else "",
                f"{seconds.mean():.0f} s" if len(seconds) else "",
            ]
        )
    return markdown_table(titles, lines, _notes(rows, about or {}))


def draw_methods(rows: Sequence[Mapping[str, Any]], title: str = "") -> Any:
    """Test accuracy of each method: points for seeds, bars for means.

    Args:
        rows: as :func:`network_to_markdown` takes them.
        title: written above.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    methods = list(_by_method(rows))
    size = (7.0, 1.4 + 0.45 * len(methods))
    axes = new_axes(size, "test accuracy (%)", "", title)
    for index, (method, group) in enumerate(methods):
        accuracies = 100 * group["test_accuracy"]
        style = {"color": f"C{index}", "alpha": 0.35 if method in LAST else 0.6}
        axes.barh(index, accuracies.mean(), **style)
        axes.text(accuracies.mean(), index, f" {accuracies.mean():.2f}", va="center")
        marker = MARKERS[index % len(MARKERS)]
        places = [index] * len(accuracies)
        axes.scatter(accuracies, places, s=14, marker=marker, color=f"C{index}")
    names = [figure_text(TITLES.get(method, method)) for method, _ in methods]
    axes.set_yticks(range(len(methods)), names)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    return axes.figure


def _by_method(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[str, pandas.DataFrame]]:
    """The rows of each method in the order of the table; of the base the first.

    It is the same network for all seeds, so that its rows are one measurement.
    """
    tidy = pandas.DataFrame(list(rows))
    found = []
    for method in order_methods(tidy["method"]):
        group = tidy[tidy["method"] == method]
        found.append((method, group.head(1) if method == "base" else group))
    return found


def _notes(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> list[str]:
    notes = [
        "Accuracies in percent: mean ± standard deviation over seeds (number of",
        "seeds).",
    ]
    if "trained_on" in about and "train_samples" in about:
        notes.append(
            f"GradNet and the controls were trained on {about['train_samples']:,} "
            f"samples of {about['trained_on']}, which the network has not seen."
        )
    if any(row.get("learning_rate") is not None for row in rows):
        notes.append(
            "Each control was trained at several learning rates; the one that was best "
            "on the validation samples counts."
        )
    if "test_samples" in about:
        count = about["test_samples"]
        accuracy = next(
            (row["test_accuracy"] for row in rows if row["method"] == "base"), 0.5
        )
        error = 100 * math.sqrt(max(accuracy * (1 - accuracy), 0) / count)
        notes.append(
            f"On {count:,} test samples the standard error of the network's own "
            f"accuracy is {error:.2f}."
        )
    return notes
