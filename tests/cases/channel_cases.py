"""Small networks in double precision, each with a way in which channels are shared."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGES = (3, 2, 8, 8)


class Residual(nn.Module):
    """A stem, two blocks whose outputs join its stream, a projected head."""

    def __init__(self, preactivated: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 5, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "bn": nn.BatchNorm2d(5),
                    "conv1": nn.Conv2d(5, 4, 3, padding=1, bias=False),
                    "inner": nn.BatchNorm2d(4),
                    "conv2": nn.Conv2d(4, 5, 3, padding=1),
                }
            )
            for _ in range(2)
        )
        self.project = nn.Conv2d(5, 5, 1)
        self.head = nn.Linear(5, 3)
        self.preactivated = preactivated

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            y = functional.relu(block["bn"](x)) if self.preactivated else x
            y = block["conv2"](functional.relu(block["inner"](block["conv1"](y))))
            x = x + y if self.preactivated else block["bn"](y + x).relu_()
        x = torch.add(x, self.project(x))
        return self.head(x.mean([2, 3]))


class Branches(nn.Module):
    """Two branches and the stem itself, concatenated; normalized and read together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3)
        self.left = nn.Conv2d(3, 4, 1)
        self.right = nn.Conv2d(3, 2, 3, padding=1)
        self.bn = nn.BatchNorm2d(9)
        self.mix = nn.Conv2d(9, 2, 1)
        self.head = nn.Linear(9 * 9, 3)
        self.last = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        x = self.bn(torch.cat([self.left(x), x, self.right(x)], 1)).sigmoid()
        x = functional.avg_pool2d(x, 2)
        mixed = functional.adaptive_avg_pool2d(self.mix(x), 1)
        return self.head(x.flatten(1)) + self.last(mixed.squeeze(-1).squeeze(-1))


class Excitation(nn.Module):
    """Channels scaled by a small network of their means, and reshapes by size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.down = nn.Linear(4, 3)
        self.up = nn.Linear(3, 4)
        self.prelu = nn.PReLU(4)
        self.norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(functional.gelu(self.conv(x)))
        n, c = x.shape[0], x.size(1)
        scale = self.up(self.down(x.mean((2, 3))).tanh()).sigmoid()
        x = self.prelu(x) * scale.view(n, c, 1, 1)
        x = functional.max_pool2d(self.norm(x), 2)
        return self.head(x.view(x.size(0), -1))


def linear(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 5), activation, nn.Linear(5, 3))


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 2, stride=2),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def flat() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.0),
        nn.BatchNorm1d(36, affine=False),
        nn.Linear(36, 3),
    )


def separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 1),
        nn.PReLU(4),
        nn.ZeroPad2d(1),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 3),
    )


def rows() -> nn.Module:
    """Linear layers over the last dimension, the convolutions of rows between."""
    return nn.Sequential(
        nn.Flatten(1, 2), nn.Linear(8, 5), nn.ELU(), nn.Linear(5, 4), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip


def one_dimension() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(2, 4, 5, 3), nn.InstanceNorm1d(4, affine=True),
        nn.SiLU(), nn.MaxPool1d(5), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


# name -> (builder, a layer whose units can change)
CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "relu": (lambda: linear(nn.ReLU()), "1"),
    "tanh": (lambda: linear(nn.Tanh()), "1"),
    "sigmoid": (lambda: linear(nn.Sigmoid()), "1"),
    "gelu": (lambda: linear(nn.GELU()), "1"),
    "pooled": (pooled, "0"),
    "pooled, the strided one": (pooled, "4"),
    "flat": (flat, "0"),
    "separable": (separable, "0"),
    "separable, by its depthwise layer": (separable, "3"),
    "rows": (rows, "1"),
    "rows, flattened over": (one_dimension, "1"),
    "residual": (lambda: Residual(False), "stem"),
    "residual, inner": (lambda: Residual(False), "blocks.0.conv1"),
    "residual, preactivated": (lambda: Residual(True), "blocks.1.conv2"),
    "branches, stem": (Branches, "stem"),
    "branches, left": (Branches, "left"),
    "branches, right": (Branches, "right"),
    "branches, mixed": (Branches, "mix"),
    "excitation": (Excitation, "conv"),
    "excitation, inner": (Excitation, "down"),
}


def build(name: str) -> tuple[nn.Module, str, Tensor]:
    """A network with nothing at its default, one of its layers, a probe batch."""
    builder, layer = CASES[name]
    model = builder().double()
    return disturbed(model), layer, torch.randn(*IMAGES, dtype=torch.float64)


@torch.no_grad()
def disturbed(model: nn.Module) -> nn.Module:
    """The same, its normalizations too as if trained."""
    for name, tensor in model.state_dict().items():
        if "var" in name:
            tensor.uniform_(0.5, 2)
        elif tensor.ndim == 1:
            tensor.add_(0.2 * torch.randn_like(tensor))
    return model
