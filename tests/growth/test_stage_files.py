"""What a stage began with is kept until the next begins; another run's is refused."""

import pytest
import torch
from growth_cases import digits

from gradnet.errors import GradnetError
from gradnet.growth.method import Schedule
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.growth.run import grow
from gradnet.growth.stage_files import StageFiles, remove_stage_files
from gradnet.training.loop import Callbacks, TrainingSettings

WIDER = Net2Wider(
    training=TrainingSettings(steps=12, batch_size=16, evaluate_every=4),
    growth=Schedule(first=6),
    model_args={"hidden": [6]},
    wider={"linear0": 9},
)


def test_the_latest_stage_is_found_and_earlier_files_are_gone(tmp_path):
    files = StageFiles(tmp_path / "run.pt", {"seed": 1})
    assert files.load(3, {}, False) is None
    for stage in (1, 2):
        training = files.training(stage)
        assert training == tmp_path / f"run-stage-{stage}-training.pt"
        files.save(stage, {"weights": torch.full((2,), float(stage)), "stage": stage})
        training.touch()
    assert {path.name for path in tmp_path.iterdir()} == {
        "run-stage-2.pt",
        "run-stage-2-training.pt",
    }
    state = StageFiles(tmp_path / "run.pt", {"seed": 1}).load(3, {}, False)
    assert state["stage"] == 2 and torch.equal(state["weights"], torch.full((2,), 2.0))


def test_a_file_of_another_run_is_refused(tmp_path):
    StageFiles(tmp_path / "run.pt", {"seed": 1, "data": "a"}).save(1, {})
    other = StageFiles(tmp_path / "run.pt", {"seed": 2, "data": "a"})
    with pytest.raises(GradnetError, match="is of another run: seed was 1, now 2"):
        other.load(1, {}, False)


def test_without_a_checkpoint_nothing_is_kept():
    files = StageFiles(None, {})
    files.save(1, {})
    assert files.load(1, {}, False) is None and files.training(1) is None


def test_files_of_a_run_are_removed_and_of_others_left(tmp_path):
    others = [
        tmp_path / name
        for name in (
            *("a1-stage-1.pt", "a[1].pt", "b-stage-1.pt"),
            *("a[1]-stage-x.pt", "a[1]-stage-1-stage-2.pt"),  # of rows with such names
        )
    ]
    for path in others:
        path.touch()
    checkpoint = tmp_path / "a[1].pt"
    grow(WIDER, digits(), callbacks=Callbacks(checkpoint))
    mine = set(tmp_path.iterdir()) - set(others)
    assert mine == {tmp_path / f"a[1]-stage-{part}.pt" for part in ("1", "1-training")}
    remove_stage_files(checkpoint)
    assert set(tmp_path.iterdir()) == set(others)
