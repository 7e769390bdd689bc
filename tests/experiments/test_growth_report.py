"""The table has a line a method with its spread; the curves mark growth."""

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnet.core.files import JsonLines, write_json
from gradnet.errors import GradnetError
from gradnet.experiments.growth_report import (
    CLOCKS,
    draw_curves,
    reached_to_markdown,
    spread,
    to_markdown,
    write_growth_report,
)


def row(seed: int, method: str, accuracy: float) -> dict[str, object]:
    return {
        "seed": seed,
        "method": method,
        "validation_accuracy": accuracy,
        "test_accuracy": accuracy,
        "test_loss": 0.5,
        "parameters": 1234,
        "training_flops": 2.5e12,
        "training_seconds": 7.0,
        "steps": 30,
        "settings": {"training": {"evaluate_every": 10}},
    }


def record(seed: int, method: str, step: int, stage: int) -> dict[str, object]:
    return {
        "seed": seed,
        "method": method,
        "event": "evaluation",
        "step": step,
        "stage": stage,
        "accuracy": 0.1 + step / 100,
        "flops": step * 10,
        "seconds": step / 5,
    }


RECORDS = [
    record(seed, method, step, stage)
    for seed in (0, 1)
    for method in ("a", "b")
    for step, stage in ((0, 0), (10, 0), (10, 1), (20, 1))
]


def test_a_line_a_method_with_mean_spread_and_number_of_seeds():
    rows = [row(0, "grown", 0.5), row(1, "grown", 0.6), row(0, "direct", 0.7)]
    lines = to_markdown(rows).splitlines()
    (grown,) = [line for line in lines if line.startswith("| grown")]
    assert "55.00 ± 7.07 (2)" in grown and "| 1,234 | 2.5 | 7 s | 30 |" in grown
    (direct,) = [line for line in lines if line.startswith("| direct")]
    assert "70.00 (1)" in direct


def test_spread_is_that_of_pandas():
    values = pandas.Series([1.0, 2.0, 4.0])
    assert spread(values, 3) == f"{values.mean():.3f} ± {values.std():.3f} (3)"


def test_every_clock_has_a_panel_with_a_line_a_seed_and_dots_at_growth():
    figure = draw_curves(RECORDS, "title")
    assert [axes.get_xlabel() for axes in figure.axes] == list(CLOCKS.values())
    for axes, clock in zip(figure.axes, CLOCKS, strict=True):
        assert len(axes.lines) == 4
        points = [tuple(c.get_offsets()[0]) for c in axes.collections]
        grown = next(r for r in RECORDS if r["stage"] == 1)
        assert set(points) == {(grown[clock], 100 * (1 - grown["accuracy"]))}
        assert [len(c.get_offsets()) for c in axes.collections] == [1] * 4


def test_steps_and_flops_to_an_accuracy_are_those_of_the_first_evaluation_there():
    # Accuracies are 10, 20, 20, 30 percent; one seed of "late" ends at 20.
    late = [record(seed, "late", step, 0) for seed in (0, 1) for step in (0, 10, 40)]
    records = [*RECORDS, *[r for r in late if (r["seed"], r["step"]) != (0, 40)]]
    rows = [row(seed, name, 0.5) for seed in (0, 1) for name in ("a", "b", "late")]
    lines = reached_to_markdown(records, rows).splitlines()
    assert lines[0] == "| steps / TFLOPs to | 30 % | 35 % | 40 % | 45 % | 50 % |"
    assert lines[2:5] == [
        "| a | 20 / 2e-10 | - | - | - | - |",
        "| b | 20 / 2e-10 | - | - | - | - |",
        "| late | 40 / 4e-10 (1 of 2) | 40 / 4e-10 (1 of 2) | 40 / 4e-10 (1 of 2) | "
        "40 / 4e-10 (1 of 2) | 40 / 4e-10 (1 of 2) |",
    ]


def test_who_is_looked_at_more_often_is_not_seen_sooner():
    often = [record(0, "often", step, 0) for step in range(26)]
    rarely = [record(0, "rarely", step, 0) for step in (0, 10, 20, 25)]
    rows = [row(0, name, 0.5) for name in ("often", "rarely")]
    rows[0]["settings"] = {"training": {"evaluate_every": 1}}
    lines = reached_to_markdown([*often, *rarely], rows).splitlines()
    assert lines[2].replace("often", "rarely") == lines[3]
    assert "10 / 1e-10" in lines[2] and "25 / 2.5e-10" in lines[2]
    assert "Looked at every 10 steps" in lines[-1]


def test_methods_that_reached_the_same_are_told_apart_on_the_way_there():
    rows = [row(seed, name, 0.5) for seed in (0, 1) for name in ("a", "b")]
    lines = reached_to_markdown(RECORDS, rows).splitlines()
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
        {**record(0, f"m{number}", 10, 0), "accuracy": value}
        for number, value in enumerate(values)
    ]
    rows = [row(0, f"m{number}", 0.5) for number in range(len(values))]
    lines = reached_to_markdown(records, rows).splitlines()
    titles = lines[0].split("|")[2:-1]
    assert len(set(titles)) == len(titles) > 0
    cells = [line.split("|")[2:-1] for line in lines[2 : 2 + len(values)]]
    for column in zip(*cells, strict=True):
        assert any(cell.strip() != "-" for cell in column)


def test_no_level_below_the_best_accuracy_is_left_out():
    for hundredths in range(20, 100):
        records = [
            {**record(0, "a", step, 0), "accuracy": value}
            for step, value in ((0, 0.1), (10, hundredths / 100))
        ]
        lines = reached_to_markdown(records, [row(0, "a", 0.5)]).splitlines()
        *_, before, last = (float(t.strip(" %")) for t in lines[0].split("|")[2:-1])
        assert last <= hundredths < 2 * last - before, lines[0]


def test_runs_that_began_with_a_grown_network_are_marked_and_not_raced():
    rows = [row(0, "a", 0.5), row(0, "b", 0.6)]
    rows[1]["settings"] = {**rows[1]["settings"], "start": "abc"}
    text = to_markdown(rows)
    assert "| b† |" in text and "| a |" in text and "† From a grown network" in text
    assert "†" not in to_markdown(rows[:1])
    records = [r for r in RECORDS if r["seed"] == 0]
    assert "| b |" not in reached_to_markdown(records, rows)
    assert "| a |" in reached_to_markdown(records, rows)
    assert "All runs began" in reached_to_markdown(records, rows[1:])


def test_files_stand_in_the_folder_and_tell_finished_runs_alone(tmp_path):
    for seed in (0, 1):
        write_json(tmp_path / f"results/seed-{seed}/a.json", row(seed, "a", 0.5))
    log = JsonLines(tmp_path / "metrics.jsonl")
    for entry in RECORDS:
        log.append(entry)
    text = write_growth_report(tmp_path)
    assert (tmp_path / "table.md").read_text() == text and "| b |" not in text
    assert len(pandas.read_csv(tmp_path / "table.csv")) == 2
    assert "| a |" in (tmp_path / "reached.md").read_text()
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_folder_without_finished_runs_is_refused(tmp_path):
    with pytest.raises(GradnetError, match="has no results"):
        write_growth_report(tmp_path)
