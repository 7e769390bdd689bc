"""GradNet's training: random labels, fitted features, improvement on its base."""

from dataclasses import replace

import pytest
import torch

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.classifier.features import FeatureSettings
from gradnet.classifier.fit import GradNetTask, evaluate_predictor, fit_gradnet
from gradnet.classifier.network import GradNet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import DEFAULT, GRADNET_2018, Recipe
from gradnet.classifier.sources import FreshGradients
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.experiments.base_network import BaseSettings, train_base
from gradnet.training.loop import TrainingSettings
from gradnet.training.supervised import evaluate

QUICK = replace(
    DEFAULT, training=replace(DEFAULT.training, steps=60, evaluate_every=20)
)
RELU = replace(
    QUICK,
    hidden=4,
    activation="relu",
    features=FeatureSettings(scaling="std", unit_norm=True),
    training=replace(QUICK.training, learning_rate=0.03),
)
SUM = replace(
    GRADNET_2018,
    hidden=8,
    training=TrainingSettings(
        steps=150, batch_size=25, optimizer="adamw", learning_rate=3e-3
    ),
)


@pytest.fixture(scope="module")
def problem():
    return make_problem(ProblemSettings(device="cpu"))


@pytest.fixture(scope="module")
def base(problem, tmp_path_factory):
    training = TrainingSettings(steps=300, optimizer="adamw", learning_rate=3e-3)
    settings = BaseSettings("mlp", hidden=[16], levels=[0.6], training=training)
    found, _ = train_base(problem, settings, 0, tmp_path_factory.mktemp("base"))
    return load_snapshot(found[0.6]).model


@pytest.mark.parametrize("recipe", [QUICK, RELU, SUM], ids=["linear", "relu", "sum"])
def test_gradnet_beats_the_network_that_it_was_read_from(problem, base, recipe):
    half = problem.gradnet_half
    predictor, history = fit_gradnet(base, half, recipe)
    before, after = evaluate(base, half), evaluate_predictor(predictor, half)
    assert after["accuracy"] > before["accuracy"] + 0.05
    assert after["accuracy"] == history.best["accuracy"]


def make_task(predictor, samples):
    return GradNetTask(predictor, FreshGradients(predictor, samples, seed=0), seed=0)


def test_the_base_is_never_changed(problem, base):
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    fit_gradnet(base, problem.gradnet_half, QUICK)
    assert all(torch.equal(before[name], t) for name, t in base.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in base.parameters())


def test_an_untrained_scorer_is_its_base(problem, base):
    half = problem.gradnet_half
    for recipe in (QUICK, RELU):
        task = make_task(GradNetPredictor(base, recipe, 10), half)
        task.fit_features()
        assert task.evaluate() == pytest.approx(evaluate(base, half), rel=1e-5)


@pytest.mark.parametrize("recipe", [RELU, SUM], ids=["relu", "sum"])
def test_same_seed_same_numbers(problem, base, recipe):
    short = replace(recipe, training=replace(recipe.training, steps=6))
    short = replace(short, dropout=0.5)
    one, two = (fit_gradnet(base, problem.gradnet_half, short)[0] for _ in range(2))
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, two.network.state_dict()[name])
    other = fit_gradnet(base, problem.gradnet_half, short, seed=1)[0]
    name = "first.weights.0"
    assert not torch.equal(
        other.network.state_dict()[name], one.network.state_dict()[name]
    )


def test_each_step_draws_a_label_of_its_own_for_each_sample(problem, base, monkeypatch):
    predictor = GradNetPredictor(base, replace(SUM, features=FeatureSettings()), 10)
    task = make_task(predictor, problem.gradnet_half)
    list(task.losses(0))  # the memory that a batch takes is measured once
    asked, targets = [], []
    outputs, loss = predictor.outputs, GradNet.loss

    def watch_labels(x, labels=None):
        asked.append(labels)
        return outputs(x, labels)

    def watch_targets(self, o, logits, y):
        targets.append(y)
        return loss(self, o, logits, y)

    monkeypatch.setattr(predictor, "outputs", watch_labels)
    monkeypatch.setattr(GradNet, "loss", watch_targets)
    for step in range(20):
        list(task.losses(step))
    labels, y = torch.cat(asked).flatten(), torch.cat(targets)
    assert len(labels.unique()) == 10
    assert 0.03 < (labels == y).float().mean() < 0.25
    assert not torch.equal(asked[0], asked[1])
    true = problem.data.y_train[task.source.batches(19)]
    assert torch.equal(y[-25:], true)


def test_parts_of_a_batch_add_up(problem, base):
    def gradient_of_one_step(budget):
        torch.manual_seed(0)
        recipe = replace(RELU, statistics_samples=50)
        predictor = GradNetPredictor(base, recipe, 10, max_memory=budget)
        torch.nn.init.normal_(predictor.network.output.weight)
        task = make_task(predictor, problem.gradnet_half)
        task.fit_features()
        losses = list(task.losses(0))
        sum(losses).backward()
        return len(losses), predictor.network.first.weights[0].grad

    few, whole = gradient_of_one_step(1e9)
    many, parts = gradient_of_one_step(1e6)
    assert (few, many > 1) == (1, True)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)


def test_a_recipe_for_other_blocks_is_refused(problem, base):
    from gradnet.errors import InvalidInputError

    with pytest.raises(InvalidInputError, match="hidden is .5, 100, 25."):
        fit_gradnet(base, problem.gradnet_half, GRADNET_2018)


def test_recipes_survive_json():
    for recipe in (DEFAULT, GRADNET_2018, RELU):
        assert Recipe.from_dict(recipe.to_dict()) == recipe
