"""Files of format 0, written before formats had numbers, are read and continued."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from gradnet.checkpoints import load_snapshot
from gradnet.classifier import GradNetPredictor
from gradnet.cli.main import main
from gradnet.core.files import read_json
from gradnet.growth.grown_network import load_grown
from gradnet.store import GradientStore
from gradnet.training.loop import _Run

FOLDER = Path(__file__).parent / "format-0"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
SNAPSHOT = "study/snapshots/seed-0/level-0.2.safetensors"
GRADNET = "study/gradnets/seed-0/level-0.2/short.safetensors"
STUDY = [
    *("reproduce", "--data", "digits.npz", "--device", "cpu", "--model", "mlp"),
    *("--hidden", "4", "--levels", "0.2", "--training.steps", "200"),
    *("--training.batch_size", "16", "--recipes", "short.yaml", "long.yaml"),
    *("--out", "study", "--max_epochs", "10"),
]
TINY = ["--data", "digits.npz", "--device", "cpu", "--out", "growth"]
TINY += ["--training.batch_size", "16", "--training.evaluate_every", "4"]
HIDDEN = ["--model_args", '{"hidden": [4]}']
NODES = [
    *("--max_edits", "2", "--nodes", "1", "--model_args", '{"hidden": [3, 3]}'),
    *("--growth.every", "3", "--growth.first", "3"),
]
WIDER = [*HIDDEN, "--wider", '{"linear0": 6}', "--growth.first", "4"]
PRUNING = ["--fraction", "0.2"]
GROWN = {
    "net2wider": ["net2wider", *WIDER],
    "layerwise-resnet": [
        *("layerwise-resnet", "--width", "2"),
        *("--initial_stages", "1", "1", "--stages", "2", "1"),
    ],
    "cornet": ["cornet", "--width", "2", "--stages", "1", "1", "--growth.first", "4"],
    "cascade-correlation": [
        *("cascade-correlation", "--rounds", "2", "--units", "1", "--pool", "2"),
        *("--candidate_steps", "3", "--candidate_batch", "16", "--growth.first", "3"),
    ],
    "node-creation": ["node-creation", *NODES],
    "optimal-brain-damage": [
        *("optimal-brain-damage", *HIDDEN, "--rounds", "2", *PRUNING),
        *("--growth.first", "3", "--growth.every", "3"),
    ],
    "pruned-cascade": [
        *("optimal-brain-damage", "--rounds", "1", *PRUNING, "--growth.first", "0"),
        *("--name", "pruned-cascade"),
        *("--start", "growth/networks/seed-0/cascade-correlation.safetensors"),
    ],
}


def image():
    return torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the files, in which the commands were given."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def steps(monkeypatch):
    """The training steps that are done."""
    done, train_step = [], _Run.train_step
    monkeypatch.setattr(
        _Run, "train_step", lambda run: (done.append(run.step), train_step(run))[1]
    )
    return done


def test_a_snapshot_and_its_gradnet():
    base = load_snapshot(FOLDER / SNAPSHOT).model
    with torch.no_grad():
        assert_close(base(image())[0], EXPECTED["snapshot"])
    predictor = GradNetPredictor.load(FOLDER / GRADNET, base)
    assert_close(predictor.scores(image())[0], EXPECTED["gradnet"])


@pytest.mark.parametrize("name", EXPECTED["grown"])
def test_a_grown_network(name):
    network = load_grown(FOLDER / "growth/networks/seed-0" / f"{name}.safetensors")
    with torch.no_grad():
        assert_close(network(image())[0], EXPECTED["grown"][name])


def test_a_store():
    rows = GradientStore(str(FOLDER / "store")).read(0, 6)
    assert {name: float(v.double().sum()) for name, v in rows.items()} == pytest.approx(
        EXPECTED["store"]
    )


def test_a_store_is_continued(folder, capsys):
    before = (folder / "store/shard-00000.safetensors").read_bytes()
    main(["extract", "--data", "few.npz", "--checkpoint", SNAPSHOT, "--out", "store"])
    assert (folder / "store/shard-00000.safetensors").read_bytes() == before


def test_finished_rows_stay_and_an_unfinished_one_is_resumed(folder, steps):
    results = folder / "study/results/seed-0/level-0.2"
    before = {p.name: p.read_text() for p in results.iterdir()}
    assert sorted(before) == ["base.json", "short.json"]
    main([*STUDY, "--controls", "null"])
    assert all((results / name).read_text() == text for name, text in before.items())
    assert steps == list(range(8, 12))  # the checkpoint is of step 8
    assert read_json(results / "long.json")["best_step"] in range(0, 13)
    table = (folder / "study/table.md").read_text()
    assert "short" in table and "long" in table


@pytest.mark.parametrize("name", GROWN)
def test_a_finished_growth_run_is_not_done_again(name, folder, steps, caplog):
    caplog.set_level(logging.INFO, "gradnet")
    main(["grow", *GROWN[name], *TINY, "--training.steps", "8"])
    assert not steps and "done before" in caplog.text


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("unfinished", ["net2wider", *WIDER, "--training.steps", "11"], [8, 9, 10]),
        ("unfinished-nodes", ["node-creation", *NODES, "--training.steps", "13"], None),
    ],
)
def test_an_unfinished_growth_run_is_resumed(name, arguments, expected, folder, steps):
    main(["grow", *arguments, *TINY, "--name", name])
    row = read_json(folder / f"growth/results/seed-0/{name}.json")
    assert row["steps"] in (11, 13) and steps and min(steps) >= 6
    assert expected is None or steps == expected
    assert not list(folder.glob(f"growth/checkpoints/seed-0/{name}-stage-*"))


def test_other_settings_are_still_refused(folder, capsys):
    with pytest.raises(SystemExit):
        main(["grow", *GROWN["cornet"], *TINY, "--training.steps", "9"])
    assert "training.steps was 8, now 9" in capsys.readouterr().err
