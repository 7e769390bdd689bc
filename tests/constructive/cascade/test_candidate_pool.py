"""Candidates are connected as their variant says, and drawn independently by trial."""

import torch

from gradnet.constructive.cascade.candidate_pool import make_pool
from gradnet.constructive.cascade.candidates import PlainUnits
from gradnet.constructive.cascade.recurrent import RecurrentUnits
from gradnet.constructive.cascade.settings import CascadeSettings

# A bias, two inputs, and hidden units in layers 1 and 2; or in one layer.
LAYERS = torch.tensor([[0, 0, 0, 1, 2], [0, 0, 0, 1, 1]])
FEATURES = torch.zeros(2, 5, 3, dtype=torch.float64)


def pool_of(count=4, layers=LAYERS, features=FEATURES, seeds=(7, 8), **settings):
    groups = [PlainUnits(count)]
    return make_pool(groups, CascadeSettings(**settings), seeds, layers, features)


def test_draws_of_a_trial_are_independent_of_the_other_trials():
    both = pool_of()
    alone = pool_of(layers=LAYERS[1:], features=FEATURES[1:], seeds=[8])
    assert torch.equal(both.weights[0][1:], alone.weights[0])
    assert not torch.equal(both.weights[0][0], both.weights[0][1])
    fewer = pool_of(layers=LAYERS[:, :4], features=FEATURES[:, :4])
    assert not torch.equal(fewer.weights[0], both.weights[0][..., :4])


def test_a_cascade_is_fully_connected():
    pool = pool_of()
    assert (
        pool.visible is None and pool.count_connections()[0].tolist() == [[5] * 4] * 2
    )


def test_a_flat_pool_is_connected_to_inputs_only():
    pool = pool_of(connections="flat")
    assert torch.equal(pool.visible, (LAYERS == 0)[:, None].expand(-1, 4, -1))
    assert pool.count_connections()[0].tolist() == [[3] * 4] * 2


def test_siblings_are_not_connected_to_the_deepest_layer():
    pool = pool_of(connections="siblings", descendant_multiplier=0.7)
    siblings = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]).bool()
    assert torch.equal(pool.visible[:, :2], siblings[:, None].expand(-1, 2, -1))
    assert pool.visible[:, 2:].all()
    assert pool.multipliers.tolist() == [1, 1, 0.7, 0.7]


def test_without_hidden_units_all_candidates_are_connected_alike():
    layers, features = LAYERS[:, :3], FEATURES[:, :3]
    pool = pool_of(connections="siblings", layers=layers, features=features)
    assert pool.visible is None and (pool.multipliers == 1).all()


def test_fan_in_is_limited_besides_the_bias():
    pool = pool_of(count=60, fan_in=2)
    assert (pool.visible.sum(2) == 3).all() and pool.visible[..., 0].all()
    assert pool.visible[..., 1:].float().mean((0, 1)).min() > 0.3
    both = pool_of(count=60, fan_in=3, connections="flat")
    assert (both.visible.sum(2) == 3).all() and not both.visible[..., 3:].any()


def test_weights_that_are_no_columns_stay():
    settings = CascadeSettings(connections="flat")
    groups = [PlainUnits(2), RecurrentUnits(2, steps=3)]
    pool = make_pool(groups, settings, (7, 8), LAYERS, FEATURES)
    plain, recurrent = pool.connection_masks()
    assert plain.shape == (2, 2, 5) and recurrent.shape == (2, 2, 6)
    assert (
        recurrent[..., -1].all()
        and pool.count_connections()[1].tolist() == [[4, 4]] * 2
    )
