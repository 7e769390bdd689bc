"""Reports write all tables and figures of a run folder, of finished runs only."""

import pandas
import pytest
from row_cases import EVALUATIONS, LEVEL_ROWS, TRIAL_ROWS, growth_row

from gradnet.core.files import write_json
from gradnet.core.json_lines import JsonLines
from gradnet.errors import GradnetError
from gradnet.experiments.reports import (
    write_growth_report,
    write_report,
    write_trials_report,
)


def test_the_files_are_written(tmp_path):
    write_report(LEVEL_ROWS, tmp_path, "title")
    tidy = pandas.read_csv(tmp_path / "table.csv")
    assert len(tidy) == len(LEVEL_ROWS) and list(tidy)[:3] == [
        "seed",
        "level",
        "method",
    ]
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.md").read_text().count("|") > 20


def test_the_files_of_growth_runs_show_finished_ones_only(tmp_path):
    for seed in (0, 1):
        write_json(tmp_path / f"results/seed-{seed}/a.json", growth_row(seed, "a", 0.5))
    log = JsonLines(tmp_path / "metrics.jsonl")
    for entry in EVALUATIONS:
        log.append(entry)
    text = write_growth_report(tmp_path)
    assert (tmp_path / "table.md").read_text() == text and "| b |" not in text
    assert len(pandas.read_csv(tmp_path / "table.csv")) == 2
    assert "| a |" in (tmp_path / "reached.md").read_text()
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_folder_without_finished_runs_is_refused(tmp_path):
    with pytest.raises(GradnetError, match="has no results"):
        write_growth_report(tmp_path)


def test_the_files_of_trials_are_written(tmp_path):
    text = write_trials_report(TRIAL_ROWS, tmp_path, "xor")
    assert (tmp_path / "table.md").read_text() == text
    assert pandas.read_csv(tmp_path / "trials.csv")["epochs"].sum() == 2100
    assert (tmp_path / "hidden-units.png").stat().st_size > 1000
