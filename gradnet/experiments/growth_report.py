"""Tables and pictures of growth runs: what was reached, at which cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from gradnet.core.files import JsonLines, save_figure, write_text
from gradnet.experiments.run_folder import Row, read_rows

# What stands on the horizontal axes, in the order of Chen et al.'s question: faster in
# what? Steps, work, or time on this machine.
CLOCKS = {
    "step": "optimizer steps",
    "flops": "TFLOPs of training",
    "seconds": "seconds, evaluations included",
}
MARK = "†"
COLUMNS = (
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


def write_growth_report(folder: str | Path) -> str:
    """Write the tables and the picture of a folder of growth runs.

    ``table.csv`` (a line a run), ``table.md``, ``reached.md`` and ``curves.png``.

    Args:
        folder: see :class:`gradnet.experiments.growth_study.GrowthStudy`.

    Returns:
        The table, as Markdown.

    Raises:
        GradnetError: there is no finished run.
    """
    folder = Path(folder)
    rows = read_rows(folder)
    tidy = pandas.DataFrame(rows).reindex(columns=list(COLUMNS))
    write_text(folder / "table.csv", tidy.to_csv(index=False))
    text = to_markdown(rows)
    write_text(folder / "table.md", text)
    done = {(row["seed"], row["method"]) for row in rows}
    records = [
        record
        for record in JsonLines(folder / "metrics.jsonl").read()
        if (record["seed"], record["method"]) in done
    ]
    write_text(folder / "reached.md", reached_to_markdown(records, rows))
    save_figure(folder / "curves.png", draw_curves(records, folder.resolve().name))
    return text


def to_markdown(rows: Sequence[Row]) -> str:
    """One line a method: means and spread over seeds.

    Args:
        rows: see :func:`gradnet.experiments.run_folder.read_rows`.
    """
    lines = [
        "| method | validation accuracy | test accuracy | test loss | parameters | "
        "training TFLOPs | training time | steps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    started = {row["method"] for row in rows if is_started(row)}
    for name, group in pandas.DataFrame(rows).groupby("method", sort=False):
        cells = [
            spread(100 * group["validation_accuracy"], 2),
            spread(100 * group["test_accuracy"], 2),
            spread(group["test_loss"], 3),
            f"{group['parameters'].mean():,.0f}",
            f"{group['training_flops'].mean() / 1e12:,.4g}",
            f"{group['training_seconds'].mean():.0f} s",
            f"{group['steps'].mean():,.0f}",
        ]
        mark = MARK if name in started else ""
        lines.append(f"| {name}{mark} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Accuracies in percent. Mean ± standard deviation over seeds (number of",
        "seeds). FLOPs are counted as executed: two for a multiplication and its",
        "addition, frozen parts without their backward pass, evaluations left out.",
    ]
    if started:
        lines.append(f"{MARK} From a grown network, whose own training is not counted.")
    return "\n".join(lines) + "\n"


def is_started(row: Row) -> bool:
    """Whether a run began with the network of another one."""
    return "start" in row["settings"]


def spread(values: "pandas.Series[float]", digits: int) -> str:
    """Mean, standard deviation with Bessel's correction, and number of seeds."""
    mean, count = values.mean(), len(values)
    if count == 1:
        return f"{mean:.{digits}f} (1)"
    return f"{mean:.{digits}f} ± {values.std():.{digits}f} ({count})"


def reached_to_markdown(
    records: Sequence[Mapping[str, Any]], rows: Sequence[Row]
) -> str:
    """What it took to reach validation accuracies: steps and TFLOPs.

    Who is looked at more often is seen sooner where it is. So of all runs those steps
    count at which the one that is looked at least often was, and each one's last.

    Args:
        records: as for :func:`draw_curves`.
        rows: of the same runs; those that began with a grown network are left out.
    """
    whole = {(row["seed"], row["method"]) for row in rows if not is_started(row)}
    every = max(row["settings"]["training"]["evaluate_every"] for row in rows)
    tidy = pandas.DataFrame(
        [
            record
            for record in records
            if record["event"] == "evaluation"
            and (record["seed"], record["method"]) in whole
        ]
    )
    if tidy.empty:
        return "All runs began with grown networks.\n"
    last = tidy.groupby(["seed", "method"])["step"].transform("max")
    tidy = tidy[(tidy["step"] % every == 0) | (tidy["step"] == last)]
    levels = _levels(tidy)
    lines = [
        "| steps / TFLOPs to | "
        + " | ".join(f"{100 * level:g} %" for level in levels)
        + " |",
        "|---|" + "---|" * len(levels),
    ]
    for method, group in tidy.groupby("method", sort=False):
        runs = [run for _, run in group.groupby("seed")]
        cells = [_first_reached(runs, level) for level in levels]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += [
        "",
        "Optimizer steps and TFLOPs of training to the first evaluation with so high a",
        "validation accuracy: means over seeds (in brackets: those that reached it, of",
        f"all). Looked at every {every:,} steps, and at the end.",
    ]
    return "\n".join(lines) + "\n"


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


def draw_curves(records: Sequence[Mapping[str, Any]], title: str = "") -> Any:
    """Validation error against steps, FLOPs and seconds; dots where networks grew.

    Args:
        records: of a run folder's log: those of evaluations are drawn, a line a seed.
        title: written above.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    tidy = pandas.DataFrame([r for r in records if r["event"] == "evaluation"])
    methods = list(dict.fromkeys(tidy["method"]))
    colors = colormaps["tab10" if len(methods) <= 10 else "turbo"]
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(CLOCKS), sharey=True)
    for axes, (clock, label) in zip(panels, CLOCKS.items(), strict=True):
        for index, method in enumerate(methods):
            place = index if len(methods) <= 10 else index / (len(methods) - 1)
            of_method = tidy[tidy["method"] == method]
            for number, (_, run) in enumerate(of_method.groupby("seed")):
                line = {"color": colors(place), "linewidth": 1, "alpha": 0.8}
                name = method if number == 0 else None
                error = 100 * (1 - run["accuracy"])
                axes.plot(run[clock], error, label=name, **line)
                grown = run["stage"] != run["stage"].shift(fill_value=0)
                axes.scatter(run[clock][grown], error[grown], s=9, color=colors(place))
        axes.set_xlabel(label)
        if clock == "flops":
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e12:.3g}")
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 4, 5, 6, 8)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("validation error (%)")
    panels[1].set_title(title)
    panels[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
