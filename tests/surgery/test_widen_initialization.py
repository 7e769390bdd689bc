"""Weights of new units: copies with unequal shares, noise, and random padding."""

import pytest
import torch
from channel_cases import CASES, IMAGES, build, disturbed, linear
from torch import nn

from gradnet.surgery.widen import widen


def test_first_copies_stay_where_they_were_and_shares_sum_to_one():
    model, layer, x = build("relu")
    edit = widen(model, layer, 40, probe=x)
    sources = edit.origins["1.weight"].indices[0]
    shares = edit.origins["3.weight"].scale[1]
    assert sources[:5].tolist() == list(range(5)) and set(sources.tolist()) <= set(
        range(5)
    )
    assert shares.min() > 0 and len(set(shares.tolist())) == 40
    for unit in range(5):
        assert shares[sources == unit].sum().item() == pytest.approx(1, abs=1e-12)
    again = widen(model, layer, 40, probe=x)
    assert torch.equal(again.origins["1.weight"].indices[0], sources)
    generator = torch.Generator().manual_seed(5)
    other = widen(model, layer, 40, probe=x, generator=generator)
    assert not torch.equal(other.origins["1.weight"].indices[0], sources)


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()])
def test_copies_diverge(activation):
    model = linear(activation).double()
    x = torch.randn(*IMAGES, dtype=torch.float64)
    edit = widen(model, "1", 10, probe=x)
    source = edit.origins["1.weight"].indices[0][5].item()
    optimizer = torch.optim.SGD(edit.model.parameters(), lr=0.05)
    weight = edit.model.get_submodule("1").weight
    assert torch.equal(weight[5], weight[source])
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(edit.model(x), torch.tensor([0, 1, 2])).backward()
        optimizer.step()
    assert (weight[5] - weight[source]).abs().max() > 1e-3


def test_noise_is_on_the_outgoing_weights_of_copies_only():
    model, layer, x = build("branches, left")
    exact = widen(model, layer, 8, probe=x).model.state_dict()
    noisy = widen(model, layer, 8, probe=x, noise=0.1)
    assert 0 < noisy.certificate.largest_difference < 1
    changed = {n for n, t in noisy.model.state_dict().items() if not t.equal(exact[n])}
    assert changed == {"mix.weight", "head.weight"}
    moved = (noisy.model.mix.weight - exact["mix.weight"]).abs().amax((0, 2, 3))
    assert (moved[:4] == 0).all() and (moved[4:8] > 0).all() and (moved[8:] == 0).all()
    blocks = (noisy.model.head.weight - exact["head.weight"]).unflatten(1, (-1, 9))
    moved = blocks.abs().amax((0, 2))
    assert (moved[:4] == 0).all() and (moved[4:8] > 0).all() and (moved[8:] == 0).all()
    size = blocks[:, 4:8].std() / model.head.weight.std()
    assert 0.05 < size < 0.2


@pytest.mark.parametrize("case", CASES)
def test_random_pad_keeps_the_old_weights(case):
    model, layer, x = build(case)
    edit = widen(model, layer, 11, probe=x, initialization="random-pad")
    for name, new in edit.model.state_dict().items():
        origin, old = edit.origins[name], model.state_dict()[name]
        kept = origin.gather(torch.ones_like(old)) != 0
        assert new[kept].equal(old.flatten() if old.ndim else old[None])
        created = new[~kept]
        assert (name in edit.certificate.created) == bool(created.numel())
        if old.ndim > 1 and created.numel() > 1:
            assert created.std() > 0
    assert edit.certificate.split == ()
    assert edit.certificate.largest_difference > 1e-6


def test_random_pad_draws_like_a_fresh_layer():
    model = nn.Sequential(
        nn.Linear(400, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 300)
    )
    model = disturbed(model)
    x = torch.randn(3, 400)
    state = torch.get_rng_state()
    new = widen(model, "0", 100, probe=x, initialization="random-pad").model
    assert torch.equal(torch.get_rng_state(), state)
    assert new[0].weight[2:].abs().max().item() == pytest.approx(1 / 20, rel=0.01)
    assert new[3].weight[:, 2:].abs().max().item() == pytest.approx(1 / 10, rel=0.01)
    assert (new[1].weight[2:] == 1).all() and (new[1].bias[2:] == 0).all()
    assert (new[1].running_mean[2:] == 0).all() and (new[1].running_var[2:] == 1).all()
