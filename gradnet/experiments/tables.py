"""Tables of finished runs: tidy CSV, and Markdown with mean, spread and number.

Every table takes the rows of a run folder. A spread is the standard deviation with
Bessel's correction; a single value has none: ``75.00 ± 4.58 (3)``, ``80.00 (1)``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas

from gradnet.core.text import markdown_cell, one_line
from gradnet.experiments.results import EvaluationRecord, Row

# The base, then its GradNets, then the controls, in whatever order the runs ended.
FIRST, LAST = ("base", "default", "gradnet2018"), ("last-layer", "fine-tuned")
TITLES = {
    "base": "base network",
    "default": "GradNet (default)",
    "gradnet2018": "GradNet (2018)",
    "last-layer": "last layer retrained",
    "fine-tuned": "fine-tuned",
}
# Behind the name of a method that began with a grown network.
STARTED_MARK = "†"
LEVEL_COLUMNS = (
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
GROWTH_COLUMNS = (
    "seed",
    "method",
    "test_accuracy",
    "test_loss",
    "validation_accuracy",
    "validation_loss",
    "steps",
    "samples_seen",
    "edits",
    "largest_difference",
    "parameters",
    "inference_flops",
    "training_flops",
    "training_seconds",
    "seconds",
)


def to_csv(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> str:
    """Rows as CSV.

    Args:
        rows: see :func:`gradnet.experiments.results.read_rows`.
        columns: of the table, empty where a row lacks one; None takes those of the
            rows.
    """
    tidy = pandas.DataFrame(list(rows))
    if columns is not None:
        tidy = tidy.reindex(columns=list(columns))
    tidy = tidy.map(lambda value: one_line(value) if isinstance(value, str) else value)
    return tidy.to_csv(index=False)


def format_spread(mean: float, deviation: float, count: int, digits: int = 2) -> str:
    """Mean, standard deviation and number of values, as all tables show them.

    >>> format_spread(75.0, 4.583, 3)
    '75.00 ± 4.58 (3)'
    >>> format_spread(80.0, float("nan"), 1)
    '80.00 (1)'
    """
    if count == 1:
        return f"{mean:.{digits}f} (1)"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f} ({count})"


def spread_of(values: "pandas.Series[float]", digits: int) -> str:
    """Mean, standard deviation with Bessel's correction, and number of values."""
    return format_spread(values.mean(), values.std(), len(values), digits)


def markdown_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str] = ()
) -> str:
    """A Markdown table, and lines of text below it; cells hold any text."""
    head, *body = [[markdown_cell(cell) for cell in row] for row in (titles, *rows)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(titles)]
    lines += [f"| {' | '.join(cells)} |" for cells in body]
    return "\n".join([*lines, "", *notes]) + "\n"


