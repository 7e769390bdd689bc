"""A run folder counts what is finished, refuses what does not fit, logs once."""

import pytest

from gradnet.core.files import JsonLines
from gradnet.errors import GradnetError
from gradnet.experiments.run_folder import (
    RunFolder,
    describe,
    first_difference,
    plain,
    read_rows,
    rounded,
)

KEY = {"seed": 0, "level": 0.5, "method": "default"}
IDENTITY = {"problem": {"data_fingerprint": "abc"}, "model": "mlp"}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", IDENTITY, "a CPU")


def test_a_finished_row_is_done_and_read_back(folder):
    assert not folder.is_done(KEY, {"steps": 3})
    folder.checkpoint(KEY).parent.mkdir(parents=True)
    folder.checkpoint(KEY).touch()
    folder.finish(KEY, {"test_accuracy": 0.123456}, {"steps": 3})
    assert folder.is_done(KEY, {"steps": 3})
    assert not folder.checkpoint(KEY).exists()
    (row,) = read_rows(folder.path)
    assert row["test_accuracy"] == 0.1235 and row["hardware"] == "a CPU"


def test_a_row_of_other_settings_is_refused(folder):
    folder.finish(KEY, {"test_accuracy": 0.5}, {"training": {"steps": 3}})
    with pytest.raises(GradnetError, match="training.steps was 3, now 4"):
        folder.is_done(KEY, {"training": {"steps": 4}})


def test_a_folder_of_another_study_is_refused(folder):
    RunFolder(folder.path, IDENTITY, "another CPU")
    other = {**IDENTITY, "problem": {"data_fingerprint": "xyz"}}
    with pytest.raises(GradnetError, match="data_fingerprint was 'abc', now 'xyz'"):
        RunFolder(folder.path, other, "a CPU")


def test_a_resumed_run_logs_no_evaluation_twice(folder):
    first = folder.callbacks(KEY)
    first.on_resume([])
    for step in (0, 5, 10):
        first.on_evaluation({"step": step})
    folder.callbacks({**KEY, "seed": 1}).on_evaluation({"step": 0})
    second = folder.callbacks(KEY)
    second.on_resume([{"step": 0}, {"step": 5}])
    second.on_evaluation({"step": 10})
    records = JsonLines(folder.path / "metrics.jsonl").read()
    assert [r["step"] for r in records if r["seed"] == 0] == [0, 5, 10]
    assert [r["step"] for r in records if r["seed"] == 1] == [0]


def test_an_empty_folder_has_no_rows(tmp_path):
    with pytest.raises(GradnetError, match="no results; make some with gradnet repr"):
        read_rows(tmp_path)


def test_rows_come_by_seed_and_level(folder):
    for seed, level in ((1, 0.5), (0, 0.9), (0, 0.10)):
        folder.finish({**KEY, "seed": seed, "level": level}, {"test_accuracy": 0.5})
    found = [(row["seed"], row["level"]) for row in read_rows(folder.path)]
    assert found == [(0, 0.1), (0, 0.9), (1, 0.5)]


def test_differences_are_named():
    before, now = {"a": {"b": [1, 2]}}, plain({"a": {"b": (1, 3)}})
    assert first_difference(before, now) == "a.b was [1, 2], now [1, 3]"
    assert first_difference({}, {"new": 1}) == "new was None, now 1"


def test_rows_need_no_level(folder):
    key = {"seed": 2, "method": "grown"}
    folder.finish(key, {"test_accuracy": 0.5})
    folder.finish({**key, "seed": 1}, {"test_accuracy": 0.5})
    folder.finish(KEY, {"test_accuracy": 0.5})
    assert folder.result(key) == folder.path / "results/seed-2/grown.json"
    assert folder.checkpoint(key) == folder.path / "checkpoints/seed-2/grown.pt"
    rows = read_rows(folder.path)
    assert [(row["seed"], row["method"]) for row in rows] == [
        (0, "default"),
        (1, "grown"),
        (2, "grown"),
    ]
    assert folder.callbacks(key).description == describe(key) == "seed 2, grown"
    assert describe(KEY) == "seed 0, level 0.5, default"
    assert describe({"seed": 3}) == "base network, seed 3"


def test_small_numbers_keep_their_digits():
    values = {"a": 0.123456, "b": 1234.56789, "c": 1.23456e-7, "d": 3, "e": 0.0}
    expected = {"a": 0.1235, "b": 1234.5679, "c": 1.235e-7, "d": 3, "e": 0.0}
    assert rounded(values) == expected
