"""Figures of finished runs: accuracy by level, curves of growth, classic trials.

Every function returns a :class:`matplotlib.figure.Figure` and writes no file; see
:func:`gradnet.core.files.save_figure`. matplotlib is imported at the first figure.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas
import torch
from torch import Tensor

from gradnet.core.text import figure_text
from gradnet.experiments.results import EvaluationRecord
from gradnet.experiments.tables import LAST, TITLES, order_methods, summarize

MARKERS = "osDv^<>P*X"
# What the horizontal axes show: a method may be faster in steps, in work, or in time on
# this machine.
CLOCKS = {
    "step": "optimizer steps",
    "flops": "TFLOPs of training",
    "seconds": "seconds, evaluations included",
}
# Points a side of a decision map.
GRID = 160


def new_axes(size: tuple[float, float], x: str, y: str, title: str) -> Any:
    """The axes of a new figure with one panel, with its labels."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=size, layout="constrained").add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(figure_text(title))
    return axes


def draw_levels(rows: Sequence[Mapping[str, Any]], title: str = "") -> Any:
    """Accuracy of each method over the snapshots: points for seeds, lines for means.

    Args:
        rows: as :func:`summarize` takes them.
        title: written above.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    tidy = pandas.DataFrame(list(rows))
    axes = new_axes(
        (7, 4.5),
        "snapshot: validation accuracy just passed (%)",
        "test accuracy, centre crop (%)",
        title,
    )
    summary = summarize(rows)
    for index, method in enumerate(order_methods(tidy["method"])):
        means = summary[(method, "mean")].dropna()
        color, marker = f"C{index}", MARKERS[index % len(MARKERS)]
        axes.plot(
            means.index * 100,
            means * 100,
            color=color,
            marker=marker,
            linestyle="--" if method in LAST else "-",
            label=figure_text(TITLES.get(method, method)),
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
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return axes.figure


def draw_curves(records: Sequence[EvaluationRecord], title: str = "") -> Any:
    """Validation error against steps, FLOPs and seconds; dots where networks grew.

    Args:
        records: of growth runs; a line a seed.
        title: written above.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    tidy = pandas.DataFrame(list(records))
    methods = list(dict.fromkeys(tidy["method"]))
    few = len(methods) <= 10
    colors = colormaps["tab10" if few else "turbo"]
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(CLOCKS), sharey=True)
    for axes, (clock, label) in zip(panels, CLOCKS.items(), strict=True):
        for index, method in enumerate(methods):
            color = colors(index if few else index / (len(methods) - 1))
            of_method = tidy[tidy["method"] == method]
            for number, (_, run) in enumerate(of_method.groupby("seed")):
                line = {"color": color, "linewidth": 1, "alpha": 0.8}
                name = figure_text(method) if number == 0 else None
                error = 100 * (1 - run["accuracy"])
                axes.plot(run[clock], error, label=name, **line)
                grown = run["stage"] != run["stage"].shift(fill_value=0)
                axes.scatter(run[clock][grown], error[grown], s=9, color=color)
        axes.set_xlabel(label)
        if clock == "flops":
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e12:.3g}")
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 4, 5, 6, 8)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("validation error (%)")
    panels[1].set_title(figure_text(title))
    panels[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_hidden_units(rows: Sequence[Mapping[str, Any]], title: str = "") -> Any:
    """Histogram of the hidden units that trials ended with; failures apart.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    tidy = pandas.DataFrame(list(rows))
    axes = new_axes((6, 3.6), "hidden units at the end", "trials", title)
    units = tidy["hidden_units"]
    bins = np.arange(units.min(), units.max() + 2) - 0.5
    parts = [
        tidy[tidy["solved"]]["hidden_units"],
        tidy[~tidy["solved"]]["hidden_units"],
    ]
    names = [f"solved ({len(parts[0])})", f"given up ({len(parts[1])})"]
    shown = 2 if len(parts[1]) else 1
    axes.hist(parts[:shown], bins=list(bins), stacked=True, label=names[:shown])
    axes.legend(fontsize="small")
    return axes.figure


def draw_errors(
    errors: Sequence[Tensor], trials: Sequence[int], title: str = ""
) -> Any:
    """Error against epochs, with a mark where a unit was added.

    Args:
        errors: of each round's training, ``(T, epochs)``, NaN where a trial was not
            trained.
        trials: which of the ``T`` to draw.
        title: written above.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    axes = new_axes(
        (7, 3.8),
        "epochs of output training (dots: a unit was added)",
        "sum of squared errors",
        title,
    )
    for index, trial in enumerate(trials):
        values: list[float] = []
        marks: list[int] = []
        for found in errors:
            run = found[trial]
            run = run[~run.isnan()]
            if len(run):
                marks.append(len(values))
                values += run.tolist()
        color = f"C{index}"
        axes.plot(values, color=color, linewidth=1, label=f"trial {trial}")
        grown = marks[1:]
        axes.plot(grown, [values[m] for m in grown], ".", color=color, markersize=5)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return axes.figure


def draw_decisions(
    outputs: Callable[[Tensor, int], Tensor],
    inputs: Tensor,
    targets: Tensor,
    units: Sequence[int],
) -> Any:
    """Maps of the plane as hidden units are added, with the samples on them.

    Args:
        outputs: inputs ``(N, 2)`` and a number of hidden units to outputs ``(N,)``,
            above zero for the first class.
        inputs: the samples ``(N, 2)``.
        targets: ``(N,)``, 1 for the first class, 0 for the other.
        units: a map for each of these numbers of hidden units.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    reach = 1.08 * inputs.abs().max().item()
    line = torch.linspace(-reach, reach, GRID, dtype=inputs.dtype)
    grid = torch.cartesian_prod(line, line)
    columns = min(4, len(units))
    lines = -(-len(units) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * lines), layout="constrained")
    for axes, count in zip(
        figure.subplots(lines, columns, squeeze=False).flat, units, strict=False
    ):
        values = outputs(grid, count).reshape(GRID, GRID).T.cpu()
        axes.imshow(
            values.tanh().numpy(),
            extent=(-reach, reach, -reach, reach),
            origin="lower",
            cmap="RdBu",
            vmin=-0.5,
            vmax=0.5,
        )
        for kind, color in ((1, "navy"), (0, "darkred")):
            mine = inputs[targets == kind].numpy()
            axes.plot(mine[:, 0], mine[:, 1], ".", color=color, markersize=2)
        axes.set_title(f"{count} hidden units", fontsize="small")
        axes.set_xticks([])
        axes.set_yticks([])
    for axes in figure.axes[len(units) :]:
        axes.remove()
    return figure