def summarize(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Test accuracy by level and method: mean, spread, number of seeds.

    >>> rows = [
    ...     {"seed": s, "level": 0.5, "method": "base", "test_accuracy": a}
    ...     for s, a in enumerate((0.50, 0.52))
    ... ]
    >>> print(to_markdown(summarize(rows)).splitlines()[2])
    | 0.5 | 51.00 ± 1.41 (2) |

    Args:
        rows: with ``seed``, ``level``, ``method`` and ``test_accuracy``.

    Returns:
        One row a level; columns ``(method, "mean" | "std" | "count")``. The spread is
        the standard deviation over seeds with Bessel's correction; NaN for one seed.
    """
    tidy = pandas.DataFrame(list(rows))
    grouped = tidy.groupby(["level", "method"])["test_accuracy"]
    statistics = grouped.agg(["mean", "std", "count"])
    wide = pandas.concat(
        {
            method: statistics.xs(method, level="method")
            for method in order_methods(tidy["method"])
        },
        axis=1,
    )
    return wide.sort_index()


def order_methods(names: Iterable[str]) -> list[str]:
    """The methods' names: base, GradNets, others by name, controls; each once."""
    methods = set(names)
    others = sorted(methods.difference(FIRST, LAST))
    return [method for method in (*FIRST, *others, *LAST) if method in methods]


def to_markdown(summary: pandas.DataFrame) -> str:
    """The summary of :func:`summarize` in percent, as Markdown."""
    methods = list(dict.fromkeys(summary.columns.get_level_values(0)))
    rows = [
        [f"{level:g}", *(_percent(row[method]) for method in methods)]
        for level, row in summary.iterrows()
    ]
    notes = (
        "Test accuracy in percent under the same centre crop: mean ± standard",
        "deviation over seeds (number of seeds). A level is the validation accuracy",
        "that the base network had just passed.",
    )
    return markdown_table(["level", *(TITLES.get(m, m) for m in methods)], rows, notes)


def _percent(statistics: "pandas.Series[float]") -> str:
    if pandas.isna(statistics["mean"]):
        return ""
    mean, deviation = 100 * statistics["mean"], 100 * statistics["std"]
    return format_spread(mean, deviation, int(statistics["count"]))


def growth_to_markdown(rows: Sequence[Row]) -> str:
    """Growth runs as Markdown, a line a method: means and spread over seeds.

    Args:
        rows: see :func:`gradnet.experiments.results.read_rows`.
    """
    titles = [
        *("method", "validation accuracy", "test accuracy", "test loss"),
        *("parameters", "training TFLOPs", "training time", "steps"),
    ]
    started = {row["method"] for row in rows if is_started(row)}
    lines = [
        [
            f"{name}{STARTED_MARK if name in started else ''}",
            spread_of(100 * group["validation_accuracy"], 2),
            spread_of(100 * group["test_accuracy"], 2),
            spread_of(group["test_loss"], 3),
            f"{group['parameters'].mean():,.0f}",
            f"{group['training_flops'].mean() / 1e12:,.4g}",
            f"{group['training_seconds'].mean():.0f} s",
            f"{group['steps'].mean():,.0f}",
        ]
        for name, group in pandas.DataFrame(rows).groupby("method", sort=False)
    ]
    notes = [
        "Accuracies in percent. Mean ± standard deviation over seeds (number of",
        "seeds). FLOPs are counted as executed: two for a multiplication and its",
        "addition, frozen parts without their backward pass, evaluations left out.",
    ]
    if started:
        notes.append(
            f"{STARTED_MARK} From a grown network, whose own training is not counted."
        )
    return markdown_table(titles, lines, notes)


def is_started(row: Row) -> bool:
    """Whether a run began with the network of another one."""
    return "start" in row["settings"]


def reached_to_markdown(
    records: Sequence[EvaluationRecord], rows: Sequence[Row]
) -> str:
    """What it took to reach validation accuracies: steps and TFLOPs, as Markdown.

    A run that is evaluated more often is seen to reach a level sooner. So all runs are
    compared at the steps at which the one with the rarest evaluations was evaluated,
    and at each one's last step.

    Args:
        records: evaluations of growth runs.
        rows: of the same runs; those that began with a grown network are left out.
    """
    whole = {(row["seed"], row["method"]) for row in rows if not is_started(row)}
    every = max(row["settings"]["training"]["evaluate_every"] for row in rows)
    tidy = pandas.DataFrame(
        [record for record in records if (record["seed"], record["method"]) in whole]
    )
    if tidy.empty:
        return "All runs began with grown networks.\n"
    last = tidy.groupby(["seed", "method"])["step"].transform("max")
    tidy = tidy[(tidy["step"] % every == 0) | (tidy["step"] == last)]
    levels = _levels(tidy)
    lines = []
    for method, group in tidy.groupby("method", sort=False):
        runs = [run for _, run in group.groupby("seed")]
        lines.append([str(method), *(_first_reached(runs, level) for level in levels)])
    notes = (
        "Optimizer steps and TFLOPs of training to the first evaluation with so high a",
        "validation accuracy: means over seeds (in brackets: those that reached it, of",
        f"all). Looked at every {every:,} steps, and at the end.",
    )
    titles = ["steps / TFLOPs to", *(f"{100 * level:g} %" for level in levels)]
    return markdown_table(titles, lines, notes)


def _levels(tidy: pandas.DataFrame) -> list[float]:
    """About five round accuracies, from what the worst method reached to the best."""
    from matplotlib.ticker import MaxNLocator

    best = tidy.groupby("method")["accuracy"].max()
    high = best.max()
    low = best.min() if best.min() < high else tidy["accuracy"].min()
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    # Ticks are sums of rounded steps: 0.95 may come out a hair above 0.95.
    levels = dict.fromkeys(round(float(tick), 4) for tick in ticks)
    return [level for level in levels if 0 < level <= high] or [high]


def _first_reached(runs: Sequence[pandas.DataFrame], level: float) -> str:
    found = [run[run["accuracy"] >= level] for run in runs]
    first = pandas.DataFrame([run.iloc[0] for run in found if len(run)])
    if first.empty:
        return "-"
    text = f"{first['step'].mean():,.0f} / {first['flops'].mean() / 1e12:.3g}"
    return text if len(first) == len(runs) else f"{text} ({len(first)} of {len(runs)})"


def trials_to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Solved trials, hidden units and epochs, as Markdown; failures are counted.

    Args:
        rows: one a trial, with ``solved``, ``hidden_units`` and ``epochs``; perhaps
            ``depth`` and ``test_accuracy``.
    """
    tidy = pandas.DataFrame(list(rows))
    solved = tidy[tidy["solved"]]
    titles = ["trials", "solved", "hidden units: mean (range)", "median"]
    titles.append("epochs: mean")
    cells = [str(len(tidy)), str(len(solved)), "-", "-", "-"]
    if len(solved):
        hidden = solved["hidden_units"]
        cells[2] = f"{hidden.mean():.1f} ({hidden.min()} to {hidden.max()})"
        cells[3:] = f"{hidden.median():g}", f"{solved['epochs'].mean():,.0f}"
    for name, title in (("depth", "depth"), ("test_accuracy", "test accuracy")):
        if name in tidy:
            titles.append(f"{title}: mean")
            cells.append(f"{solved[name].mean():.3g}" if len(solved) else "-")
    notes = (
        "Means are over the trials that were solved; the others are failures, whose",
        "numbers are lower bounds.",
    )
    return markdown_table(titles, [cells], notes)
