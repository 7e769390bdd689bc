"""Tables and pictures of a study: tidy CSV, Markdown with spread, one figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from gradnet.core.files import save_figure, write_text

# The base, then its GradNets, then the controls, whatever order the pieces came in.
FIRST, LAST = ("base", "default", "gradnet2018"), ("last-layer", "fine-tuned")
TITLES = {
    "base": "base network",
    "default": "GradNet (default)",
    "gradnet2018": "GradNet (2018)",
    "last-layer": "last layer retrained",
    "fine-tuned": "fine-tuned",
}
MARKERS = "osDv^<>P*X"
COLUMNS = (
    "seed",
    "level",
    "method",
    "test_accuracy",
    "validation_accuracy",
    "samples_seen",
    "parameters",
    "best_step",
    "fit_seconds",
    "evaluate_seconds",
    "fit_gradients_per_second",
    "evaluate_gradients_per_second",
)


def write_report(
    rows: Sequence[dict[str, Any]], folder: str | Path, title: str = ""
) -> pandas.DataFrame:
    """Write ``table.csv``, ``table.md`` and ``table.png`` into a folder.

    Args:
        rows: see :func:`gradnet.experiments.run_folder.read_rows`.
        folder: the run folder.
        title: of the figure; the data set's name, say.

    Returns:
        The summary, as :func:`summarize` makes it.
    """
    folder = Path(folder)
    tidy = pandas.DataFrame(rows).reindex(columns=list(COLUMNS))
    write_text(folder / "table.csv", tidy.to_csv(index=False))
    summary = summarize(rows)
    write_text(folder / "table.md", to_markdown(summary))
    save_figure(folder / "table.png", draw(rows, title))
    return summary


def summarize(rows: Sequence[dict[str, Any]]) -> pandas.DataFrame:
    """Test accuracy by level and method: mean, spread, number of seeds.

    Args:
        rows: with ``seed``, ``level``, ``method`` and ``test_accuracy``.

    Returns:
        One row a level; columns ``(method, "mean" | "std" | "count")``. The spread is
        the standard deviation over seeds with Bessel's correction; NaN for one seed.
    """
    tidy = pandas.DataFrame(rows)
    grouped = tidy.groupby(["level", "method"])["test_accuracy"]
    statistics = grouped.agg(["mean", "std", "count"])
    wide = pandas.concat(
        {method: statistics.xs(method, level="method") for method in _order(tidy)},
        axis=1,
    )
    return wide.sort_index()


def to_markdown(summary: pandas.DataFrame) -> str:
    """The summary in percent, as a Markdown table with a line that explains it."""
    methods = list(dict.fromkeys(summary.columns.get_level_values(0)))
    lines = [
        "| level | " + " | ".join(TITLES.get(m, m) for m in methods) + " |",
        "|---|" + "---|" * len(methods),
    ]
    for level, row in summary.iterrows():
        cells = [_cell(row[method]) for method in methods]
        lines.append(f"| {level:g} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Test accuracy in percent under the same centre crop: mean ± standard",
        "deviation over seeds (number of seeds). A level is the validation accuracy",
        "that the base network had just passed.",
    ]
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[dict[str, Any]], title: str = "") -> Any:
    """Accuracy of each method over the snapshots: points for seeds, lines for means.

    Args:
        rows: as :func:`summarize` takes them.
        title: written above.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    tidy = pandas.DataFrame(rows)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    summary = summarize(rows)
    for index, method in enumerate(_order(tidy)):
        means = summary[(method, "mean")].dropna()
        color, marker = f"C{index}", MARKERS[index % len(MARKERS)]
        axes.plot(
            means.index * 100,
            means * 100,
            color=color,
            marker=marker,
            linestyle="--" if method in LAST else "-",
            label=TITLES.get(method, method),
        )
        points = tidy[tidy["method"] == method]
        axes.scatter(
            points["level"] * 100,
            points["test_accuracy"] * 100,
            color=color,
            marker=marker,
            s=12,
            alpha=0.5,
        )
    axes.set_xlabel("snapshot: validation accuracy just passed (%)")
    axes.set_ylabel("test accuracy, centre crop (%)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _order(tidy: pandas.DataFrame) -> list[str]:
    methods = list(dict.fromkeys(tidy["method"]))
    others = sorted(m for m in methods if m not in FIRST + LAST)
    return [m for m in (*FIRST, *others, *LAST) if m in methods]


def _cell(statistics: pandas.Series) -> str:
    if pandas.isna(statistics["mean"]):
        return ""
    mean, count = 100 * statistics["mean"], int(statistics["count"])
    if count == 1:
        return f"{mean:.2f} (1)"
    return f"{mean:.2f} ± {100 * statistics['std']:.2f} ({count})"
