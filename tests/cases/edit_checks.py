"""Checks of an edit against the network before it: outputs, and the chain rule."""

import copy

import torch
from torch import Tensor, nn

from gradnet.surgery.edit import Edit


def difference(edit: Edit, x: Tensor, training: bool) -> float:
    """Of the outputs before and after, of copies, which training mode changes."""
    before, after = (
        copy.deepcopy(model).train(training)(x) for model in (edit.before, edit.model)
    )
    return (before - after).abs().max().item()


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model = copy.deepcopy(model).train()
    model.zero_grad()
    model(x).square().sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }


def check_chain_rule(edit: Edit, x: Tensor) -> None:
    """Every new gradient is the source's, times the factor of its origin."""
    old, new = gradients(edit.before, x), gradients(edit.model, x)
    assert new.keys() == old.keys()
    for name, gradient in new.items():
        origin = edit.origins[name]
        gathered = origin.gather(old[origin.source])
        expected = origin.gradient_factor(gradient) * gathered
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)
