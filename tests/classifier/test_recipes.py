"""Recipes survive JSON, fit the networks that they are meant for, and refuse others."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnet.classifier.features import FeatureSettings
from gradnet.classifier.recipes import DEFAULT, GRADNET_2018, RECIPES, Recipe
from gradnet.errors import InvalidInputError
from gradnet.gradients.layout import BlockLayout
from gradnet.models import build_model
from gradnet.training.loop import TrainingSettings

SIZES = {"conv0": 3, "conv1": 2, "linear": 4}

FEATURES = st.builds(
    FeatureSettings,
    percent=st.none() | st.floats(1, 100),
    scaling=st.sampled_from(["min-max", "std", "standard", "max-abs", "none"]),
    unit_norm=st.booleans(),
    power=st.none() | st.floats(0.1, 2),
)
RECIPE = st.builds(
    Recipe,
    layers=st.none() | st.lists(st.sampled_from(["conv*", "linear"])).map(tuple),
    biases=st.booleans(),
    features=FEATURES,
    head=st.sampled_from(["sum", "scorer"]),
    hidden=st.integers(1, 9) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    initial_std=st.none() | st.floats(0.01, 1),
    training=st.builds(
        TrainingSettings,
        steps=st.integers(1, 99),
        patience=st.none() | st.integers(1, 9),
    ),
)


@given(recipe=RECIPE)
def test_recipe_survives_json(recipe: Recipe) -> None:
    restored = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert restored == recipe
    assert hash(restored) == hash(recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipe_survives_json(name: str) -> None:
    values = json.loads(json.dumps(RECIPES[name].to_dict()))
    assert Recipe.from_dict(values) == RECIPES[name]


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipe_fits_the_2018_network(name: str) -> None:
    layout = BlockLayout.of(build_model("cnn2018", width=2))
    sizes = dict(zip(layout.names, layout.sizes, strict=True))
    network = RECIPES[name].make_network(sizes, 10)
    assert network.num_classes == 10
    RECIPES[name].features.make()


def test_recipe_of_2018_is_the_published_one() -> None:
    network = GRADNET_2018.make_network(SIZES, 10)
    assert network.first.hidden == [5, 100, 25]
    assert network.head == "sum" and network.output.out_features == 10
    assert GRADNET_2018.weight_decay_term == 5e-4
    assert GRADNET_2018.features == FeatureSettings(15, "min-max", False, 0.5)


def test_default_recipe_forms_no_gradient() -> None:
    assert DEFAULT.make_network(SIZES, 10).is_linear_scorer
    assert DEFAULT.features.make().is_linear
    assert not DEFAULT.weight_decay_term


def test_every_argument_reaches_the_network() -> None:
    recipe = Recipe(
        head="sum", hidden=(3, 4), window=2, activation="identity", dropout=0.25
    )
    network = recipe.make_network(SIZES, 7)
    assert (network.head, network.num_classes) == ("sum", 7)
    assert (network.first.hidden, network.first.window) == ([3, 4], 2)
    assert network.dropout.p == 0.25
    assert network.first.bias is None
    spread = replace(recipe, initial_std=1e-9).make_network(SIZES, 7)
    assert all(parameter.abs().max() < 1e-7 for parameter in spread.parameters())


def test_recipe_for_another_number_of_blocks_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="each of the 2 groups.*linear0, linear1"
    ):
        GRADNET_2018.make_network({"linear0": 4, "linear1": 2}, 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "red"},
        {"features": {"colour": "red"}},
        {"training": {"colour": "red"}},
        {"features": None},
        {"training": {"steps": 0}},
    ],
    ids=str,
)
def test_values_that_are_no_recipe_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        Recipe.from_dict({**DEFAULT.to_dict(), **changes})


@pytest.mark.parametrize("name", ["features", "training", "layers", "hidden"])
def test_recipe_with_a_missing_part_is_refused(name: str) -> None:
    values = DEFAULT.to_dict()
    del values[name]
    with pytest.raises(InvalidInputError, match=f"no recipe.*{name}"):
        Recipe.from_dict(values)


def test_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        DEFAULT.head = "sum"
