"""Tables: committed ones to the byte, spreads by plain numpy, failures counted."""

from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_cases import (
    EVALUATIONS,
    LEVEL_ROWS,
    TRIAL_ROWS,
    evaluation,
    growth_row,
)

from gradnet.experiments.results import read_evaluations, read_rows
from gradnet.experiments.tables import (
    GROWTH_COLUMNS,
    LEVEL_COLUMNS,
    growth_to_markdown,
    markdown_table,
    reached_to_markdown,
    spread_of,
    summarize,
    to_csv,
    to_markdown,
    trials_to_markdown,
)

RESULTS = Path(__file__).parents[2] / "benchmarks/results"
STUDIES = [RESULTS / "mnist", RESULTS / "cifar10-jpeg"]
GROWTH_STUDIES = sorted(p.parent for p in RESULTS.glob("growth/*/table.csv"))
TRIALS = sorted(p.parent for p in RESULTS.glob("growth/classic/*/trials.csv"))


def name_of(folder):
    return folder.name


@pytest.mark.parametrize("folder", STUDIES, ids=name_of)
def test_the_tables_of_committed_studies_are_the_same_to_the_byte(folder):
    rows = read_rows(folder)
    assert to_csv(rows, LEVEL_COLUMNS) == (folder / "table.csv").read_text()
    assert to_markdown(summarize(rows)) == (folder / "table.md").read_text()


@pytest.mark.parametrize("folder", GROWTH_STUDIES, ids=name_of)
def test_the_tables_of_committed_growth_runs_are_the_same_to_the_byte(folder):
    rows, records = read_rows(folder), read_evaluations(folder)
    assert to_csv(rows, GROWTH_COLUMNS) == (folder / "table.csv").read_text()
    assert growth_to_markdown(rows) == (folder / "table.md").read_text()
    assert reached_to_markdown(records, rows) == (folder / "reached.md").read_text()


@pytest.mark.parametrize("folder", TRIALS, ids=name_of)
def test_the_tables_of_committed_trials_are_the_same_to_the_byte(folder):
    rows = pandas.read_csv(folder / "trials.csv").to_dict("records")
    assert to_csv(rows) == (folder / "trials.csv").read_text()
    expected = (folder / "table.md").read_text()
    if "depth" not in expected:  # written before the table had the depth
        for row in rows:
            row.pop("depth", None)
    assert trials_to_markdown(rows) == expected


def test_mean_and_spread_over_seeds():
    statistics = summarize(LEVEL_ROWS).loc[0.7, "default"]
    values = np.array([0.71, 0.74, 0.8])
    assert statistics["mean"] == pytest.approx(values.mean())
    assert statistics["std"] == pytest.approx(values.std(ddof=1))
    assert statistics["count"] == 3


def test_the_base_comes_first_and_the_controls_last():
    methods = list(dict.fromkeys(summarize(LEVEL_ROWS).columns.get_level_values(0)))
    assert methods == ["base", "default", "mine", "fine-tuned"]


def test_the_markdown_table_shows_spread_count_and_gaps():
    lines = to_markdown(summarize(LEVEL_ROWS)).splitlines()
    assert lines[0].startswith("| level | base network | GradNet (default) | mine |")
    assert lines[2].startswith("| 0.5 | 51.50 ± 0.71 (2) |  |")
    assert "75.00 ± 4.58 (3)" in lines[3] and "80.00 (1)" in lines[3]


def test_a_line_a_method_with_mean_spread_and_number_of_seeds():
    rows = [
        growth_row(0, "grown", 0.5),
        growth_row(1, "grown", 0.6),
        growth_row(0, "direct", 0.7),
    ]
    lines = growth_to_markdown(rows).splitlines()
    (grown,) = [line for line in lines if line.startswith("| grown")]
    assert "55.00 ± 7.07 (2)" in grown and "| 1,234 | 2.5 | 7 s | 30 |" in grown
    (direct,) = [line for line in lines if line.startswith("| direct")]
    assert "70.00 (1)" in direct


def test_spread_is_that_of_pandas():
    values = pandas.Series([1.0, 2.0, 4.0])
    assert spread_of(values, 3) == f"{values.mean():.3f} ± {values.std():.3f} (3)"


def test_steps_and_flops_to_an_accuracy_are_those_of_the_first_evaluation_there():
    # Accuracies are 10, 20, 20, 30 percent; one seed of "late" ends at 20.
    late = [
        evaluation(seed, "late", step, 0) for seed in (0, 1) for step in (0, 10, 40)
    ]
    records = [*EVALUATIONS, *[r for r in late if (r["seed"], r["step"]) != (0, 40)]]
    rows = [
        growth_row(seed, name, 0.5) for seed in (0, 1) for name in ("a", "b", "late")
    ]
    lines = reached_to_markdown(records, rows).splitlines()
    assert lines[0] == "| steps / TFLOPs to | 30 % | 35 % | 40 % | 45 % | 50 % |"
    assert lines[2:5] == [
        "| a | 20 / 2e-10 | - | - | - | - |",
        "| b | 20 / 2e-10 | - | - | - | - |",
        "| late | 40 / 4e-10 (1 of 2) | 40 / 4e-10 (1 of 2) | 40 / 4e-10 (1 of 2) | "
        "40 / 4e-10 (1 of 2) | 40 / 4e-10 (1 of 2) |",
    ]


