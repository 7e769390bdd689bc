"""Successive edits of a network, as a user makes them."""

import torch
from torch import nn

import gradnet.surgery as surgery
from gradnet.surgery import compose, deepen, remove_units, transfer_optimizer, widen


def test_every_public_name_is_there():
    assert all(getattr(surgery, name) is not None for name in surgery.__all__)


def test_a_network_is_widened_deepened_and_narrowed_while_its_optimizer_follows():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 36, 3),
    ).double()  # fmt: skip
    probe = torch.randn(16, 1, 8, 8, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters())
    model(probe).pow(2).sum().backward()
    optimizer.step()
    wider = widen(model, "0", 6, probe=probe)
    deeper = deepen(wider.model, "2", probe=probe)
    both = compose([wider, deeper], probe)
    assert both.certificate.preserves(1e-12)
    carried = transfer_optimizer(optimizer, both)
    assert len(carried.state) == len(optimizer.state) == 6
    smaller = remove_units(both.model, "0", [4, 5], probe=probe)
    assert smaller.model[0].out_channels == 4
    assert smaller.model(probe).shape == (16, 3)
