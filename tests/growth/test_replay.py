"""Edits made again give the shapes of every stage, and the weights of the start."""

import torch
from growth_cases import digits, tiny

from gradnet.growth.replay import replay
from gradnet.growth.run import grow


def test_replayed_networks_have_the_weights_of_the_start_and_the_shapes_of_each_stage():
    for name in ("cornet", "net2deeper", "net2wider"):
        method = tiny(name)
        probe = digits().augmentation.evaluate(digits().images[digits().train[:64]])
        first, again = (replay(method, 3, 0, probe, 10) for _ in range(2))
        assert all(map(torch.equal, first.parameters(), again.parameters()))
        grown = grow(method, digits(), seed=3).model
        last = replay(method, 3, method.edits, probe, 10)
        shapes = [
            {n: v.shape for n, v in m.state_dict().items()} for m in (grown, last)
        ]
        assert shapes[0] == shapes[1]


def test_a_start_takes_the_place_of_the_methods_first_network_and_is_left_alone():
    probe = digits().augmentation.evaluate(digits().images[:8])
    start = replay(tiny("cascade-correlation"), 0, 2, probe, 10)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    method = tiny("optimal-brain-damage", 1)
    copied = replay(method, 5, 0, probe, 10, start=start)
    assert all(map(torch.equal, copied.parameters(), start.parameters()))
    replay(method, 5, 1, probe, 10, start=copied)
    grow(method, digits(), start=start)
    assert all(torch.equal(value, before[n]) for n, value in start.state_dict().items())
