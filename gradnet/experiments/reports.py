"""Reports: the tables and figures of a run folder, written into it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from gradnet.core.files import save_figure, write_text
from gradnet.errors import InvalidInputError
from gradnet.experiments.figures import draw_curves, draw_hidden_units, draw_levels
from gradnet.experiments.run_folder import read_evaluations, read_rows
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


def write_report(
    rows: Sequence[Mapping[str, Any]], folder: str | Path, title: str = ""
) -> pandas.DataFrame:
    """Write ``table.csv``, ``table.md`` and ``table.png`` of a GradNet study.

    Args:
        rows: see :func:`gradnet.experiments.run_folder.read_rows`.
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
