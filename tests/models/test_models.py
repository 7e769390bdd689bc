"""Networks are built by name, and what does not exist is refused by name."""

import inspect

import pytest
import torch

from gradnet.errors import GradnetError
from gradnet.models import MODELS, build_model, shape_arguments


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
    with pytest.raises(GradnetError, match="no model 'resnet'; .*cnn2018, cnn-small"):
        build_model("resnet")


def test_unknown_argument_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        GradnetError, match="'mlp' takes no 'width'; it takes: .*hidden"
    ):
        build_model("mlp", width=3)


def test_shape_arguments_are_those_of_the_images() -> None:
    assert shape_arguments((3, 24, 24), 7) == {
        "in_channels": 3,
        "image_size": 24,
        "num_classes": 7,
    }


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(GradnetError, match="these are 24 x 20; crop them"):
        shape_arguments((3, 24, 20), 10)
