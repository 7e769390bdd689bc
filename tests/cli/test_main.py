"""The command line: the whole way, kills on the way, one clear line for bad input."""

import importlib
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import run_killed

from gradnet.classifier.recipes import DEFAULT, RECIPES
from gradnet.cli.arguments import load_recipe, to_yaml
from gradnet.cli.commands import COMMANDS
from gradnet.cli.main import main
from gradnet.core.files import read_json
from gradnet.errors import GradnetError

BASE = """\
model: mlp
hidden: [8]
levels: [0.3, 0.5]
training: {steps: 300, optimizer: adamw, learning_rate: 0.003}
"""
STUDY = BASE + "max_epochs: 3\n"


def write_config(folder: Path, text: str) -> list[str]:
    (folder / "config.yaml").write_text(text)
    return ["--config", str(folder / "config.yaml"), "--out", str(folder / "run")]


def without_times(row: dict) -> dict:
    return {k: v for k, v in row.items() if "second" not in k and k != "hardware"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    main(["reproduce", *write_config(folder, STUDY)])
    return folder / "run"


def test_the_whole_leaves_everything_in_its_run_folder(study):
    for name in ("config.yaml", "metrics.jsonl", "table.csv", "table.md", "table.png"):
        assert (study / name).stat().st_size > 100
    assert len(list(study.glob("snapshots/seed-0/*.safetensors"))) == 2
    assert len(list(study.glob("gradnets/seed-0/*/default.safetensors"))) == 2
    assert not list(study.glob("checkpoints/**/*.pt"))
    assert not list(study.rglob("*.part"))


@pytest.mark.slow  # kills in the process itself are in tests/experiments/test_kills.py
def test_kills_change_nothing(study, tmp_path):
    arguments = ["reproduce", *write_config(tmp_path, STUDY)]
    run = tmp_path / "run"
    run_killed(arguments, (run / "snapshots/seed-0/checkpoint.pt").exists)
    run_killed(arguments, (run / "checkpoints/seed-0/level-0.3/default.pt").exists)
    run_killed(arguments, (run / "checkpoints/seed-0/level-0.5/fine-tuned.pt").exists)
    main(arguments)
    names = [str(p.relative_to(study)) for p in study.rglob("*.safetensors")]
    assert len(names) == 4
    for name in names:
        assert (run / name).read_bytes() == (study / name).read_bytes(), name
    for path in study.glob("results/*/*/*.json"):
        found = read_json(run / path.relative_to(study))
        assert without_times(found) == without_times(read_json(path))
    logs = [
        sorted(
            json.dumps(without_times(json.loads(line)), sort_keys=True) for line in t
        )
        for t in (
            (folder / "metrics.jsonl").read_text().splitlines()
            for folder in (study, run)
        )
    ]
    assert logs[0] == logs[1]


def test_stage_by_stage(tmp_path, capsys):
    main(["train-base", *write_config(tmp_path, BASE)])
    snapshot = capsys.readouterr().out.split()[1]
    out = str(tmp_path / "g.safetensors")
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(to_yaml(DEFAULT).replace("steps: 1200", "steps: 20"))
    arguments = ["fit", snapshot, "--recipe", str(recipe), "--out", out]
    main(arguments)
    assert "validation accuracy: base 0." in capsys.readouterr().out
    main(arguments)
    assert "done before" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", snapshot, "--recipe", "default", "--out", out])
    assert "training.steps was 20, now 1200" in capsys.readouterr().err
    main(["evaluate", snapshot, "--gradnet", out])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["base network", "GradNet"]
    assert all(line.endswith("of 359 test images") for line in lines)


@pytest.mark.parametrize("command", [*COMMANDS, "grow net2wider"])
def test_help_says_what_a_command_does_and_shows_an_example(command, capsys):
    with suppress(SystemExit):
        main([*command.split(), "--help"])
    text = capsys.readouterr().out
    example = f"gradnet {command} " if command != "grow" else "gradnet grow METHOD "
    assert text.count(example) >= 2  # the usage, and the example on its own line
    assert any(line.strip().startswith(example) for line in text.splitlines()[1:])


def test_commands_are_the_classes_and_functions_that_they_name():
    for name, entry in COMMANDS.items():
        module = importlib.import_module(f"gradnet.cli.{entry.module}")
        found = getattr(module, entry.name)
        assert callable(found) and f"gradnet {name}" in module.__doc__


def test_the_table_can_be_written_anew(study, capsys):
    before = (study / "table.md").read_text()
    (study / "table.md").unlink()
    main(["table", str(study)])
    assert (study / "table.md").read_text() == before
    assert before in capsys.readouterr().out


def test_weights_trained_elsewhere_become_a_snapshot(tmp_path, capsys):
    from gradnet.models import build_model

    model = build_model("mlp", hidden=[8])
    torch.save({"state_dict": model.state_dict()}, tmp_path / "mine.pt")
    out = str(tmp_path / "mine.safetensors")
    arguments = ["--model", "mlp", "--hidden", "8", "--out", out]
    main(["import-weights", "--weights", str(tmp_path / "mine.pt"), *arguments])
    main(["evaluate", out])
    assert "base network: 0." in capsys.readouterr().out


def test_recipes_survive_yaml(tmp_path):
    for name, recipe in RECIPES.items():
        (tmp_path / "r.yaml").write_text(to_yaml(recipe))
        assert load_recipe(str(tmp_path / "r.yaml")) == recipe, name


@pytest.mark.parametrize("text", ["head: none\n", "nonsense: 1\n", "[]", "{", "\0"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(GradnetError, match="r.yaml is no recipe"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_print_config_gives_back_what_was_given(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--seeds", "3", "4", "--levels", "0.5", "--print_config"])
    text = capsys.readouterr().out
    assert "seeds:\n- 3\n- 4\n" in text and "levels:\n- 0.5\n" in text


def npz(folder: Path, **changes: object) -> str:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (60, 8, 8), dtype=np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": rng.integers(0, 256, (9, 8, 8), dtype=np.uint8),
        "y_test": np.arange(9) % 3,
        **changes,
    }
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


BAD_ARRAYS = {
    "out of range": {"y_test": np.full(9, 7)},
    "not finite": {"x_train": np.full((60, 8, 8), np.nan)},
    "of one class": {"y_train": np.zeros(60, int), "y_test": np.zeros(9, int)},
    "is empty": {"x_train": np.zeros((0, 8, 8), np.uint8), "y_train": np.zeros(0, int)},
    "make them the same": {"x_test": np.zeros((9, 6, 6), np.uint8)},
    "plain array": {"x_train": np.array([object()] * 60)},
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_bad_data_is_told_in_one_line(tmp_path, capsys, message):
    out = tmp_path / "run"
    data = npz(tmp_path, **BAD_ARRAYS[message])
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "--data", data, "--out", str(out)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and not out.exists()
    assert message in error and error.count("\n") == 1
    assert error.startswith("gradnet: error: ") and "Traceback" not in error


class Hostile:
    """Pickles to a call that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_hostile_checkpoint_is_refused_and_not_run(tmp_path, capsys):
    mark, weights = tmp_path / "mark", tmp_path / "hostile.pt"
    torch.save({"state_dict": Hostile(mark)}, weights)
    out = tmp_path / "out.safetensors"
    with pytest.raises(SystemExit) as stop:
        main(["import-weights", "--weights", str(weights), "--out", str(out)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "is refused: it holds pickled objects" in error
    assert not mark.exists() and not out.exists()


def test_a_truncated_snapshot_is_refused(study, tmp_path, capsys):
    whole = next(study.glob("snapshots/seed-0/*.safetensors")).read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    for command in ("fit", "evaluate"):
        with pytest.raises(SystemExit) as stop:
            main([command, str(tmp_path / "half.safetensors")])
        assert stop.value.code == 2
        assert "not a complete safetensors file" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["half.safetensors"]


def test_a_truncated_checkpoint_of_a_run_is_refused(tmp_path, capsys):
    arguments = ["train-base", *write_config(tmp_path, BASE)]
    main(arguments)
    run = tmp_path / "run" / "snapshots" / "seed-0"
    (run / "level-0.5.safetensors").unlink()
    (run / "checkpoint.pt").write_bytes(b"PK")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "checkpoint.pt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "missing.safetensors"], "missing.safetensors: no such file"),
        (["reproduce", "--data", "moon"], "no data set 'moon': give one of digits"),
        (["reproduce", "--device", "warp"], "device 'warp' cannot be used"),
        (["reproduce", "--recipes", "best"], "no recipe 'best': give default"),
        (["reproduce", "--recipes", "default", "default"], "recipe 'default': the ta"),
        (
            ["reproduce", "--levels", "1.5"],
            "--levels[0] is 1.5; it must be > 0",
        ),
        (["reproduce", "--augmentation.crop", "9"], "a crop of 9 does not fit"),
        (["reproduce", "--model", "gpt"], "no model 'gpt'; there are: cnn2018"),
        (["table", "nowhere"], "nowhere has no results"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert f"gradnet: error: {message}" in error and "Traceback" not in error


def test_help_is_quick():
    start = time.monotonic()
    command = [sys.executable, "-m", "gradnet", "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "reproduce" in text and time.monotonic() - start < 1
