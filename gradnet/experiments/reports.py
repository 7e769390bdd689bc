"""Reports: the tables and figures of a run folder, written into it.

:func:`write_report_of` finds out which kind of study a folder holds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from gradnet.core.files import read_json, save_figure, write_text
from gradnet.errors import InvalidInputError
from gradnet.experiments.figures import draw_curves, draw_hidden_units, draw_levels
from gradnet.experiments.network_tables import (
    NETWORK_COLUMNS,
    draw_methods,
    network_to_markdown,
)
from gradnet.experiments.results import read_evaluations, read_rows
from gradnet.experiments.tables import (
    GROWTH_COLUMNS,
    LEVEL_COLUMNS,
    growth_to_markdown,
    reached_to_markdown,
    summarize,
    to_csv,
    to_markdown,
    trials_to_markdown,
)

# What the table of growth runs computes with.
COMPARED = (
    *("validation_accuracy", "test_accuracy", "test_loss", "parameters"),
    *("training_flops", "training_seconds", "steps"),
)


def write_report_of(folder: str | Path) -> tuple[str, Path]:
    """Write the tables and the figure of a run folder, whatever it is of.

    Args:
        folder: of a study of snapshots or of a network, or of growth runs.

    Returns:
        The table, as Markdown, and the path of the figure.

    Raises:
        GradnetError: there is no finished run, or the folder holds trials.
    """
    folder = Path(folder)
    rows, title = read_rows(folder), folder.resolve().name
    if any("trials" in row for row in rows):
        raise InvalidInputError(
            f"{folder} holds trials on a classic problem; the same gradnet grow writes "
            "their table again, without doing them again"
        )
    if any("training_flops" in row for row in rows):
        return write_growth_report(folder), folder / "curves.png"
    if all(row.get("level") is None for row in rows):
        return write_network_report(rows, folder, title), folder / "table.png"
    return to_markdown(write_report(rows, folder, title)), folder / "table.png"


def write_network_report(
    rows: Sequence[Mapping[str, Any]], folder: str | Path, title: str = ""
) -> str:
    """Write ``table.csv``, ``table.md`` and ``table.png`` of a study of one network.

    Args:
        rows: see :func:`gradnet.experiments.results.read_rows`.
        folder: the run folder; its ``study.json`` says what was trained on what.
        title: of the figure.

    Returns:
        The table, as Markdown.
    """
    folder = Path(folder)
    path = folder / "study.json"
    about = read_json(path) if path.exists() else {}
    text = network_to_markdown(rows, about if isinstance(about, Mapping) else {})
    write_text(folder / "table.csv", to_csv(rows, NETWORK_COLUMNS))
    write_text(folder / "table.md", text)
    save_figure(folder / "table.png", draw_methods(rows, title))
    return text


def write_report(
    rows: Sequence[Mapping[str, Any]], folder: str | Path, title: str = ""
) -> pandas.DataFrame:
    """Write ``table.csv``, ``table.md`` and ``table.png`` of a GradNet study.

    Args:
        rows: see :func:`gradnet.experiments.results.read_rows`.
        folder: the run folder.
        title: of the figure; the data set's name, say.

    Returns:
        The summary, as :func:`~gradnet.experiments.tables.summarize` makes it.
    """
    folder = Path(folder)
    write_text(folder / "table.csv", to_csv(rows, LEVEL_COLUMNS))
    summary = summarize(rows)
    write_text(folder / "table.md", to_markdown(summary))
    save_figure(folder / "table.png", draw_levels(rows, title))
    return summary


def write_growth_report(folder: str | Path) -> str:
    """Write the tables and the figure of a folder of growth runs.

    ``table.csv`` (a line a run), ``table.md``, ``reached.md`` and ``curves.png``.

    Args:
        folder: see :class:`gradnet.experiments.growth_study.GrowthStudy`.

    Returns:
        The table, as Markdown.

    Raises:
        GradnetError: there is no finished run.
    """
    folder = Path(folder)
    rows = [row for row in read_rows(folder) if _is_growth(row)]
    if not rows:
        raise InvalidInputError(f"{folder} has no results of growth runs")
    write_text(folder / "table.csv", to_csv(rows, GROWTH_COLUMNS))
    text = growth_to_markdown(rows)
    write_text(folder / "table.md", text)
    done = {(row["seed"], row["method"]) for row in rows}
    records = [
        record
        for record in read_evaluations(folder)
        if (record["seed"], record.get("method")) in done
    ]
    write_text(folder / "reached.md", reached_to_markdown(records, rows))
    save_figure(folder / "curves.png", draw_curves(records, folder.resolve().name))
    return text


def _is_growth(row: Mapping[str, Any]) -> bool:
    """Whether a row has what the tables of growth runs compute with."""
    training = (row["settings"] or {}).get("training")
    has_rhythm = isinstance(training, Mapping) and "evaluate_every" in training
    return has_rhythm and all(name in row for name in COMPARED)


def write_trials_report(
    rows: Sequence[Mapping[str, Any]], folder: str | Path, title: str = ""
) -> str:
    """Write ``trials.csv``, ``table.md`` and ``hidden-units.png`` of classic trials.

    Args:
        rows: one a trial.
        folder: the run folder.
        title: of the figure.

    Returns:
        The table, as Markdown.
    """
    folder = Path(folder)
    write_text(folder / "trials.csv", to_csv(rows))
    text = trials_to_markdown(rows)
    write_text(folder / "table.md", text)
    save_figure(folder / "hidden-units.png", draw_hidden_units(rows, title))
    return text
