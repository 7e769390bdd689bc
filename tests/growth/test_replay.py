"""Edits made again give the shapes of every stage, and the weights of the start."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from growth_cases import digits, tiny

from gradnet.errors import InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth.replay import replay
from gradnet.growth.run import grow
from gradnet.surgery.masks import has_masks


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


def test_of_a_start_comes_the_methods_own_network_with_its_weights():
    probe = digits().augmentation.evaluate(digits().images[:8])
    start = replay(tiny("progressive"), 7, 0, probe, 10)
    method = replace(tiny("progressive"), preserving=True)
    assert not start.preserving
    begun = replay(method, 0, 0, probe, 10, start=start)
    assert begun.preserving and torch.equal(begun(probe), start(probe))
    grown = replay(method, 0, 1, probe, 10, start=start).eval()
    assert grown(probe).allclose(start.eval()(probe), atol=1e-6)


PROBE = digits().augmentation.evaluate(digits().images[:8])
OTHERS = [name for name in GROWTH if "optimal" not in name]
KINDS = [
    *((name, 0) for name in OTHERS),
    *(("optimal-brain-damage", n) for n in (1, 2)),
]


@cache
def grown(name):
    return grow(tiny(name), digits()).model.eval()


@pytest.mark.parametrize(("name", "number"), KINDS)
def test_a_method_goes_on_from_any_network_or_says_why_not(name, number):
    method = tiny(name, number)
    begun = []
    for kind in GROWTH:
        start = grown(kind)
        try:
            first = replay(method, 0, 0, PROBE, 10, start=start)
            last = grow(method, digits(), start=start).model
        except InvalidInputError:
            continue
        begun.append(kind)
        assert torch.equal(first.eval()(PROBE), start(PROBE)), kind
        assert not has_masks(start) or has_masks(last), kind
    if name == "optimal-brain-damage" and not method.units:
        assert begun == list(GROWTH)
    if name in ("cascade-correlation", "net2wider", "node-creation"):
        assert begun


def test_what_is_no_first_network_is_named_with_the_difference():
    start = replay(tiny("net2wider"), 0, 1, PROBE, 10)
    with pytest.raises(
        InvalidInputError, match="Cornet cannot start from this MLP: .* is"
    ):
        replay(tiny("cornet"), 0, 0, PROBE, 10, start=start)
    with pytest.raises(
        InvalidInputError, match="can only continue from an unpruned Cascade"
    ):
        replay(tiny("cascade-correlation"), 0, 0, PROBE, 10, start=start)
    with pytest.raises(
        InvalidInputError, match="both a checkpoint and a grown network"
    ):
        method = replace(tiny("net2wider"), checkpoint="x.pt")
        replay(method, 0, 0, PROBE, 10, start=start)
