"""A run folder counts what is finished, refuses what does not fit, logs once."""

from dataclasses import dataclass, replace

import pytest

from gradnet.core.files import write_json
from gradnet.core.json_lines import JsonLines
from gradnet.errors import DamagedFileError, GradnetError
from gradnet.experiments.run_folder import (
    RunFolder,
    RunKey,
    read_evaluations,
    read_rows,
    rounded,
)

KEY = RunKey(seed=0, method="default", level=0.5)
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
    folder.callbacks(replace(KEY, seed=1)).on_evaluation({"step": 0})
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
        key = replace(KEY, seed=seed, level=level)
        folder.finish(key, {"test_accuracy": 0.5})
    found = [(row["seed"], row["level"]) for row in read_rows(folder.path)]
    assert found == [(0, 0.1), (0, 0.9), (1, 0.5)]


@dataclass(frozen=True)
class Settings:
    steps: int = 3


@dataclass(frozen=True)
class LaterSettings(Settings):
    extra: str = "none"


def test_a_new_field_with_a_default_leaves_finished_rows_done(folder):
    folder.finish(KEY, {"test_accuracy": 0.5}, Settings())
    assert folder.is_done(KEY, LaterSettings())
    with pytest.raises(GradnetError, match="extra was None, now 'some'"):
        folder.is_done(KEY, LaterSettings(extra="some"))


def test_a_new_field_with_a_default_leaves_a_folder_its_study(folder):
    identity = {**IDENTITY, "training": Settings()}
    path = folder.path.parent / "other"
    RunFolder(path, identity, "a CPU")
    RunFolder(path, {**IDENTITY, "training": LaterSettings()}, "a CPU")
    with pytest.raises(GradnetError, match=r"training\.steps was 3, now 4"):
        RunFolder(path, {**IDENTITY, "training": LaterSettings(steps=4)}, "a CPU")


def test_facts_stand_beside_the_settings_and_count(folder):
    folder.finish(KEY, {"test_accuracy": 0.5}, Settings(), {"growth_method": "A"})
    assert folder.is_done(KEY, Settings(), {"growth_method": "A"})
    with pytest.raises(GradnetError, match="growth_method was 'A', now 'B'"):
        folder.is_done(KEY, Settings(), {"growth_method": "B"})


def test_files_of_a_newer_version_are_refused(folder):
    folder.finish(KEY, {"test_accuracy": 0.5})
    write_json(folder.result(KEY), {"format": 99, "settings": None})
    with pytest.raises(DamagedFileError, match="newer gradnet"):
        read_rows(folder.path)
    write_json(folder.path / "study.json", {"format": 99})
    with pytest.raises(DamagedFileError, match="newer gradnet"):
        RunFolder(folder.path, IDENTITY, "a CPU")


def test_evaluations_are_read_without_other_events(folder):
    folder.callbacks(KEY).on_evaluation({"step": 1})
    folder.log_stage(KEY, {"seconds": 1.0})
    (record,) = read_evaluations(folder.path)
    assert record["step"] == 1 and record["method"] == "default"


def test_rows_need_no_level(folder):
    key = RunKey(2, "grown")
    folder.finish(key, {"test_accuracy": 0.5})
    folder.finish(replace(key, seed=1), {"test_accuracy": 0.5})
    folder.finish(KEY, {"test_accuracy": 0.5})
    assert folder.result(key) == folder.path / "results/seed-2/grown.json"
    assert folder.checkpoint(key) == folder.path / "checkpoints/seed-2/grown.pt"
    rows = read_rows(folder.path)
    assert [(row["seed"], row["method"]) for row in rows] == [
        (0, "default"),
        (1, "grown"),
        (2, "grown"),
    ]
    assert folder.callbacks(key).description == str(key) == "seed 2, grown"
    assert str(KEY) == "seed 0, level 0.5, default"
    assert str(RunKey(3)) == "base network, seed 3"


def test_small_numbers_keep_their_digits():
    values = {"a": 0.123456, "b": 1234.56789, "c": 1.23456e-7, "d": 3, "e": 0.0}
    expected = {"a": 0.1235, "b": 1234.5679, "c": 1.235e-7, "d": 3, "e": 0.0}
    assert rounded(values) == expected
