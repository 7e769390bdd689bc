"""One tiny model for every layer, and every option, that the fast engine knows."""

from collections.abc import Callable, Mapping

import torch
from cases import NUM_CLASSES, Case, randomize
from torch import Tensor, nn
from torch.nn import functional


class Tokens(nn.Module):
    """Whole numbers from real ones, and an embedding of them."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding((x * 3).long().abs() % 5)


class Positions(nn.Module):
    """An embedding that every sample shares: its output has no sample dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + self.table(torch.arange(7)))


class Windows(nn.Module):
    """Parts of a sample in the sample dimension, as windowed attention has them."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        parts = self.layer(x.flatten(0, 1))
        return parts.unflatten(0, x.shape[:2])


class SequenceFirst(nn.Module):
    """Samples in the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).tanh().transpose(0, 1)


class Mixed(nn.Module):
    """Sequence first, both dimensions merged: token by token."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        merged = self.layer(x.transpose(0, 1).flatten(0, 1)).tanh()
        return merged.unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1)


class Elsewhere(nn.Module):
    """A weight that is used by its layer and, beside it, without it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.layer(x).tanh(), self.layer.weight)


class Overwriting(nn.Module):
    """Operations in place on what layers return."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu_()
        return self.second(hidden).mul_(2.0) + hidden


class Branches(nn.Module):
    """Two ways that meet in a sum and in a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 1)
        self.left = nn.Conv2d(3, 3, 3, padding=1)
        self.right = nn.Conv2d(3, 3, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x).tanh()
        both = self.left(stem) + stem
        return torch.cat([both, self.right(stem).relu()], dim=1)


class Unused(nn.Module):
    """A layer that is called, but whose output is thrown away, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.dropped = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.dropped(x)
        return self.used(x)


class Doubled(nn.Linear):
    """A subclass with a forward pass of its own: no rule may take it for a Linear."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


IMAGE, LINE, VOLUME, ROW, SEQUENCE = (2, 5, 5), (2, 7), (2, 4, 3, 4), (4,), (7, 4)
Layer = tuple[Callable[[], nn.Module], tuple[int, ...]]

# Every one of these is read by the fast engine.
FAST: Mapping[str, Layer] = {
    "linear": (lambda: nn.Linear(4, 3), ROW),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), ROW),
    "linear on tokens": (lambda: nn.Linear(4, 3), SEQUENCE),
    "linear on a grid": (lambda: nn.Linear(3, 2), VOLUME[:3]),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3), LINE),
    "conv1d, all options": (
        lambda: nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2),
        LINE,
    ),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3), IMAGE),
    "conv2d of 1x1": (lambda: nn.Conv2d(2, 3, 1), IMAGE),
    "conv2d, oblong": (
        lambda: nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 0)),
        IMAGE,
    ),
    "conv2d, dilated": (lambda: nn.Conv2d(2, 3, 2, dilation=(1, 3), padding=1), IMAGE),
    "conv2d, strided past the edge": (lambda: nn.Conv2d(2, 3, 2, stride=3), IMAGE),
    "conv2d, groups": (lambda: nn.Conv2d(2, 4, 3, groups=2), IMAGE),
    "conv2d, depthwise": (lambda: nn.Conv2d(2, 2, 3, groups=2, bias=False), IMAGE),
    "conv2d, same": (lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), IMAGE),
    "conv2d, valid": (lambda: nn.Conv2d(2, 3, 3, padding="valid"), IMAGE),
    "conv2d, reflect": (
        lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"),
        IMAGE,
    ),
    "conv2d, circular and same": (
        lambda: nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular"),
        IMAGE,
    ),
    "conv3d": (
        lambda: nn.Conv3d(2, 2, 2, stride=(2, 1, 1), padding=1, groups=2),
        VOLUME,
    ),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(2, 3, 3), LINE),
    "transposed conv2d": (
        lambda: nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, groups=2),
        IMAGE,
    ),
    "transposed conv2d, output padding": (
        lambda: nn.ConvTranspose2d(
            2, 3, (3, 2), stride=(3, 2), output_padding=(2, 1), dilation=2
        ),
        IMAGE,
    ),
    "transposed conv3d": (lambda: nn.ConvTranspose3d(2, 2, 2, stride=2), VOLUME),
    "embedding": (lambda: Tokens(nn.Embedding(5, 3)), ROW),
    "embedding with padding": (
        lambda: Tokens(nn.Embedding(5, 3, padding_idx=1)),
        SEQUENCE,
    ),
    "batch norm of rows": (lambda: nn.BatchNorm1d(4), ROW),
    "batch norm of lines": (lambda: nn.BatchNorm1d(2, eps=0.1), LINE),
    "batch norm of images": (lambda: nn.BatchNorm2d(2), IMAGE),
    "batch norm of volumes": (lambda: nn.BatchNorm3d(2), VOLUME),
    "layer norm": (lambda: nn.LayerNorm(4), SEQUENCE),
    "layer norm of two dimensions": (lambda: nn.LayerNorm([5, 5], eps=0.1), IMAGE),
    "layer norm without bias": (lambda: nn.LayerNorm(4, bias=False), ROW),
    "group norm": (lambda: nn.GroupNorm(2, 2), IMAGE),
    "group norm of one group": (lambda: nn.GroupNorm(1, 2, eps=0.1), LINE),
    "rms norm": (lambda: nn.RMSNorm(4, eps=0.1), SEQUENCE),
    "windows": (lambda: Windows(nn.Linear(4, 3)), SEQUENCE),
    "windows of images": (lambda: Windows(nn.Conv1d(3, 2, 3)), (2, 3, 5)),
    "overwriting": (Overwriting, ROW),
    "branches": (Branches, IMAGE),
    "unused": (Unused, ROW),
}

# Of each of these, a part is left to the general engine.
SLOW: Mapping[str, Layer] = {
    "positions": (Positions, SEQUENCE),
    "sequence first": (SequenceFirst, SEQUENCE),
    "mixed": (Mixed, SEQUENCE),
    "elsewhere": (Elsewhere, ROW),
    "doubled": (lambda: Doubled(4, 3), ROW),
    "prelu": (nn.PReLU, ROW),
}


def layer_case(name: str, count: int = 4) -> Case:
    """The layer, a tanh and a linear layer, with random values everywhere."""
    torch.manual_seed(2)
    build, shape = (FAST | SLOW)[name]
    layer = build().double().eval()
    x = torch.randn(count, *shape, dtype=torch.float64)
    features = layer(torch.zeros(1, *shape, dtype=torch.float64)).numel()
    tail = (nn.Tanh(), nn.Flatten(), nn.Linear(features, NUM_CLASSES).double())
    model = randomize(nn.Sequential(layer, *tail).eval())
    return Case(model, x, torch.arange(count) % NUM_CLASSES)
