"""Output weights are trained until solved, to least squares, or until they stall."""

from dataclasses import replace

import pytest
import torch
from cascade_cases import scalar_quickprop

from gradnet.constructive.cascade.network import input_features
from gradnet.constructive.cascade.output_phase import Objective, Patience, train_outputs
from gradnet.constructive.cascade.settings import CascadeSettings, PhaseSettings


def some(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def goal_of(targets, **settings):
    return Objective(targets, torch.ones_like(targets), CascadeSettings(**settings))


def test_linear_outputs_converge_to_least_squares():
    features, targets = some(2, 4, 30), some(3, 30)
    settings = PhaseSettings(rate=0.35, patience=1000, epochs=1000)
    objective = goal_of(targets, output="linear", outputs=settings, threshold=1e-9)
    phase = train_outputs(torch.zeros(2, 3, 4).double(), features, objective)
    for trial in range(2):
        solution = torch.linalg.lstsq(features[trial].T, targets.T).solution
        torch.testing.assert_close(phase.weights[trial].T, solution)
    assert not phase.solved.any() and (phase.epochs == 1000).all()


def test_slopes_without_offset_are_those_of_half_the_squared_error():
    features, targets, weights = some(1, 4, 9), some(2, 9), some(1, 2, 4)
    objective = goal_of(targets, sigmoid_offset=0.0)
    weights.requires_grad_()
    differences, _ = objective.residuals(weights, features)
    (expected,) = torch.autograd.grad(differences.square().sum() / 2, weights)
    _, residual = objective.residuals(weights.detach(), features)
    torch.testing.assert_close(residual @ features.mT, expected)


def test_the_offset_is_added_to_the_derivative():
    features, targets, weights = some(1, 4, 9), some(2, 9), some(1, 2, 4)
    differences, residual = goal_of(targets).residuals(weights, features)
    outputs = (weights @ features).sigmoid() - 0.5
    torch.testing.assert_close(differences, outputs - targets)
    torch.testing.assert_close(residual, differences * (0.25 - outputs**2 + 0.1))


def trained_by_loops(weights, features, targets, settings):
    """The output phase of one trial with one output, number by number."""
    outputs = settings.outputs
    slopes, steps = [0.0] * len(weights), [0.0] * len(weights)
    reference, waited = None, 0
    for epoch in range(outputs.epochs):
        off, slope = [], [outputs.decay * w for w in weights]
        for column, target in zip(
            features.T.tolist(), targets[0].tolist(), strict=True
        ):
            net = sum(w * c for w, c in zip(weights, column, strict=True))
            value = torch.sigmoid(torch.tensor(net).double()).item() - 0.5
            off.append(value - target)
            error = off[-1] * (0.25 - value**2 + settings.sigmoid_offset)
            slope = [s + error * c for s, c in zip(slope, column, strict=True)]
        if max(map(abs, off)) < settings.threshold:
            return weights, True, epoch
        rate = outputs.rate / len(off)
        triples = zip(slope, slopes, steps, strict=True)
        steps = [scalar_quickprop(*t, rate, outputs.growth) for t in triples]
        weights = [w + s for w, s in zip(weights, steps, strict=True)]
        slopes, squares = slope, sum(d * d for d in off)
        if reference is None or abs(squares - reference) > outputs.change * reference:
            reference, waited = squares, 0
        else:
            waited += 1
        if waited == outputs.patience:
            return weights, False, epoch + 1
    return weights, False, outputs.epochs


@pytest.mark.parametrize("trials", [1, 6])
def test_it_equals_a_plain_loop_for_each_trial(trials):
    inputs = some(12, 2)
    features = input_features(inputs).repeat(trials, 1, 1)
    line = (inputs @ some(2, 1)).T
    targets = (line > 0).double() - 0.5
    objective, weights = goal_of(targets), 3 * some(trials, 1, 3)
    objective = replace(objective, settings=replace(objective.settings, threshold=0.49))
    phase = train_outputs(weights, features, objective)
    for trial in range(trials):
        expected, solved, epochs = trained_by_loops(
            weights[trial, 0].tolist(), features[trial], targets, objective.settings
        )
        found = phase.weights[trial, 0]
        torch.testing.assert_close(found, torch.tensor(expected).double())
        assert (bool(phase.solved[trial]), int(phase.epochs[trial])) == (solved, epochs)
        recorded = phase.errors[trial].isfinite().sum()
        assert recorded == epochs + solved
    if trials > 1:
        assert phase.epochs.unique().numel() > 2 and phase.solved.any()


def test_a_solution_has_the_weights_before_the_step():
    features, weights = some(1, 3, 5), some(1, 1, 3)
    targets = (weights[0] @ features[0]).sigmoid() - 0.5
    phase = train_outputs(weights, features, goal_of(targets))
    assert phase.solved.all() and phase.epochs.item() == 0
    assert torch.equal(phase.weights, weights)


def test_patience_waits_for_a_change_of_the_last_significant_number():
    patience = Patience(PhaseSettings(rate=1, patience=3, change=0.1))
    curve = [100, 95, 91, 88, 85, 84, 82, 80]
    worn = [bool(patience.update(torch.tensor([float(x)]))) for x in curve]
    # 88 is the first that differs by more than a tenth of 100; 80 is within it of 88.
    assert worn == [False] * 6 + [True, True]
