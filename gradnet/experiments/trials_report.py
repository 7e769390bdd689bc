"""Tables and pictures of many trials on a classic problem."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from torch import Tensor

from gradnet.core.files import save_figure, write_text

GRID = 160


def summarize(rows: Sequence[Mapping[str, Any]]) -> str:
    """Solved trials, hidden units and epochs, as Markdown; failures are counted.

    Args:
        rows: one a trial, with ``solved``, ``hidden_units`` and ``epochs``; perhaps
            ``depth`` and ``test_accuracy``.
    """
    tidy = pandas.DataFrame(list(rows))
    solved = tidy[tidy["solved"]]
    titles, cells = "", ""
    for name, title in (("depth", "depth"), ("test_accuracy", "test accuracy")):
        if name in tidy:
            titles += f" {title}: mean |"
            cells += f" {solved[name].mean():.3g} |" if len(solved) else " - |"
    if len(solved):
        hidden = solved["hidden_units"]
        units = f"{hidden.mean():.1f} ({hidden.min()} to {hidden.max()})"
        median, epochs = f"{hidden.median():g}", f"{solved['epochs'].mean():,.0f}"
    else:
        units = median = epochs = "-"
    head = "| trials | solved | hidden units: mean (range) | median | epochs: mean |"
    head += titles
    return (
        f"{head}\n|{'---|' * (head.count('|') - 1)}\n"
        f"| {len(tidy)} | {len(solved)} | {units} | {median} | {epochs} |{cells}\n\n"
        "Means are over the trials that were solved; the others are failures, whose\n"
        "numbers are lower bounds.\n"
    )


def write_trials(rows: Sequence[Mapping[str, Any]], folder: Path, title: str) -> str:
    """Write ``trials.csv``, ``table.md`` and ``hidden-units.png``; return the table."""
    write_text(folder / "trials.csv", pandas.DataFrame(list(rows)).to_csv(index=False))
    text = summarize(rows)
    write_text(folder / "table.md", text)
    save_figure(folder / "hidden-units.png", draw_hidden_units(rows, title))
    return text


def draw_hidden_units(rows: Sequence[Mapping[str, Any]], title: str = "") -> Any:
    """How many trials ended with how many hidden units; failures apart.

    Returns:
        A :class:`matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    tidy = pandas.DataFrame(list(rows))
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    units = tidy["hidden_units"]
    bins = np.arange(units.min(), units.max() + 2) - 0.5
    parts = [
        tidy[tidy["solved"]]["hidden_units"],
        tidy[~tidy["solved"]]["hidden_units"],
    ]
    names = [f"solved ({len(parts[0])})", f"given up ({len(parts[1])})"]
    shown = 2 if len(parts[1]) else 1
    axes.hist(parts[:shown], bins=list(bins), stacked=True, label=names[:shown])
    axes.set_xlabel("hidden units at the end")
    axes.set_ylabel("trials")
    axes.set_title(title)
    axes.legend(fontsize="small")
    return figure


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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.add_subplot()
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
    axes.set_xlabel("epochs of output training (dots: a unit was added)")
    axes.set_ylabel("sum of squared errors")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


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
