"""Every rule of a function, against what the function does when units are copied."""

import pytest
import torch
from channel_cases import IMAGES, disturbed
from torch import Tensor, nn
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.functions import ELEMENTWISE
from gradnet.surgery.widen import widen


class Net(nn.Module):
    """A convolution, a step of its ``(N, 4, 6, 6)``, a linear layer."""

    def __init__(self, step) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.step = step
        self.head = nn.Linear(step(torch.zeros(*IMAGES[:1], 4, 6, 6)).shape[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.step(self.conv(x)))


def spread(x: Tensor) -> Tensor:
    """``(N, 4 * 9)``: the channels at the end."""
    return functional.adaptive_avg_pool2d(x, 3).flatten(1)


PASSED = {
    "relu": lambda x: spread(torch.relu(x)),
    "relu_": lambda x: spread(functional.relu(x, inplace=True)),
    "method": lambda x: spread(x.clamp(-0.1, 0.1).abs_()),
    "scalars": lambda x: spread(2 * x - 1 + x / 3),
    "swish": lambda x: spread(x * torch.sigmoid(x)),
    "where": lambda x: spread(torch.where(x > 0, x, x.exp())),
    "in place": lambda x: spread(x.add_(x.tanh()).mul_(2)),
    "+=": lambda x: spread(torch.pow(x, 2) + functional.softplus(x)),
    "same buffer": lambda x: spread(x + torch.ones(1, 6, 6, dtype=x.dtype)),
    "max_pool2d": lambda x: functional.max_pool2d(x, 2, 2).flatten(1),
    "avg_pool1d": lambda x: functional.avg_pool1d(x.flatten(2), 4).flatten(1),
    "interpolate": lambda x: spread(functional.interpolate(x, scale_factor=2)),
    "pad": lambda x: spread(functional.pad(x, (1, 0, 2, 1))),
    "mean": lambda x: x.mean((-1, 2)),
    "mean, kept": lambda x: torch.mean(x, (2, 3), keepdim=True).flatten(1),
    "sum of rows": lambda x: torch.flatten(x.sum(dim=-1), 1),
    "amax": lambda x: x.amax(-1).flatten(1),
    "squeeze": lambda x: torch.squeeze(functional.adaptive_avg_pool2d(x, 1)),
    "squeeze one": lambda x: x.mean((2, 3), True).squeeze(-1).squeeze(dim=2),
    "unsqueeze": lambda x: x.unsqueeze(1).mean(-1).flatten(1),
    "unsqueeze behind": lambda x: spread(x.unsqueeze(-1).squeeze(4)),
    "view": lambda x: spread(x).view(x.size(0), -1),
    "view of all": lambda x: x.view(x.shape[0], -1),
    "view by size": lambda x: x.view(-1, x.size(1) * x.size(2) * x.size(3)),
    "view of rows": lambda x: x.view(x.size(0), x.size(1), -1).mean(2),
    "reshape": lambda x: torch.reshape(x, (x.shape[0], -1)),
    "cat": lambda x: spread(torch.cat([x, -x], dim=1)),
    "cat in space": lambda x: spread(torch.cat((x, x.abs()), -1)),
    "softmax of rows": lambda x: spread(torch.softmax(x, -1)),
    "normalized rows": lambda x: spread(functional.normalize(x, dim=3)),
    "dropout": lambda x: spread(functional.dropout(x, 0.5, training=False)),
}


@pytest.mark.parametrize("name", PASSED)
def test_channels_are_followed(name):
    model = disturbed(Net(PASSED[name]).double())
    x = torch.randn(*IMAGES, dtype=torch.float64)
    edit = widen(model, "conv", 9, probe=x)
    assert edit.certificate.largest_difference <= 1e-10
    assert edit.model.head.in_features == model.head.in_features * 9 // 4


REFUSED = {
    "flatten of others": (lambda x: x.flatten(0, 1)[:3].flatten(1), "flatten"),
    "pooled channels": (
        lambda x: functional.max_pool2d(x.mean(3), 2).flatten(1),
        "max_pool2d",
    ),
    "padded channels": (
        lambda x: spread(functional.pad(x, (0, 0, 0, 0, 1, 0))),
        "pad",
    ),
    "mean of all": (lambda x: spread(x + x.mean()), "mean"),
    "softmax": (lambda x: spread(functional.softmax(x, dim=1)), "mixes them"),
    "normalize": (lambda x: spread(functional.normalize(x)), "mixes them"),
    "lrn": (lambda x: spread(functional.local_response_norm(x, 2)), "mixes them"),
    "opaque": (lambda x: spread(x + torch.cumsum(x, 1)), "cumsum"),
    "view of numbers": (lambda x: x.view(-1, 144), r"view\(-1, 144\)"),
    "cat with another": (lambda x: torch.cat([spread(x), x[:, 0, 0]], 1), "getitem"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_in_the_way_is_named(name):
    step, match = REFUSED[name]
    x = torch.randn(*IMAGES)
    with pytest.raises(
        InvalidInputError, match=f"'conv' cannot change in number.*{match}"
    ):
        widen(Net(step), "conv", 9, probe=x)


def test_elementwise_names_are_functions_of_torch():
    rooms = (torch, functional, torch.Tensor)
    operators = {"iadd", "imul", "isub", "itruediv", "truediv", "stochastic_depth"}
    for name in ELEMENTWISE - operators:
        assert any(hasattr(room, name) for room in rooms), name
