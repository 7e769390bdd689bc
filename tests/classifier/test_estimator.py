"""GradNetClassifier keeps scikit-learn's conventions and takes a base of one's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from gradnet.classifier.estimator import GradNetClassifier
from gradnet.classifier.recipes import DEFAULT
from gradnet.errors import GradnetError

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


def test_a_given_base_is_left_as_it_is():
    base = nn.Linear(5, 2).eval()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    classifier = GradNetClassifier(base, QUICK).fit(x, x[:, 0] > 0)
    assert classifier.predictor_.base is base
    assert classifier.history_.records[-1]["step"] == 20
    assert all(torch.equal(before[name], t) for name, t in base.state_dict().items())


def test_a_base_with_another_number_of_logits_is_refused():
    with pytest.raises(GradnetError, match="3 logits.*2 classes"):
        GradNetClassifier(nn.Linear(5, 3).eval(), QUICK).fit(
            np.ones((4, 5)), [0, 1, 0, 1]
        )


def test_an_unknown_recipe_is_refused():
    with pytest.raises(GradnetError, match="no recipe 'best': give default"):
        GradNetClassifier(recipe="best").fit(np.ones((4, 5)), [0, 1, 0, 1])
