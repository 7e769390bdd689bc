"""Networks are built by name, and what does not exist is refused by name."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packages import write_package
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.models import MODELS, build_model, register_model, shape_arguments


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_the_arguments_from_the_data(name: str) -> None:
    model = build_model(name, **shape_arguments((3, 8, 8), 4))
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_defaults_that_fit_each_other(name: str) -> None:
    defaults = inspect.signature(MODELS[name]).parameters
    channels, side = (defaults[k].default for k in ("in_channels", "image_size"))
    assert build_model(name)(torch.zeros(1, channels, side, side)).shape == (1, 10)


def test_further_arguments_reach_the_factory() -> None:
    assert build_model("cnn-small", width=3).conv0.out_channels == 3
    assert build_model("mlp", hidden=[5]).linear0.out_features == 5


def test_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidInputError, match="no model 'resnet'; .*cnn2018, cnn-small"
    ):
        build_model("resnet")


def test_unknown_argument_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidInputError, match="'mlp' takes no 'width'; it takes: .*hidden"
    ):
        build_model("mlp", width=3)


def test_shape_arguments_are_those_of_the_images() -> None:
    assert shape_arguments((3, 24, 24), 7) == {
        "in_channels": 3,
        "image_size": 24,
        "num_classes": 7,
    }


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="not 24 x 20; crop them"):
        shape_arguments((3, 24, 20), 10)


def _linear(in_channels=1, image_size=8, num_classes=10, bias=True):
    layer = nn.Linear(in_channels * image_size**2, num_classes, bias)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture
def own_model():
    register_model("my-linear", _linear)
    yield "my-linear"
    MODELS.unregister("my-linear")


def test_ones_own_model_is_built_by_name_as_those_of_the_package(own_model) -> None:
    model = build_model(own_model, **shape_arguments((3, 8, 8), 4), bias=False)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    assert model[1].bias is None
    with pytest.raises(InvalidInputError, match="'my-linear' takes no 'width'"):
        build_model(own_model, width=3)
    with pytest.raises(InvalidInputError, match="exists already"):
        register_model(own_model, _linear)
    register_model(own_model, _linear, replace=True)


def test_ones_own_model_may_take_any_keyword_arguments(own_model) -> None:
    register_model(own_model, lambda **kwargs: _linear(**kwargs), replace=True)
    assert build_model(own_model, num_classes=3)[1].out_features == 3


def test_an_entry_that_cannot_be_built_from_the_data_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not a list"):
        register_model("mine", [nn.Linear(2, 2)])
    with pytest.raises(InvalidInputError, match="takes no in_channels, image_size;"):
        register_model("mine", lambda num_classes: nn.Linear(2, num_classes))
    assert "mine" not in MODELS


def test_installed_packages_add_models_by_entry_points(tmp_path: Path) -> None:
    module = """
        from torch import nn

        def linear(in_channels, image_size, num_classes):
            layer = nn.Linear(in_channels * image_size**2, num_classes)
            return nn.Sequential(nn.Flatten(), layer)
    """
    points = {"their-linear": "theirs:linear"}
    write_package(tmp_path, "theirs", module, "gradnet.models", points)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from gradnet.models import build_model, shape_arguments\n"
        "print(build_model('their-linear', **shape_arguments((1, 4, 4), 3))[1])"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("Linear(in_features=16, out_features=3")
