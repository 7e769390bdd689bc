"""A run folder counts what is finished, refuses what does not fit, logs once."""

from dataclasses import dataclass, replace

import pytest

from gradnet.core.files import read_json, write_json
from gradnet.core.json_lines import JsonLines
from gradnet.errors import BusyError, DamagedFileError, GradnetError
from gradnet.experiments.results import read_rows
from gradnet.experiments.run_folder import RunFolder
from gradnet.experiments.run_key import RunKey

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


def test_a_finished_event_that_a_kill_lost_comes_back(folder, monkeypatch):
    folder.finish(replace(KEY, seed=1), {"test_accuracy": 0.5})
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "replace", lambda *arguments: None)
        folder.finish(KEY, {"test_accuracy": 0.75, "fit_seconds": 1.5}, {"steps": 3})
    folder.checkpoint(KEY).parent.mkdir(parents=True)
    folder.checkpoint(KEY).touch()
    for _ in range(2):
        assert folder.is_done(KEY, {"steps": 3})
        records = JsonLines(folder.path / "metrics.jsonl").read()
        found = [record for record in records if record["seed"] == 0]
        assert found == [
            {**KEY.fields, "event": "finished", "test_accuracy": 0.75}
            | {"fit_seconds": 1.5}
        ]
    assert not folder.checkpoint(KEY).exists()


DAMAGE = [b"", b"{", b"[]", b"\xff", b'{"format": 1}', b'{"format": -1}']
DAMAGE += [b'{"format": 1, "seed": "a", "method": "default", "settings": null}']
DAMAGE += [b'{"format": 1, "seed": 0, "method": 3, "settings": null}']
DAMAGE += [b'{"format": 1, "seed": 0, "method": "default", "settings": "x"}']


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_result_is_named_and_made_again(folder, content, caplog):
    other = replace(KEY, seed=1)
    for key in (KEY, other):
        folder.finish(key, {"test_accuracy": 0.5})
    folder.result(KEY).write_bytes(content)
    assert [row["seed"] for row in read_rows(folder.path)] == [1]
    assert str(folder.result(KEY)) in caplog.text and "left out" in caplog.text
    assert not folder.is_done(KEY) and folder.is_done(other)
    assert "is made again" in caplog.text
    aside = folder.result(KEY).with_name("default.json.damaged")
    assert aside.read_bytes() == content
    folder.finish(KEY, {"test_accuracy": 0.5})
    assert len(read_rows(folder.path)) == 2


def test_another_environment_is_told_once_and_counts(folder, caplog):
    for seed in (0, 1):
        folder.finish(replace(KEY, seed=seed), {"test_accuracy": 0.5})
    now = {**folder.environment, "threads": 64, "torch": "9.9"}
    other = RunFolder(folder.path, IDENTITY, "a CPU", where=now)
    for seed in (0, 1):
        assert other.is_done(replace(KEY, seed=seed))
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "now 64" in warning and "now 9.9" in warning and str(KEY) in warning


def test_a_result_without_an_environment_is_valid(folder, caplog):
    folder.finish(KEY, {"test_accuracy": 0.5})
    values = read_json(folder.result(KEY))
    for name in ("environment", "inputs"):
        del values[name]
    write_json(folder.result(KEY), values)
    assert folder.is_done(KEY, inputs={"base": "abc"})
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_a_result_of_another_base_network_is_refused(folder):
    folder.finish(KEY, {"test_accuracy": 0.5}, inputs={"base": "abc"})
    assert folder.is_done(KEY, inputs={"base": "abc"})
    with pytest.raises(GradnetError, match="base was 'abc', now 'xyz'"):
        folder.is_done(KEY, inputs={"base": "xyz"})


def test_a_run_is_locked_until_its_block_ends(folder):
    second = RunFolder(folder.path, IDENTITY, "a CPU")
    with folder.running("seed-0"), folder.running("seed-0", "seed-1"):
        with second.running("seed-2"):
            pass
        with pytest.raises(BusyError, match="another process is running seed-1"):
            with second.running("seed-2", "seed-1"):
                pass
    with second.running("seed-0", "seed-1", "seed-2"):
        pass
    assert not list(folder.path.rglob("*.lock"))


def test_what_killed_processes_left_is_removed(folder):
    left = [folder.path / "table.md.99999.part", folder.path / "metrics.jsonl.lock"]
    left += [folder.result(KEY).with_name("default.json.99999.part")]
    kept = [folder.path / "mine.99999.part.txt", folder.snapshots(0) / "g.pt.part"]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    RunFolder(folder.path, IDENTITY, "a CPU")
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
