"""The header of a grown network is checked field by field, and names its method."""

from dataclasses import asdict

import pytest

from gradnet.core.settings import to_plain
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth.grown_header import (
    check_header,
    check_model,
    check_origin,
    make_method,
)


def header(**changes):
    whole = {
        "growth_method": "net2wider",
        "settings": to_plain(GROWTH["net2wider"]()),
        "stage": 1,
        "choices": [None],
        "seed": 0,
        "input_shape": [1, 8, 8],
        "num_classes": 10,
    }
    return whole | changes


@pytest.mark.parametrize("name", GROWTH)
def test_settings_make_the_same_method_again(name):
    method = GROWTH[name]()
    assert make_method(name, asdict(method)) == method


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(
        InvalidInputError, match="no growth method 'other'; there are: net2"
    ):
        make_method("other", {})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"stage": "1"}, "stage is '1'"),
        ({"stage": -1}, "stage is -1, out of its range"),
        ({"stage": 2}, "1 choices are given for 2 stages"),
        ({"input_shape": [1, 0, 8]}, "input_shape is .*, out of its range"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"start": header(seed=None)}, "file, what it started from, .*seed is None"),
    ],
    ids=str,
)
def test_a_field_out_of_order_is_named(changes, fault):
    check_header(header(start=header()), "file")
    with pytest.raises(DamagedFileError, match=fault):
        check_header(header(**changes), "file")


def test_the_network_before_all_others_is_compared_with_the_one_that_is_named():
    grown = header(start=header(settings={"model": "mlp"}), settings={"model": "cnn"})
    check_origin(grown, None)
    check_origin(grown, "mlp")
    with pytest.raises(InvalidInputError, match="grew from 'mlp', not from 'cnn'"):
        check_origin(grown, "cnn")


def test_a_file_alone_names_models_of_gradnet_only():
    check_model("mlp", None)
    check_model("my.module:make", "my.module:make")
    with pytest.raises(InvalidInputError, match="a file does not decide"):
        check_model("my.module:make", None)
