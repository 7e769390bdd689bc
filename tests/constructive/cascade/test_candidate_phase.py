"""Candidates train independently of each other, as plain loops train one."""

from dataclasses import replace

import pytest
import torch
from cascade_cases import scalar_quickprop

from gradnet.constructive.cascade.candidate_phase import train_candidates
from gradnet.constructive.cascade.candidate_pool import CandidatePool
from gradnet.constructive.cascade.candidates import PlainUnits
from gradnet.constructive.cascade.output_phase import Objective
from gradnet.constructive.cascade.settings import CascadeSettings, PhaseSettings

SAMPLES, FEATURES, TARGETS = 10, 3, 2
JUDGED = torch.ones(TARGETS, SAMPLES, dtype=torch.float64)


def some(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def goal_of(**settings):
    return Objective(JUDGED, JUDGED, CascadeSettings(**settings))


def pool_of(weights, visible=None, multipliers=None, names=("sigmoid",)):
    count = weights.shape[1]
    if multipliers is None:
        multipliers = torch.ones(count).double()
    return CandidatePool([PlainUnits(count, names)], [weights], visible, multipliers)


def correlations_by_loops(weights, features, residual):
    """Values of a candidate and its correlation with each output."""
    values = [float((weights @ c).sigmoid() - 0.5) for c in features.T]
    squares = float(residual.square().sum())
    found = []
    for errors in residual.tolist():
        mean = sum(errors) / len(errors)
        pairs = zip(values, errors, strict=True)
        found.append(sum(v * (e - mean) for v, e in pairs) / squares)
    return values, found


def trained_by_loops(pool, features, residual, settings):
    """The phase of one trial: the winner, its weights and correlations, epochs."""
    many, squares = pool.shape[0], float(residual.square().sum())
    weights = [w.clone() for w in pool]
    memory = [[(0.0, 0.0)] * FEATURES for _ in range(many)]
    found = [correlations_by_loops(w, features, residual)[1] for w in weights]
    reference, waited, epochs = None, 0, 1
    rate = settings.rate / SAMPLES / FEATURES
    while epochs < 1 + settings.epochs and waited < settings.patience:
        epochs += 1
        for c in range(many):
            values, new = correlations_by_loops(weights[c], features, residual)
            slopes = [0.0] * FEATURES
            for p in range(SAMPLES):
                for o in range(TARGETS):
                    sign = (found[c][o] > 0) - (found[c][o] < 0)
                    error = float(residual[o, p] - residual[o].mean())
                    pull = sign * error * (0.25 - values[p] ** 2) / squares
                    for i in range(FEATURES):
                        slopes[i] -= pull * float(features[i, p])
            for i in range(FEATURES):
                previous, step = memory[c][i]
                step = scalar_quickprop(
                    slopes[i], previous, step, rate, settings.growth
                )
                memory[c][i] = (slopes[i], step)
                weights[c][i] += step
            found[c] = new
        scores = [sum(map(abs, f)) for f in found]
        best = max(scores)
        if reference is None or abs(best - reference) > settings.change * reference:
            reference, waited = best, 0
        else:
            waited += 1
    winner = scores.index(best)
    return winner, weights[winner], found[winner], epochs


@pytest.mark.parametrize("trials", [1, 4])
def test_it_equals_a_plain_loop_for_each_trial(trials):
    weights, features = some(trials, 3, FEATURES), some(trials, FEATURES, SAMPLES)
    residual, objective = some(trials, TARGETS, SAMPLES), goal_of()
    settings = PhaseSettings(rate=5.0, change=0.03, patience=4, epochs=25)
    objective = replace(
        objective, settings=replace(objective.settings, candidates=settings)
    )
    phase = train_candidates(pool_of(weights), features, residual, objective)
    for trial in range(trials):
        winner, expected, found, epochs = trained_by_loops(
            weights[trial], features[trial], residual[trial], settings
        )
        assert (phase.member[trial], phase.epochs[trial]) == (winner, epochs)
        torch.testing.assert_close(phase.weights[0][trial], expected)
        torch.testing.assert_close(
            phase.output_weights[trial, 0], -torch.tensor(found).double()
        )
        assert phase.scores[trial].isfinite().sum() == epochs - 1
    assert trials == 1 or phase.epochs.unique().numel() > 1


@pytest.mark.parametrize("criterion", ["covariance", "error"])
def test_candidates_of_a_pool_are_independent(criterion):
    patient = PhaseSettings(rate=2.0, patience=100, epochs=20)
    objective = goal_of(candidates=patient, criterion=criterion)
    weights, features = some(2, 5, FEATURES), some(2, FEATURES, SAMPLES)
    residual = some(2, TARGETS, SAMPLES)
    together = train_candidates(pool_of(weights), features, residual, objective)
    alone = [
        train_candidates(pool_of(weights[:, c : c + 1]), features, residual, objective)
        for c in range(5)
    ]
    for trial in range(2):
        last = [phase.scores[trial, -1] for phase in alone]
        best = max(range(5), key=last.__getitem__)
        assert together.member[trial] == best
        torch.testing.assert_close(
            together.weights[0][trial], alone[best].weights[0][trial]
        )
        torch.testing.assert_close(
            together.output_weights[trial], alone[best].output_weights[trial]
        )


def test_groups_form_one_pool():
    objective = goal_of()
    weights, features = some(3, 4, FEATURES), some(3, FEATURES, SAMPLES)
    residual = some(3, TARGETS, SAMPLES)
    one = train_candidates(pool_of(weights), features, residual, objective)
    pool = CandidatePool(
        [PlainUnits(1), PlainUnits(3)],
        [weights[:, :1], weights[:, 1:]],
        None,
        torch.ones(4).double(),
    )
    two = train_candidates(pool, features, residual, objective)
    assert torch.equal(two.group, (one.member > 0).long())
    assert torch.equal(two.member + two.group, one.member)
    torch.testing.assert_close(two.output_weights, one.output_weights)
    for trial in range(3):
        found = two.weights[two.group[trial]][trial]
        torch.testing.assert_close(found, one.weights[0][trial])


def test_missing_connections_have_no_weight():
    weights, features = some(1, 2, FEATURES), some(1, FEATURES, SAMPLES)
    residual, objective = some(1, TARGETS, SAMPLES), goal_of()
    visible = torch.tensor([[[True, False, True], [True, True, False]]])
    phase = train_candidates(pool_of(weights, visible), features, residual, objective)
    hidden = ~visible[0, phase.member[0]]
    assert (phase.weights[0][0][hidden] == 0).all()
    seen = (~hidden).nonzero()[:, 0]
    own = weights[:, phase.member][..., seen]
    alone = train_candidates(pool_of(own), features[:, seen], residual, objective)
    assert phase.epochs == alone.epochs
    torch.testing.assert_close(phase.weights[0][0][seen], alone.weights[0][0])


def test_multipliers_decide_which_is_best():
    weights, features = some(1, 2, FEATURES), some(1, FEATURES, SAMPLES)
    residual, objective = some(1, TARGETS, SAMPLES), goal_of()
    for least in (0, 1):
        multipliers = torch.ones(2).double()
        multipliers[least] = 1e-6
        pool = pool_of(weights, None, multipliers)
        phase = train_candidates(pool, features, residual, objective)
        assert phase.member.item() == 1 - least
