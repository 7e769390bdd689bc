"""A user's network is built from its name, given its weights, or refused clearly."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from reference import assert_same
from snapshot_cases import make_info
from torch import nn
from torch.export import Dim, export

from gradnet.checkpoints.model_loader import load_user_model
from gradnet.checkpoints.snapshots import save_snapshot
from gradnet.errors import GradnetError
from gradnet.gradients.extractor import GradientExtractor
from gradnet.models import build_model

MODULE = """\
import torch
from torch import nn

NUMBER = 3
READY = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4, 3))

class Net(nn.Module):
    def __init__(self, width=2, num_classes=3):
        super().__init__()
        self.first = nn.Linear(4, width)
        self.last = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())

def make(width):
    from own_layers.parts import NAME
    assert NAME == "parts"
    return Net(width)

def broken():
    raise ValueError("no such width")

def wrong():
    return {}

def lines():
    raise ValueError("first\\nsecond")
"""


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / "own_layers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parts.py").write_text('NAME = "parts"\n')
    (package / "nets.py").write_text(MODULE)
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    (tmp_path / "half_written.py").write_text("def make(:\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "fails.py").write_text("raise RuntimeError('not today')\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_layers")]:
        del sys.modules[name]


def test_factory_is_called_with_the_arguments(folder: Path) -> None:
    model = load_user_model("own_layers.nets:Net", {"width": 5, "num_classes": 7})
    assert not model.training
    assert model(torch.randn(2, 4)).shape == (2, 7)
    model = load_user_model("own_layers.nets:make", {"width": 6})
    assert model.first.out_features == 6


def test_network_is_taken_as_it_is(folder: Path) -> None:
    model = load_user_model("own_layers.nets:READY")
    assert isinstance(model[2], nn.Linear) and not model[1].training
    with pytest.raises(GradnetError, match="READY is a network already; it takes no"):
        load_user_model("own_layers.nets:READY", {"width": 5})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoint_gives_the_weights(folder: Path, suffix: str) -> None:
    source = load_user_model("own_layers.nets:Net", {"width": 5})
    if suffix == ".pt":
        torch.save({"state_dict": source.state_dict()}, "net.pt")
    else:
        safetensors.torch.save_file(source.state_dict(), "net.safetensors")
    found = load_user_model("own_layers.nets:Net", {"width": 5}, f"net{suffix}")
    x = torch.randn(2, 4)
    assert torch.equal(found(x), source(x))
    with pytest.raises(GradnetError, match=r"does not fit the model: .*first\.weight"):
        load_user_model("own_layers.nets:Net", {"width": 4}, f"net{suffix}")
    with pytest.raises(GradnetError, match=r"missing: 2\.weight, 2\.bias; not in"):
        load_user_model("own_layers.nets:READY", None, f"net{suffix}")


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("nowhere:make", {}, "no module 'nowhere', in .* or installed"),
        ("own_layers.nothing:make", {}, "no module 'own_layers.nothing'"),
        ("needs_more:make", {}, "'needs_more' cannot be imported: No module named"),
        ("half_written:make", {}, "'half_written' cannot be imported: SyntaxError"),
        ("fails:make", {}, "'fails' cannot be imported: RuntimeError: not today"),
        (":make", {}, "module '' cannot be imported"),
        ("own_layers.nets:mak", {}, "has no 'mak'; did you mean make?"),
        ("own_layers.nets:zzz", {}, "has no 'zzz'$"),
        ("own_layers.nets:NUMBER", {}, "NUMBER is a int, neither a function nor"),
        ("own_layers.nets:broken", {}, "broken raised ValueError: no such width"),
        ("own_layers.nets:wrong", {}, "wrong returned a dict, not an nn.Module"),
        ("own_layers.nets:make", {}, r"make\(width\) does not fit.*missing"),
        ("own_layers.nets:make", {"w": 1}, r"make\(width\) does not fit.*'w'"),
        ("own_layers.nets:Net", {"width": "x"}, "Net raised TypeError"),
        ("cnn2018", {"depth": 1}, "model 'cnn2018' takes no 'depth'"),
        ("cnn2018", {"width": "x"}, "width is 'x'; it must be a whole number"),
        ("cnn2017", {}, "no model 'cnn2017'; did you mean cnn2018.*give package.mod"),
        ("torchvision:resnet19", {}, "no classifier 'resnet19'; did you mean resnet"),
        ("torchvision:get_model", {}, "torchvision has no classifier 'get_model'"),
        (
            "torchvision:resnet18",
            {"classes": 1},
            "raised TypeError.*'classes'",
        ),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "weights as a checkpoint"),
        ("missing.pt2", {}, "missing.pt2: No such file"),
        ("missing.pt2", {"width": 1}, "is a network already"),
        ("sys:exit", {}, "sys:exit raised SystemExit$"),
        ("leaves:make", {}, "module 'leaves' cannot be imported: SystemExit: 3"),
        ("own_layers.nets:lines", {}, "lines raised ValueError: first$"),
        ("os:system", {}, "os:system.command. does not fit"),
        ("os:getcwd", {}, "getcwd returned a str, not an nn.Module"),
        (None, {}, "neither a model nor a checkpoint"),
        (None, {"width": 1}, "no model to pass them to"),
    ],
)
def test_what_is_wrong_is_told(
    folder: Path, model: str | None, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(GradnetError, match=message):
        load_user_model(model, arguments)


def test_torchvision_classifier(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gradnet"):
        model = load_user_model("torchvision:resnet18", {"num_classes": 10})
    assert "the weights of torchvision:resnet18 are random" in caplog.text
    assert not model.training
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)


def test_network_of_ours_by_name(tmp_path: Path) -> None:
    source = build_model("mlp", hidden=[5])
    torch.save(source.state_dict(), tmp_path / "mlp.pt")
    found = load_user_model("mlp", {"hidden": [5]}, str(tmp_path / "mlp.pt"))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(found(x), source(x))


def test_snapshot_of_ours_says_it_all(tmp_path: Path) -> None:
    source = build_model("mlp", hidden=[5]).eval()
    info = make_info(model="mlp", arguments={"hidden": [5]})
    path = str(save_snapshot(tmp_path / "level-0.5.safetensors", source, info))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(load_user_model(None, None, path)(x), source(x))


def test_weights_without_a_network_are_told(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
    with pytest.raises(GradnetError, match=r"a\.pt holds weights only; give the model"):
        load_user_model(None, None, str(tmp_path / "a.pt"))
    with pytest.raises(GradnetError, match="no such file"):
        load_user_model(None, None, str(tmp_path / "none.pt"))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_hostile_checkpoint_is_refused_named_and_not_run(
    tmp_path: Path, new: bool
) -> None:
    trap, path = tmp_path / "trap", tmp_path / "a.pt"
    torch.save(Hostile(trap), path, _use_new_zipfile_serialization=new)
    with pytest.raises(GradnetError, match=r"it would have run: .*pathlib\.Path"):
        load_user_model("mlp", None, str(path))
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap itself must work, or this test shows nothing"


def test_exported_network_as_model_and_as_checkpoint(tmp_path: Path) -> None:
    source = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    source = source.append(nn.Linear(8, 3)).double().eval()
    x = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    path = str(tmp_path / "net.pt2")
    shapes = ({0: Dim("batch")},)
    torch.export.save(export(source, (x,), dynamic_shapes=shapes), path)
    for found in (load_user_model(path), load_user_model(None, None, path)):
        assert_same(found(x[:1]), source(x[:1]))
        assert_same(
            GradientExtractor(found).all_labels(x),
            GradientExtractor(source).all_labels(x),
        )
    nn.init.normal_(source[0].weight)
    torch.save(source.state_dict(), tmp_path / "net.pt")
    found = load_user_model(path, None, str(tmp_path / "net.pt"))
    assert_same(found(x), source(x))
    with pytest.raises(GradnetError, match=r"net\.pt2 holds a whole network"):
        load_user_model("mlp", None, path)
