"""Results are read by seed and level; what is damaged is named and left out."""

from dataclasses import replace

import pytest

from gradnet.errors import DamagedFileError, GradnetError
from gradnet.experiments.results import (
    read_evaluations,
    read_rows,
    result_difference,
    rounded,
    several_environments,
)
from gradnet.experiments.run_folder import RunFolder
from gradnet.experiments.run_key import RunKey

KEY = RunKey(seed=0, method="default", level=0.5)
IDENTITY = {"problem": {"data_fingerprint": "abc"}, "model": "mlp"}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", IDENTITY, "a CPU")


def test_where_all_results_are_damaged_there_is_no_table(folder):
    folder.finish(KEY, {"test_accuracy": 0.5})
    folder.result(KEY).write_bytes(b"{")
    with pytest.raises(DamagedFileError, match=r"default\.json: not a JSON file"):
        read_rows(folder.path)


def test_damaged_evaluations_are_left_out(folder, caplog):
    folder.callbacks(KEY).on_evaluation({"step": 1, "accuracy": 0.5})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "evaluation", "seed": 0, "step": "x"}\n{"a"\n{}\n')
    assert [record["step"] for record in read_evaluations(folder.path)] == [1]
    assert "metrics.jsonl, line 3 is damaged" in caplog.text


def test_an_empty_folder_has_no_rows(tmp_path):
    with pytest.raises(GradnetError, match="no results; make some with gradnet repr"):
        read_rows(tmp_path)


def test_rows_come_by_seed_and_level(folder):
    for seed, level in ((1, 0.5), (0, 0.9), (0, 0.10)):
        key = replace(KEY, seed=seed, level=level)
        folder.finish(key, {"test_accuracy": 0.5})
    found = [(row["seed"], row["level"]) for row in read_rows(folder.path)]
    assert found == [(0, 0.1), (0, 0.9), (1, 0.5)]


def test_evaluations_are_read_without_other_events(folder):
    folder.callbacks(KEY).on_evaluation({"step": 1})
    folder.log_stage(KEY, {"seconds": 1.0})
    (record,) = read_evaluations(folder.path)
    assert record["step"] == 1 and record["method"] == "default"


def test_small_numbers_keep_their_digits():
    values = {"a": 0.123456, "b": 1234.56789, "c": 1.23456e-7, "d": 3, "e": 0.0}
    expected = {"a": 0.1235, "b": 1234.5679, "c": 1.235e-7, "d": 3, "e": 0.0}
    assert rounded(values) == expected


def test_inputs_are_compared_where_both_name_them():
    row = {"settings": None, "inputs": {"base": "a", "more": "b"}}
    assert result_difference(row, None, {}, {"base": "a"}) is None
    assert result_difference({"settings": None}, None, {}, {"base": "a"}) is None
    found = result_difference(row, None, {}, {"base": "c"})
    assert found == "base was 'a', now 'c'"


def test_one_environment_needs_no_field_of_its_own():
    one, two = {"threads": 1}, {"threads": 2}
    assert several_environments([one]) == {}
    assert several_environments([one, two]) == {"environments": [one, two]}
