"""Architectures as plain values: networks come back, and files run no code."""

import json

import pytest
import torch
from growth_cases import TINY, digits, tiny, watched_run
from torch import nn

from gradnet.checkpoints.tensor_file import save_with_header
from gradnet.cli.main import main
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth import grown_network as module
from gradnet.growth.architecture import build_architecture, describe_architecture
from gradnet.growth.grown_network import load_grown, save_grown
from gradnet.growth.method import GrowthMethod
from gradnet.models import build_model
from gradnet.surgery import widen

CASES = [(name, i) for name in GROWTH for i in range(len(TINY[name]))]


def returned(model):
    """The network built from its description, after a way through JSON."""
    text = json.dumps(describe_architecture(model))
    built = build_architecture(json.loads(text))
    built.load_state_dict(model.state_dict())
    return built.train(model.training)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_every_method_s_network_comes_back_without_an_edit(
    name, number, tmp_path, monkeypatch
):
    method = tiny(name, number)
    growth = watched_run(method).growth
    path = tmp_path / "grown.safetensors"
    images = digits().augmentation.evaluate(digits().images[:8])
    save_grown(path, growth, method, 0, tuple(images.shape[1:]), 10)

    def fail(*arguments, **more):
        raise AssertionError("an edit is made again")

    monkeypatch.setattr(module, "replay", fail)
    monkeypatch.setattr(type(method), "edit", fail)
    loaded = load_grown(path)
    assert not loaded.training
    assert torch.equal(loaded(images), growth.model.eval()(images))
    found, expected = loaded.state_dict(), growth.model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    # It trains and is edited like the network that was saved.
    loaded.train()(images).sum().backward()
    assert repr(loaded) == repr(growth.model.train())


@pytest.mark.parametrize("name", ["cnn2018", "cnn-small", "mlp", "convnet", "resnet14"])
def test_registered_models_come_back(name):
    model = build_model(name, in_channels=1, image_size=24, num_classes=4).eval()
    x = torch.randn(2, 1, 24, 24)
    assert torch.equal(returned(model)(x), model(x))


def test_a_network_that_comes_back_is_edited_further():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(5, 4)
    wider = widen(returned(model), "0", 5, probe=x).model
    torch.testing.assert_close(wider(x), model(x))


def test_layers_of_the_user_are_named():
    class Own(nn.Module):
        pass

    with pytest.raises(InvalidInputError, match="layer '1' is a .*Own"):
        describe_architecture(nn.Sequential(nn.ReLU(), Own()))
    model = nn.Sequential(nn.ReLU())
    model[0].function = print
    with pytest.raises(InvalidInputError, match=r"0\.function is a builtin"):
        describe_architecture(model)


def tampered(change):
    description = json.loads(json.dumps(describe_architecture(nn.Linear(3, 2))))
    change(description["network"])
    return description


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(type="os.system"),
        lambda d: d.update(type="torch.nn.Module"),
        lambda d: d.update(type="gradnet.inspect"),
        lambda d: d["attributes"].update(forward="x"),
        lambda d: d["attributes"].update(_forward_hooks={"dict": {}}),
        lambda d: d["attributes"].update(x={"dataclass": "Popen", "fields": {}}),
        lambda d: d["parameters"].update(weight=["float32", [-1]]),
        lambda d: d["parameters"].update(weight=["nn", [1]]),
        lambda d: d["children"].update(a=3),
        lambda d: d.pop("type"),
    ],
)
def test_damaged_descriptions_are_refused(change):
    with pytest.raises(DamagedFileError, match="architecture is damaged"):
        build_architecture(tampered(change))


@pytest.mark.parametrize("key", ["__deepcopy__", "__len__", "__class__"])
def test_special_attributes_are_refused(key):
    with pytest.raises(DamagedFileError, match="has no attribute"):
        build_architecture(tampered(lambda d: d["attributes"].update({key: "x"})))


@pytest.mark.parametrize("kind", ["LazyLinear", "DataParallel", "Module"])
def test_what_is_no_layer_is_not_in_the_table(kind):
    with pytest.raises(DamagedFileError, match="no layer type"):
        build_architecture(tampered(lambda d: d.update(type=f"torch.nn.{kind}")))


def test_shapes_larger_than_the_file_allocate_nothing():
    def enlarge(network):
        network["parameters"]["weight"] = ["float32", [10**6, 10**6]]

    with pytest.raises(DamagedFileError, match="more than the file holds"):
        build_architecture(tampered(enlarge), max_elements=100)


def evil_header(command, **changes):
    settings = {
        "model": "os:system",
        "model_args": {"command": command},
        "checkpoint": None,
        "training": {},
        "growth": {},
        "wider": {"a": 2},
    }
    header = {
        "growth_method": "net2wider",
        "settings": settings,
        "stage": 1,
        "choices": [None],
        "seed": 0,
        "input_shape": [1, 8, 8],
        "num_classes": 10,
        "start": None,
        "problem": None,
    }
    return {**header, **changes}


@pytest.fixture(params=["plain", "nested", "format 1", "checkpoint"])
def evil_file(request, tmp_path):
    header = evil_header(f"touch {tmp_path / 'trace'}")
    if request.param == "nested":
        inner = header
        header = evil_header("", start=inner)
        header["settings"] = {**header["settings"], "model": "mlp", "model_args": {}}
    if request.param == "format 1":
        header = {"kind": "grown network", "format": 1, "architecture": None, **header}
    if request.param == "checkpoint":
        path = tmp_path / "pickle.pt"
        torch.save(nn.Linear(1, 1), path)
        header["settings"]["checkpoint"] = str(path)
    return save_with_header(tmp_path / "evil.safetensors", {}, header)


def test_a_header_runs_no_code(evil_file, tmp_path):
    with pytest.raises(InvalidInputError, match="does not decide which code runs"):
        load_grown(evil_file)
    assert not (tmp_path / "trace").exists()


def test_a_start_runs_no_code(evil_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for model in ([], ["--model", "mlp"]):
        with pytest.raises(SystemExit) as stop:
            main(["grow", "net2wider", "--start", str(evil_file), *model])
        assert stop.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert "os:system" in lines[-1]
    assert not (tmp_path / "trace").exists()


def test_a_model_that_the_caller_names_must_be_that_of_the_file(tmp_path):
    header = evil_header("")
    header["settings"].update(model="torch.nn:Linear", model_args={})
    path = save_with_header(tmp_path / "a.safetensors", {}, header)
    with pytest.raises(InvalidInputError, match="not from 'torch.nn:Conv2d'"):
        load_grown(path, model="torch.nn:Conv2d")


def test_every_registered_method_has_a_case():
    assert {name for name, _ in CASES} == set(GROWTH)
    assert all(issubclass(kind, GrowthMethod) for kind in GROWTH.values())
