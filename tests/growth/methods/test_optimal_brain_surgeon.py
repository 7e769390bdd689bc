"""Optimal Brain Surgeon: deleted weights are zero, at the predicted cost."""

import pytest
import torch
from pruning_cases import begin, context, samples
from pruning_cases import method as damage_method
from torch import nn

from gradnet.curvature.diagonal import gauss_newton_rows, hessian_matrix
from gradnet.errors import InvalidInputError
from gradnet.growth.methods.optimal_brain_surgeon import (
    OptimalBrainSurgeon,
    delete_weights,
    inverse_by_recursion,
    inverse_directly,
    surgeon_saliencies,
)
from gradnet.growth.run import grow
from gradnet.surgery.masks import masks_of, without_masks

SIZE = 12


def problem():
    """Rows, the matrix of them, and weights."""
    generator = torch.manual_seed(0)
    rows = torch.randn(40, SIZE, generator=generator, dtype=torch.float64)
    weights = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    return rows, rows.T @ rows / 40, weights


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_recursion_is_the_inverse(size, monkeypatch):
    monkeypatch.setattr("gradnet.growth.methods.optimal_brain_surgeon.BLOCK", 16)
    rows, matrix, _ = problem()
    found = inverse_by_recursion(rows.split(size), 40, 1e-4)
    direct = inverse_directly(matrix, 1e-4)
    by_torch = torch.linalg.inv(matrix + 1e-4 * torch.eye(SIZE, dtype=matrix.dtype))
    torch.testing.assert_close(direct, by_torch, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found, by_torch, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found, found.T, rtol=0, atol=0)


def test_the_blocks_are_the_published_recursion():
    rows, _, _ = problem()
    inverse = torch.eye(SIZE, dtype=rows.dtype) / 0.1
    for x in rows:
        through = inverse @ x
        inverse = inverse - torch.outer(through, through) / (40 + x @ through)
    found = inverse_by_recursion([rows], 40, 0.1)
    torch.testing.assert_close(found, inverse, rtol=1e-12, atol=1e-13)


def test_it_never_costs_more_than_damage_by_the_same_hessian():
    _, matrix, weights = problem()
    costs = surgeon_saliencies(weights, inverse_directly(matrix, 1e-6))
    damage = matrix.diagonal() * weights**2 / 2
    assert (costs <= damage + 1e-6).all() and (costs < 0.95 * damage).any()


def test_each_deletion_has_the_predicted_cost_and_leaves_a_zero():
    _, matrix, weights = problem()
    inverse = inverse_directly(matrix, 0)
    for index in range(SIZE):
        only = torch.arange(SIZE) == index
        surgery = delete_weights(weights, inverse, only, 1)
        change = surgery.weights - weights
        assert surgery.deleted == [index] and surgery.weights[index] == 0
        increase = (change @ matrix @ change / 2).item()
        assert surgery.increases[0] == pytest.approx(increase, rel=1e-10)
        # No other change with that weight gone costs less.
        rest = ~only
        solved = torch.linalg.solve(
            matrix[rest][:, rest], weights[index] * matrix[rest][:, index]
        )
        torch.testing.assert_close(change[rest], solved, rtol=1e-9, atol=1e-11)


def test_many_deletions_are_as_exact_as_one():
    _, matrix, weights = problem()
    candidates = torch.arange(SIZE) > 2
    surgery = delete_weights(weights, inverse_directly(matrix, 0), candidates, 7)
    gone = torch.zeros(SIZE, dtype=torch.bool)
    gone[surgery.deleted] = True
    assert len(set(surgery.deleted)) == 7 and not gone[:3].any()
    assert (surgery.weights[gone] == 0).all() and (surgery.weights[~gone] != 0).all()
    change = surgery.weights - weights
    increase = (change @ matrix @ change / 2).item()
    assert sum(surgery.increases) == pytest.approx(increase, rel=1e-9)
    rest = ~gone
    solved = torch.linalg.solve(
        matrix[rest][:, rest], matrix[rest][:, gone] @ weights[gone]
    )
    torch.testing.assert_close(change[rest], solved, rtol=1e-8, atol=1e-10)


def test_the_cheapest_candidate_goes_first():
    _, matrix, weights = problem()
    inverse = inverse_directly(matrix, 0)
    costs = surgeon_saliencies(weights, inverse)
    everything = torch.ones(SIZE, dtype=torch.bool)
    assert delete_weights(weights, inverse, everything, 1).deleted == [
        int(costs.argmin())
    ]
    with pytest.raises(InvalidInputError, match="12 candidates"):
        delete_weights(weights, inverse, everything, 13)