def test_more_frequent_evaluations_give_no_advantage():
    often = [evaluation(0, "often", step, 0) for step in range(26)]
    rarely = [evaluation(0, "rarely", step, 0) for step in (0, 10, 20, 25)]
    rows = [growth_row(0, name, 0.5) for name in ("often", "rarely")]
    rows[0]["settings"] = {"training": {"evaluate_every": 1}}
    lines = reached_to_markdown([*often, *rarely], rows).splitlines()
    assert lines[2].replace("often", "rarely") == lines[3]
    assert "10 / 1e-10" in lines[2] and "25 / 2.5e-10" in lines[2]
    assert "Looked at every 10 steps" in lines[-1]


def test_methods_that_reached_the_same_are_distinguished_on_the_way_there():
    rows = [growth_row(seed, name, 0.5) for seed in (0, 1) for name in ("a", "b")]
    lines = reached_to_markdown(EVALUATIONS, rows).splitlines()
    assert lines[0] == "| steps / TFLOPs to | 10 % | 15 % | 20 % | 25 % | 30 % |"
    assert (
        lines[2] == "| a | 0 / 0 | 10 / 1e-10 | 10 / 1e-10 | 20 / 2e-10 | 20 / 2e-10 |"
    )


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=6),
    st.sampled_from([1, 2, 3, 7, 96, 1000]),
)
def test_every_level_is_reached_and_stands_once(accuracies, samples):
    values = [min(value, samples) / samples for value in accuracies]
    records = [
        {**evaluation(0, f"m{number}", 10, 0), "accuracy": value}
        for number, value in enumerate(values)
    ]
    rows = [growth_row(0, f"m{number}", 0.5) for number in range(len(values))]
    lines = reached_to_markdown(records, rows).splitlines()
    titles = lines[0].split("|")[2:-1]
    assert len(set(titles)) == len(titles) > 0
    cells = [line.split("|")[2:-1] for line in lines[2 : 2 + len(values)]]
    for column in zip(*cells, strict=True):
        assert any(cell.strip() != "-" for cell in column)


def test_no_level_below_the_best_accuracy_is_left_out():
    for hundredths in range(20, 100):
        records = [
            {**evaluation(0, "a", step, 0), "accuracy": value}
            for step, value in ((0, 0.1), (10, hundredths / 100))
        ]
        lines = reached_to_markdown(records, [growth_row(0, "a", 0.5)]).splitlines()
        *_, before, last = (float(t.strip(" %")) for t in lines[0].split("|")[2:-1])
        assert last <= hundredths < 2 * last - before, lines[0]


def test_runs_that_began_with_a_grown_network_are_marked_and_not_raced():
    rows = [growth_row(0, "a", 0.5), growth_row(0, "b", 0.6)]
    rows[1]["settings"] = {**rows[1]["settings"], "start": "abc"}
    text = growth_to_markdown(rows)
    assert "| b† |" in text and "| a |" in text and "† From a grown network" in text
    assert "†" not in growth_to_markdown(rows[:1])
    records = [r for r in EVALUATIONS if r["seed"] == 0]
    assert "| b |" not in reached_to_markdown(records, rows)
    assert "| a |" in reached_to_markdown(records, rows)
    assert "All runs began" in reached_to_markdown(records, rows[1:])


def test_failures_are_counted_and_left_out_of_the_means():
    line = trials_to_markdown(TRIAL_ROWS).splitlines()[2]
    assert line == "| 4 | 3 | 4.0 (3 to 5) | 4 | 400 |"


def test_a_study_without_a_solution_says_so():
    line = trials_to_markdown(
        [dict(row, solved=False) for row in TRIAL_ROWS]
    ).splitlines()[2]
    assert line == "| 4 | 0 | - | - | - |"


def test_depth_and_test_accuracy_are_shown_where_they_are_known():
    rows = [dict(row, depth=2 * row["hidden_units"]) for row in TRIAL_ROWS]
    lines = trials_to_markdown(rows).splitlines()
    assert lines[0].endswith("| epochs: mean | depth: mean |")
    assert lines[1].count("---") == lines[0].count("|") - 1
    assert lines[2].endswith("| 400 | 8 |")
    lines = trials_to_markdown(
        [dict(row, test_accuracy=0.5) for row in TRIAL_ROWS]
    ).splitlines()
    assert lines[0].endswith("| test accuracy: mean |") and lines[2].endswith("| 0.5 |")


def test_names_from_elsewhere_do_not_break_a_table():
    hostile = "a|b\n\x1b[31m"
    text = markdown_table([hostile, "x"], [[hostile, "1"]], ["a note"])
    assert text.splitlines()[0] == r"| a\|b\n\x1b[31m | x |"
    assert text.splitlines()[2] == r"| a\|b\n\x1b[31m | 1 |"
    table = to_csv([{"method": hostile, "seed": 0}])
    assert table.splitlines() == ["method,seed", r"a|b\n\x1b[31m,0"]
