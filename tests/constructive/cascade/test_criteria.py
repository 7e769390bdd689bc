"""Scores equal their definitions; gradients equal differences and autograd."""

import pytest
import torch

from gradnet.constructive.cascade.candidates import PlainUnits
from gradnet.constructive.cascade.criteria import Covariance, ErrorReduction

TRIALS, COUNT, OUTPUTS, SAMPLES, TARGETS = 2, 3, 2, 11, 3


def some(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def residual():
    return some(TRIALS, TARGETS, SAMPLES)


@pytest.fixture
def mask():
    return torch.ones(TARGETS, SAMPLES, dtype=torch.float64)


def score_by_loops(values, residual):
    """S of one candidate with values (M, N), for residuals (K, N)."""
    total = 0.0
    for output in values:
        for error in residual:
            pairs = zip(output - output.mean(), error - error.mean(), strict=True)
            total += abs(sum(v * e for v, e in pairs)) / (residual**2).sum()
    return total / len(values)


def test_the_score_is_its_definition(residual, mask):
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES)
    scores = Covariance(residual, mask).score(values)
    for trial in range(TRIALS):
        for index in range(COUNT):
            expected = score_by_loops(values[trial, index], residual[trial])
            torch.testing.assert_close(scores[trial, index], expected)


def test_score_gradient_of_weights_equals_differences_and_autograd(residual, mask):
    units, features = (
        PlainUnits(COUNT, ["sigmoid", "gaussian"]),
        some(TRIALS, 4, SAMPLES),
    )
    members = torch.arange(COUNT).expand(TRIALS, -1)
    weights = some(TRIALS, COUNT, 4).requires_grad_()
    criterion = Covariance(residual, mask)

    def scores(weights):
        return criterion.score(units.forward(weights, features, members)[0])

    (expected,) = torch.autograd.grad(scores(weights).sum(), weights)
    values, pullback = units.forward(weights.detach(), features, members)
    criterion.score(values)
    slopes = pullback(criterion.cotangents(values))
    torch.testing.assert_close(-slopes, expected, rtol=1e-10, atol=1e-12)
    step, direction = 1e-6, some(TRIALS, COUNT, 4)
    ends = [scores(weights.detach() + s * step * direction) for s in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(
        -(slopes * direction).sum(2), difference, rtol=1e-6, atol=1e-8
    )


def test_signs_are_those_of_the_epoch_before(residual, mask):
    criterion = Covariance(residual, mask)
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES)
    criterion.score(values)
    before = criterion.cotangents(values)
    torch.testing.assert_close(criterion.cotangents(-values), before)
    criterion.score(-values)
    torch.testing.assert_close(criterion.cotangents(values), -before)


def test_constants_change_only_the_normalizer(residual, mask):
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES)
    plain, moved = Covariance(residual, mask), Covariance(residual + 3, mask)
    scores = plain.score(values)
    torch.testing.assert_close(plain.score(values + 5), scores)
    squares = [(r**2).sum((1, 2))[:, None] for r in (residual, residual + 3)]
    torch.testing.assert_close(moved.score(values) * squares[1], scores * squares[0])


def test_an_odd_function_scores_the_same_with_all_weights_negated(residual, mask):
    units, features = PlainUnits(COUNT), some(TRIALS, 4, SAMPLES)
    members = torch.arange(COUNT).expand(TRIALS, -1)
    weights, criterion = some(TRIALS, COUNT, 4), Covariance(residual, mask)
    there, back = (
        criterion.score(units.forward(w, features, members)[0])
        for w in (weights, -weights)
    )
    torch.testing.assert_close(there, back)


@pytest.mark.parametrize("kind", [Covariance, ErrorReduction])
def test_masked_samples_do_not_count(kind, residual, mask):
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES)
    arguments = () if kind is Covariance else (0.1, 2.0)
    fewer = kind(residual[..., :7], mask[:, :7], *arguments)
    mask[:, 7:] = 0
    masked = kind(residual * mask, mask, *arguments)
    for _ in range(2):
        expected = fewer.score(values[..., :7])
        torch.testing.assert_close(masked.score(values), expected)
    cotangents = masked.cotangents(values)
    torch.testing.assert_close(cotangents[..., :7], fewer.cotangents(values[..., :7]))
    assert (cotangents[..., 7:] == 0).all()


def test_one_output_removes_what_least_squares_removes(residual, mask):
    values = some(TRIALS, COUNT, 1, SAMPLES)
    criterion = ErrorReduction(residual, mask, 0.01, 2.0)
    scores = criterion.score(values)
    for trial in range(TRIALS):
        target = residual[trial].T
        for index in range(COUNT):
            matrix = values[trial, index].T
            left = target - matrix @ torch.linalg.lstsq(matrix, target).solution
            expected = 1 - left.square().sum() / target.square().sum()
            torch.testing.assert_close(scores[trial, index], expected)
    for _ in range(20):
        torch.testing.assert_close(criterion.score(values), scores)


def test_error_reduction_has_the_gradient_of_its_score(residual, mask):
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES).requires_grad_()
    criterion = ErrorReduction(residual, mask, 1e-9, 2.0)
    criterion.score(values.detach() + some(*values.shape))
    expected = -criterion.cotangents(values.detach())
    (gradient,) = torch.autograd.grad(criterion.score(values).sum(), values)
    torch.testing.assert_close(gradient, expected)


def test_the_weights_of_error_reduction_are_trained(residual, mask):
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES)
    criterion = ErrorReduction(residual, mask, 0.1 / SAMPLES, 2.0)
    scores = [criterion.score(values) for _ in range(100)]
    matrix, target = values[0, 0].T, residual[0].T
    left = target - matrix @ torch.linalg.lstsq(matrix, target).solution
    best = 1 - left.square().sum() / target.square().sum()
    assert scores[0][0, 0] < best - 1e-3
    torch.testing.assert_close(scores[-1][0, 0], best)
    assert criterion.output_weights.shape == (TRIALS, COUNT, OUTPUTS, TARGETS)


@pytest.mark.parametrize("kind", [Covariance, ErrorReduction])
def test_selected_trials_continue(kind, residual, mask):
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES)
    arguments = () if kind is Covariance else (0.1, 2.0)
    both, one = (kind(residual, mask, *arguments) for _ in range(2))
    for criterion in (both, one):
        criterion.score(values)
    one.select(torch.tensor([False, True]))
    torch.testing.assert_close(one.cotangents(values[1:]), both.cotangents(values)[1:])
    torch.testing.assert_close(one.score(values[1:]), both.score(values)[1:])
    torch.testing.assert_close(one.output_weights, both.output_weights[1:])


def test_a_residual_of_zero_has_a_score_of_zero(mask):
    values = some(TRIALS, COUNT, OUTPUTS, SAMPLES)
    criterion = Covariance(torch.zeros(TRIALS, TARGETS, SAMPLES).double(), mask)
    assert (criterion.score(values) == 0).all()
