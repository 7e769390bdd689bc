"""One call studies a network, on arrays or on named data, and may write nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from gradnet import study_network
from gradnet.classifier.recipes import DEFAULT
from gradnet.data.datasets import load_data, make_data
from gradnet.errors import InvalidInputError

X = np.random.default_rng(0).standard_normal((120, 5))  # float64, as numpy has it
Y = (X[:, 0] > 0).astype(int)
DATA = {"train": (X[:80], Y[:80]), "test": (X[80:], Y[80:])}


def network(**kind):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).to(**kind)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = study_network(network(), DATA, seen="none", max_epochs=2, rates=[1e-3])
    assert [row["method"] for row in rows] == [
        *("base", "default", "fine-tuned", "last-layer")
    ]
    assert not list(tmp_path.iterdir())


def test_with_a_folder_the_table_and_the_figure_are_there(tmp_path):
    recipes = {"mine": DEFAULT}
    arguments = {"seen": "none", "max_epochs": 1, "controls": None, "out": tmp_path}
    rows = study_network(network(), DATA, recipes=recipes, **arguments)
    assert rows == study_network(network(), DATA, recipes=recipes, **arguments)
    text = (tmp_path / "table.md").read_text()
    assert "| mine |" in text and "72 samples of the train part" in text
    assert (tmp_path / "table.png").stat().st_size > 1000
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3


def test_a_network_in_another_type_gets_its_own(tmp_path):
    double = network(dtype=torch.float64)
    arguments = {"seen": "none", "max_epochs": 1, "controls": None}
    found = study_network(double, DATA, **arguments)
    assert found[0]["test_accuracy"] == pytest.approx(
        study_network(network(), DATA, **arguments)[0]["test_accuracy"], abs=0.05
    )


def test_images_are_divided_by_255_and_augmented_only_when_asked():
    images = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2)
    labels = np.arange(40) % 2
    data = make_data("mine", (images, labels), (images, labels))
    largest = []

    class Looks(nn.Sequential):
        def forward(self, x):
            largest.append(x.max().item())
            return super().forward(x)

    model = Looks(nn.Flatten(), nn.Linear(4, 2))
    study_network(model, data, seen="train", max_epochs=1, controls=None)
    assert max(largest) == pytest.approx(159 / 255)
    study_network(model, data, seen="none", max_epochs=1, controls=None, flip=True)


def test_data_can_be_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    rows = study_network(model, "digits", seen="train", max_epochs=1, controls=None)
    digits = load_data("digits")
    with torch.no_grad():
        hits = model(digits.x_test.float() / 255).argmax(1) == digits.y_test
    assert abs(rows[0]["test_accuracy"] - hits.float().mean().item()) < 0.15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seen": "test"}, "seen is 'test'; it must be train or none"),
        ({"recipes": ["best"]}, "no recipe 'best'; give one of default"),
        ({"recipes": {"base": DEFAULT}}, "has the name 'base'"),
        ({"num_classes": 3}, "has 2 logits, the data have 3 classes"),
        ({"max_epochs": 0.0}, "max_epochs is 0"),
        ({"rates": [-1.0]}, r"rates\[0\] is -1"),
        ({"shift": 1}, "are no images"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        study_network(network(), DATA, **{"seen": "none", **changes})


def test_what_was_seen_has_to_be_said():
    with pytest.raises(TypeError, match="seen"):
        study_network(network(), DATA)
