"""Image networks grow by units that correlate with their errors, then frozen."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext, Schedule
from gradnet.growth.methods.cascade_correlation import CascadeCorrelation, choose_units
from gradnet.growth.run import grow
from gradnet.training.loop import TrainingSettings

METHOD = CascadeCorrelation(
    training=TrainingSettings(
        steps=60, batch_size=50, optimizer="adamw", learning_rate=3e-3
    ),
    growth=Schedule(every=20),
    rounds=2,
    units=3,
    pool=8,
    candidate_steps=30,
    candidate_batch=100,
)


@pytest.fixture(scope="module")
def samples():
    return make_problem(ProblemSettings(device="cpu")).all_training


def begin(method, samples):
    torch.manual_seed(0)
    probe = samples.augmentation.evaluate(samples.images[samples.train[:64]])
    model = method.initial_model(tuple(probe.shape[1:]), samples.num_classes)
    return model, EditContext(1, probe, 0, samples)


def correlations(layer, model, samples):
    """What units of a layer behind a linear model correlate with, all at once."""
    images = samples.images[samples.train]
    columns = samples.augmentation.evaluate(images).flatten(1)
    with torch.no_grad():
        residual = model.head(columns).softmax(1)
        residual -= nn.functional.one_hot(samples.labels[samples.train], 10)
        values = layer.units(columns)
    values, centered = values - values.mean(0), residual - residual.mean(0)
    return centered.T @ values / centered.square().sum()


def test_an_edit_preserves_exactly_and_leaves_the_old_network(samples):
    model, context = begin(METHOD, samples)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    edit = METHOD.edit(model, context)
    assert METHOD.preserves_function and edit.certificate.largest_difference < 1e-6
    assert edit.model.head.weight.shape == (10, 67)
    assert (edit.model.head.weight[:, 64:] == 0).all()
    assert edit.certificate.created == (
        "units1.linear.weight",
        "units1.linear.bias",
        "head.weight",
    )
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert edit.flops > 0


def test_candidates_learn_to_correlate(samples):
    model, context = begin(METHOD, samples)
    trained = METHOD.edit(model, context).model.units1
    chance = replace(METHOD, candidate_steps=0).edit(model, context).model.units1
    scores = [
        correlations(layer, model, samples).abs().sum() for layer in (trained, chance)
    ]
    assert scores[0] > 1.5 * scores[1]


def test_the_published_first_weights_are_an_option(samples):
    method = replace(METHOD, weight_multiplier=0.5)
    model, context = begin(method, samples)
    edit = method.edit(model, context)
    assert not method.preserves_function
    assert edit.certificate.largest_difference > 1e-3
    expected = -0.5 * correlations(edit.model.units1, model, samples)
    torch.testing.assert_close(edit.model.head.weight[:, 64:], expected)


@pytest.mark.parametrize("samples_are_given", [True, False])
def test_what_is_replayed_is_not_trained(samples, samples_are_given):
    model, context = begin(METHOD, samples)
    trained = METHOD.edit(model, context).model
    replayed = replace(
        context, is_replayed=True, samples=samples if samples_are_given else None
    )
    edit = METHOD.edit(model, replayed)
    shapes = [
        {n: v.shape for n, v in m.state_dict().items()} for m in (edit.model, trained)
    ]
    assert shapes[0] == shapes[1] and edit.flops == 0


def test_the_same_seed_makes_the_same_units_and_another_one_others(samples):
    model, context = begin(METHOD, samples)
    first, again, other = (
        METHOD.edit(model, replace(context, seed=seed)).model.units1.linear.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_run_grows_freezes_and_learns(samples):
    growth = grow(METHOD, samples)
    names = [name for name, _ in growth.model.named_children()]
    assert names == ["flatten", "units1", "units2", "head"]
    assert growth.model.units2.linear.weight.shape == (3, 67)
    trained = {n for n, p in growth.model.named_parameters() if p.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    before, after = growth.history.records[0], growth.history.records[-1]
    assert after["accuracy"] > 0.8 > before["accuracy"]
    for edit in growth.history.edits:
        assert edit["largest_difference"] < 1e-5


def test_units_are_frozen_for_good(samples):
    model, context = begin(METHOD, samples)
    first = METHOD.edit(model, context).model
    METHOD.freeze(first, 1)
    second = METHOD.edit(first, replace(context, stage=2)).model
    assert torch.equal(first.units1.linear.weight, second.units1.linear.weight)
    assert second.units2.linear.in_features == 67


def test_the_best_units_are_chosen_one_after_the_other():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    columns -= columns.mean(0)
    good, better, other = columns.T
    values = torch.stack([good, 3 * better, 2.9 * better + 0.01 * good, other], 1)
    residual = (4 * better + good)[:, None]
    # The third is nearly the second over again: of no use beside it.
    assert choose_units(values, residual, 2).tolist() == [1, 0]
    assert sorted(choose_units(values, residual, 4).tolist()) == [0, 1, 2, 3]


def test_the_work_of_candidates_is_counted(samples):
    model, context = begin(METHOD, samples)
    many = len(samples.train)
    linear, candidates = 2 * 64 * 10, 2 * 64 * 8
    trained = 30 * 100 * (linear + 2 * candidates)
    scored = many * (linear + candidates)
    assert METHOD.edit(model, context).flops == trained + scored


def test_what_cannot_be_is_refused(samples):
    with pytest.raises(InvalidInputError, match="pool of 2 has no 3 units"):
        replace(METHOD, pool=2)
    with pytest.raises(InvalidInputError, match="units is 0"):
        replace(METHOD, units=0)
    with pytest.raises(InvalidInputError, match="no activation 'relu'"):
        replace(METHOD, activation="relu")
    _, context = begin(METHOD, samples)
    with pytest.raises(InvalidInputError, match="cascade-correlation cannot grow a"):
        METHOD.edit(nn.Linear(2, 2), context)
