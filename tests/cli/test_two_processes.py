"""Two processes at once on one run folder or file: one works, the other says so."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import outcome

from gradnet.classifier.recipes import DEFAULT
from gradnet.cli.arguments import to_yaml
from gradnet.cli.main import main
from gradnet.core.json_lines import JsonLines
from gradnet.training.loop import _Run

TRAINING = ["--training.steps", "40", "--training.batch_size", "16", "--device", "cpu"]
BASE = ["--model", "mlp", "--hidden", "4", "--levels", "0.15", *TRAINING]
COMMANDS = {
    "train-base": ["train-base", *BASE],
    "reproduce": ["reproduce", *BASE, "--max_epochs", "0.1", "--controls", "null"],
    "grow": [
        *("grow", "net2wider", "--model_args", '{"hidden": [3]}', *TRAINING),
        *("--wider", '{"linear0": 4}', "--growth.first", "20"),
    ],
}
HELD = {"grow": "seed-0-net2wider", "train-base": "seed-0", "reproduce": "seed-0"}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def held(monkeypatch):
    """A process that runs a command and waits at its first step until it is let go."""
    context = multiprocessing.get_context("fork")
    begun, go = context.Event(), context.Event()
    train_step = _Run.train_step

    def wait_at_first(run):
        begun.set()
        assert go.wait(60)
        train_step(run)

    def start(arguments):
        with monkeypatch.context() as patch:
            patch.setattr(_Run, "train_step", wait_at_first)
            process = context.Process(target=main, args=(arguments,))
            process.start()
        assert begun.wait(60)
        return process, go

    return start


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and len(error.splitlines()) == 1
    return error


@pytest.mark.parametrize("command", COMMANDS)
def test_one_works_and_the_other_says_so(command, held, tmp_path, capsys):
    both = [*COMMANDS[command], "--out", str(tmp_path / "both")]
    process, go = held(both)
    before = outcome(tmp_path / "both")
    error = refused(both, capsys)
    assert f"another process is running {HELD[command]} in {tmp_path / 'both'}" in error
    assert outcome(tmp_path / "both") == before
    go.set()
    process.join()
    assert process.exitcode == 0
    main([*COMMANDS[command], "--out", str(tmp_path / "alone")])
    found, alone = outcome(tmp_path / "both"), outcome(tmp_path / "alone")
    for files in (found, alone):
        for name in [n for n in files if n.endswith(".yaml")]:
            del files[name]  # they name the folder
    assert found == alone


def test_other_seeds_run_beside_each_other(held, tmp_path):
    arguments = [*COMMANDS["grow"], "--out", str(tmp_path)]
    process, go = held(arguments)
    main([*arguments, "--seeds", "1"])
    go.set()
    process.join()
    assert process.exitcode == 0
    records = JsonLines(tmp_path / "metrics.jsonl").read()
    ended = [r["seed"] for r in records if r["event"] == "finished"]
    assert sorted(ended) == [0, 1]
    assert (tmp_path / "table.md").read_text().count("(2)") == 3


@pytest.fixture
def fit(tmp_path, capsys):
    """The arguments of a quick fit."""
    main([*COMMANDS["train-base"], "--out", str(tmp_path / "base")])
    snapshot = capsys.readouterr().out.split()[1]
    text = to_yaml(DEFAULT).replace("steps: 1200", "steps: 6")
    (tmp_path / "quick.yaml").write_text(text)
    return [
        "fit",
        snapshot,
        "--recipe",
        str(tmp_path / "quick.yaml"),
        "--device",
        "cpu",
    ]


def test_two_fits_of_one_file(fit, held, tmp_path, capsys):
    arguments = [*fit, "--out", str(tmp_path / "g.safetensors")]
    process, go = held(arguments)
    for seed in ("0", "1"):
        error = refused([*arguments, "--seed", seed], capsys)
        assert "another process is making this file" in error
    go.set()
    process.join()
    assert process.exitcode == 0
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--seed", "1"], "seed was 0, now 1"),
        (["--data", "other.npz"], "data_fingerprint was"),
    ],
)
def test_a_gradnet_of_another_seed_or_data_is_not_taken_for_this_one(
    fit, change, difference, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_other_data(tmp_path / "other.npz")
    arguments = [*fit, "--out", "g.safetensors"]
    main(arguments)
    before = Path("g.safetensors").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main([*arguments, *change])
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2
    assert difference in error and "--out" in error
    assert Path("g.safetensors").read_bytes() == before
    main(arguments)
    assert "done before" in capsys.readouterr().out


def write_other_data(path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 8, 8), dtype=np.uint8)
    labels = np.arange(300) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
