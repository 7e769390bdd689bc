"""A grown network comes back from its file, for every method."""

from dataclasses import replace

import pytest
import torch
from growth_cases import tiny

from gradnet.checkpoints.tensor_file import save_with_header
from gradnet.core.files import save_tensors
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.growth.grown_network import load_grown, read_grown, save_grown
from gradnet.growth.method import GrowthHistory
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.growth.replay import replay
from gradnet.growth.run import Growth
from gradnet.models import build_model

SHAPE = (1, 8, 8)


def test_the_network_comes_back_with_its_shapes_and_weights(tmp_path):
    method = Net2Wider(model_args={"hidden": [5]}, wider={"linear0": 9})
    probe = torch.randn(8, *SHAPE)
    model = replay(method, seed=3, stage=1, probe=probe, num_classes=4)
    history = GrowthHistory(steps=10, stage=1)
    path = tmp_path / "grown.safetensors"
    save_grown(path, Growth(model, history), method, 3, SHAPE, 4)
    loaded = load_grown(path)
    assert loaded.linear0.out_features == 9 and not loaded.training
    assert torch.equal(loaded(probe), model.eval()(probe))


def test_a_model_that_is_given_has_to_be_that_of_the_file(tmp_path):
    method = Net2Wider(model_args={"hidden": [5]}, wider={"linear0": 9})
    model = replay(method, 3, 1, torch.randn(8, *SHAPE), 4)
    growth = Growth(model, GrowthHistory(steps=10, stage=1))
    path = save_grown(tmp_path / "grown.safetensors", growth, method, 3, SHAPE, 4)
    assert load_grown(path, "mlp").linear0.out_features == 9
    for other in ("cnn-small", "my_module:make"):
        with pytest.raises(InvalidInputError, match=f"from 'mlp', not from '{other}'"):
            load_grown(path, other)
    # What an edit began with decides, not what its own options would have made.
    last = tmp_path / "last.safetensors"
    options = replace(method, model="cnn-small")
    save_grown(last, growth, options, 3, SHAPE, 4, read_grown(path))
    assert load_grown(last, "mlp").linear0.out_features == 9
    with pytest.raises(InvalidInputError, match="from 'mlp', not from 'cnn-small'"):
        load_grown(last, "cnn-small")


def test_the_file_of_a_teacher_is_needed_no_more(tmp_path):
    teacher = build_model("mlp", in_channels=1, image_size=8, num_classes=4)
    path = save_tensors(tmp_path / "teacher.pt", teacher.state_dict())
    method = Net2Wider(checkpoint=str(path), wider={"linear0": 70})
    probe = torch.randn(8, *SHAPE)
    model = replay(method, seed=0, stage=1, probe=probe, num_classes=4)
    grown = tmp_path / "grown.safetensors"
    history = GrowthHistory(steps=10, stage=1)
    save_grown(grown, Growth(model, history), method, 0, SHAPE, 4)
    path.unlink()
    assert torch.equal(load_grown(grown)(probe), model.eval()(probe))


def test_what_a_run_began_with_is_needed_no_more(tmp_path):
    probe = torch.randn(8, *SHAPE)
    first, last = tmp_path / "first.safetensors", tmp_path / "last.safetensors"
    method = tiny("cascade-correlation")
    model = replay(method, 3, 2, probe, 4)
    save_grown(first, Growth(model, GrowthHistory(9, 2)), method, 3, SHAPE, 4)
    start = read_grown(first)
    pruning = tiny("optimal-brain-damage", 1)
    pruned = replay(pruning, 5, 2, probe, 4, start=start.model)
    growth = Growth(pruned, GrowthHistory(9, 2))
    growth.history.edits = [{"choice": None}, {"choice": None}]
    save_grown(last, growth, pruning, 5, SHAPE, 4, start)
    first.unlink()
    loaded = load_grown(last)
    assert torch.equal(loaded(probe), pruned.eval()(probe))
    assert read_grown(last).header["start"] == start.header


def test_a_start_for_other_images_or_classes_is_refused(tmp_path):
    method = tiny("cascade-correlation")
    growth = Growth(replay(method, 0, 0, torch.randn(2, *SHAPE), 4), GrowthHistory(9))
    path = save_grown(tmp_path / "a.safetensors", growth, method, 0, SHAPE, 4)
    start = read_grown(path)
    start.check_compatible(SHAPE, 4)
    for shape, classes in (((3, 8, 8), 4), (SHAPE, 5)):
        with pytest.raises(
            InvalidInputError, match=r"for images \(1, 8, 8\) of 4 classes"
        ):
            start.check_compatible(shape, classes)


def test_a_start_that_has_seen_the_validation_part_is_refused(tmp_path, caplog):
    method = tiny("cascade-correlation")
    growth = Growth(replay(method, 0, 0, torch.randn(2, *SHAPE), 4), GrowthHistory(9))
    problem = {"data_fingerprint": "a", "split_fingerprint": "b", "augmentation": {}}
    file = tmp_path / "a.safetensors"
    start = read_grown(save_grown(file, growth, method, 0, SHAPE, 4, problem=problem))
    start.check_compatible(SHAPE, 4, problem)
    start.check_compatible(SHAPE, 4)
    other = problem | {"data_fingerprint": "c", "split_fingerprint": "d"}
    start.check_compatible(SHAPE, 4, other)  # its images are none of these
    assert not caplog.records
    start.check_compatible(SHAPE, 4, problem | {"augmentation": {"whiten": False}})
    assert "had another augmentation" in caplog.text
    with pytest.raises(
        InvalidInputError, match="trained on another split of these images"
    ):
        start.check_compatible(SHAPE, 4, problem | {"split_fingerprint": "d"})


def test_other_files_are_refused(tmp_path):
    path = save_with_header(tmp_path / "a.safetensors", {}, {"model": "mlp"})
    with pytest.raises(
        DamagedFileError, match="holds no grown network: it has no 'growth_method'"
    ):
        load_grown(path)
    pickled = save_tensors(tmp_path / "b.pt", {"weight": torch.zeros(1)})
    with pytest.raises(DamagedFileError, match="not a complete safetensors file"):
        load_grown(pickled)


def test_an_unregistered_method_cannot_be_named_in_a_file(tmp_path):
    class Mine(Net2Wider):
        pass

    growth = Growth(torch.nn.Linear(1, 1), GrowthHistory(steps=1))
    with pytest.raises(InvalidInputError, match="Mine is not in GROWTH"):
        save_grown(tmp_path / "x", growth, Mine(), 0, SHAPE, 2)