def test_on_a_quadratic_problem_the_error_rises_as_predicted():
    generator = torch.manual_seed(1)
    x = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    model = nn.Linear(5, 2, bias=False).double()
    weights = torch.linalg.lstsq(x, y).solution.T
    nn.utils.vector_to_parameters(weights.flatten(), model.parameters())

    def error(flat):
        return (x @ flat.reshape(2, 5).T - y).square().sum(1).mean().item()

    matrix = hessian_matrix(model, x, y, "squared_error")
    rows = gauss_newton_rows(model, x, "squared_error")
    inverse = inverse_by_recursion(rows, 50, 1e-9)
    torch.testing.assert_close(
        inverse, inverse_directly(matrix, 1e-9), rtol=1e-5, atol=1e-6
    )
    everything = torch.ones(10, dtype=torch.bool)
    flat = weights.flatten()
    surgery = delete_weights(flat, inverse_directly(matrix, 0), everything, 4)
    assert error(surgery.weights) - error(flat) == pytest.approx(
        sum(surgery.increases), rel=1e-9
    )


def test_matrices_that_cannot_be_inverted_are_refused(monkeypatch):
    negative = -torch.eye(3, dtype=torch.float64)
    with pytest.raises(InvalidInputError, match="not positive definite: train longer"):
        inverse_directly(negative, 1e-4)
    with pytest.raises(InvalidInputError, match="needs samples, and there are none"):
        inverse_by_recursion([], 0, 1e-4)
    monkeypatch.setattr("gradnet.growth.methods.optimal_brain_surgeon.MAX_WEIGHTS", 2)
    for make in (
        lambda: inverse_directly(negative, 1),
        lambda: inverse_by_recursion([torch.ones(1, 3)], 1, 1),
        lambda: surgeon().edit(begin(surgeon()), context()),
    ):
        with pytest.raises(
            InvalidInputError, match="give a network of up to 2 weights"
        ):
            make()


def surgeon(**changes):
    given = dict(vars(damage_method()))
    for name in ("criterion", "curvature", "ranking", "units"):
        del given[name]
    return OptimalBrainSurgeon(**{**given, "model_args": {"hidden": [4]}, **changes})


@pytest.mark.parametrize("changes", [{}, {"curvature": "hessian", "damping": 10.0}])
def test_the_method_deletes_corrects_and_retrains(changes):
    how = surgeon(**changes)
    edit = how.edit(begin(how), context())
    model, before = without_masks(edit.model), edit.before
    kept = masks_of(edit.model)
    assert list(kept) == ["linear0.weight", "linear1.weight"]
    deleted = sum(int((~mask).sum()) for mask in kept.values())
    assert deleted == int(0.3 * (36 * 4 + 4 * 3))
    for name, mask in kept.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
        assert (model.get_parameter(name)[mask] != 0).all()
    assert not torch.equal(model.linear1.bias, before.linear1.bias)
    growth = grow(how, samples())
    plain, kept = without_masks(growth.model), masks_of(growth.model)
    assert all((plain.get_parameter(n)[~mask] == 0).all() for n, mask in kept.items())
    counts = [record["parameters"][1] for record in growth.history.edits]
    assert counts == sorted(counts, reverse=True) and len(counts) == 3


def test_a_second_round_keeps_deleted_weights_at_zero():
    how = surgeon()
    first = how.edit(begin(how), context())
    second = how.edit(first.model, context(stage=2))
    before, after = masks_of(first.model), masks_of(second.model)
    assert all((after[n] <= before[n]).all() for n in before)
    left = sum(int(mask.sum()) for mask in before.values())
    assert sum(int(mask.sum()) for mask in after.values()) == left - int(0.3 * left)


def test_it_costs_less_than_damage_after_the_same_training():
    training = damage_method().training
    settings = {"fraction": 0.5, "rounds": 1, "model_args": {"hidden": [4]}}
    rises = {}
    for name, how in (
        ("damage", damage_method(**settings)),
        ("surgeon", surgeon(**settings)),
    ):
        growth = grow(how, samples())
        at = [r for r in growth.history.records if r["step"] == 10]
        rises[name] = at[1]["loss"] - at[0]["loss"]
    assert training.steps == 30 and rises["surgeon"] < rises["damage"]
