"""GradNetClassifier keeps scikit-learn's conventions and takes a base of one's own."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from gradnet.checkpoints import Inputs
from gradnet.classifier.estimator import GradNetClassifier
from gradnet.classifier.recipes import DEFAULT, RECIPES
from gradnet.errors import InvalidInputError
from gradnet.store import Extraction, ExtractionSettings, write_store

QUICK = replace(
    DEFAULT, training=replace(DEFAULT.training, steps=20, evaluate_every=10)
)


@parametrize_with_checks([GradNetClassifier(recipe=QUICK)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_digits_are_told_apart_with_a_base_that_it_trains_itself():
    images, labels = load_digits(return_X_y=True)
    classifier = GradNetClassifier(recipe=QUICK).fit(images[:1000], labels[:1000])
    assert classifier.score(images[1000:], labels[1000:]) > 0.85


class Tied(nn.Module):
    """A base with tied weights, BatchNorm, a frozen layer and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(5, 5), nn.BatchNorm1d(5)
        self.second, self.dropout = nn.Linear(5, 5), nn.Dropout(0.5)
        self.second.weight = self.first.weight
        self.output = nn.Linear(5, 2)
        self.first.bias.requires_grad_(False)

    def forward(self, x):
        hidden = self.dropout(self.norm(self.first(x)).relu())
        return self.output(self.second(hidden).relu())


def state_of(module):
    """All of a module that a caller could see, tensors as bytes."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        "tensors": {
            name: (id(t), t.device, t.dtype, t.detach().numpy().tobytes(), t.grad)
            for name, t in tensors.items()
        },
        "trains": {name: p.requires_grad for name, p in module.named_parameters()},
        "modules": [(name, id(m), m.training) for name, m in module.named_modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in module.modules()
        ],
        "attributes": {name: sorted(vars(m)) for name, m in module.named_modules()},
    }


def samples():
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    return x, x[:, 0] > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_call_changes_the_caller_s_module(training, dtype, tmp_path):
    base = Tied().to(dtype).train(training)
    x, y = samples()
    before = state_of(base)
    classifier = GradNetClassifier(base, QUICK, device="cpu")
    calls = [
        lambda: classifier.fit(x, y),
        lambda: classifier.predict(x),
        lambda: classifier.predict_proba(x),
        lambda: classifier.decision_function(x),
        lambda: classifier.score(x, y),
        lambda: classifier.get_params(),
        lambda: classifier.set_params(recipe__hidden=1, validation_fraction=0.2),
        lambda: clone(classifier).fit(x, y),
        lambda: classifier.fit(x, np.zeros(60)),
        lambda: classifier.fit(x, np.arange(60) % 3),
        lambda: classifier.fit_store(str(tmp_path / "none")),
    ]
    for call in calls:
        with suppress(ValueError, RuntimeError):  # some are refused, or of another type
            call()
        assert state_of(base) == before


def test_a_store_changes_nothing_either(tmp_path):
    base = Tied().eval()
    x, y = samples()
    targets = torch.from_numpy(y.astype(np.int64))
    inputs = Inputs(torch.from_numpy(x), targets, ("a", "b"), lambda images: images, {})
    extraction = Extraction(base, inputs, ExtractionSettings(), "tied")
    write_store(str(tmp_path / "store"), extraction.plan, extraction.rows)
    base.train()
    before = state_of(base)
    classifier = GradNetClassifier(base, QUICK, device="cpu")
    classifier.fit_store(str(tmp_path / "store")).predict(x)
    assert state_of(base) == before


def test_a_given_base_is_copied():
    base = nn.Linear(5, 2).eval()
    classifier = GradNetClassifier(base, QUICK).fit(*samples())
    assert classifier.base_ is classifier.predictor_.base is not base
    assert torch.equal(classifier.base_.weight, base.weight)
    assert classifier.history_.records[-1]["step"] == 20


def test_grid_search_over_the_recipe():
    grid = {"recipe__training__learning_rate": [1e-3, 1e-2], "recipe__hidden": [1, 2]}
    classifier = GradNetClassifier(nn.Linear(5, 2).eval(), QUICK, device="cpu")
    search = GridSearchCV(classifier, grid, cv=2).fit(*samples())
    assert (
        set(search.best_params_) == set(grid)
        and len(search.cv_results_["rank_test_score"]) == 4
    )
    assert search.best_estimator_.recipe.hidden == search.best_params_["recipe__hidden"]


@pytest.mark.parametrize("recipe", ["default", "gradnet2018", QUICK], ids=str)
def test_every_field_of_the_recipe_can_be_set(recipe):
    classifier = GradNetClassifier(recipe=recipe)
    found = classifier.get_params()
    assert found["recipe__training__momentum"] is not None
    nested = {k: v for k, v in found.items() if k.startswith("recipe__")}
    assert len(nested) == 25
    again = GradNetClassifier().set_params(**nested)
    assert again.recipe == (RECIPES[recipe] if isinstance(recipe, str) else recipe)
    assert "recipe__hidden" not in classifier.get_params(deep=False)


@pytest.mark.parametrize("name", ["recipe__none", "recipe__training__none", "none"])
def test_unknown_parameters_are_refused(name):
    with pytest.raises(ValueError, match="none"):
        GradNetClassifier().set_params(**{name: 1})


def test_a_base_with_another_number_of_logits_is_refused():
    with pytest.raises(InvalidInputError, match="3 logits.*2 classes"):
        GradNetClassifier(nn.Linear(5, 3).eval(), QUICK).fit(
            np.ones((4, 5)), [0, 1, 0, 1]
        )


def test_an_unknown_recipe_is_refused():
    with pytest.raises(InvalidInputError, match="no recipe 'best': give default"):
        GradNetClassifier(recipe="best").fit(np.ones((4, 5)), [0, 1, 0, 1])
