"""The networks whose per-sample gradients are timed, with random weights and inputs."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.torchvision import import_torchvision
from gradnet.models import build_model

NUM_CLASSES = 10


class Attention(nn.Module):
    """Self-attention of several heads, its four products by ``nn.Linear``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(N, T, width)`` to tokens."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.merge(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention and a two-layer network, each after a LayerNorm and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm0 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(N, T, width)`` to tokens."""
        x = x + self.attention(self.norm0(x))
        return x + self.contract(functional.gelu(self.expand(self.norm1(x))))


class VisionTransformer(nn.Module):
    """A small one: patches of 4 x 4, fixed positions, the mean over all tokens.

    Positions are a buffer: a parameter outside of any layer is beyond some rivals.
    """

    def __init__(self, width: int = 64, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.register_buffer("positions", 0.1 * torch.randn(64, width))
        blocks = (TransformerBlock(width, heads) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, 3, 32, 32)`` to logits ``(N, K)``."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def _cnn2018() -> nn.Module:
    return build_model("cnn2018", in_channels=3, image_size=24, num_classes=NUM_CLASSES)


def _resnet18() -> nn.Module:
    import_torchvision()  # mends the import of torchvision
    models = importlib.import_module("torchvision.models")
    return models.resnet18(num_classes=NUM_CLASSES)


def _mlp() -> nn.Module:
    return build_model(
        "mlp",
        in_channels=1,
        image_size=28,
        num_classes=NUM_CLASSES,
        hidden=(256, 256),
    )


@dataclass(frozen=True)
class Network:
    """A network and the batches that it is timed on.

    Attributes:
        build: makes it, with random weights.
        shape: of one input.
        batches: numbers of samples.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batches: tuple[int, ...]


NETWORKS: Mapping[str, Network] = {
    "cnn2018": Network(_cnn2018, (3, 24, 24), (32, 256)),
    "resnet18": Network(_resnet18, (3, 32, 32), (4,)),
    "mlp": Network(_mlp, (1, 28, 28), (256,)),
    "vit": Network(VisionTransformer, (3, 32, 32), (32,)),
}


def make(
    name: str, count: int, device: torch.device | str = "cpu"
) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode and ``(N, ...)`` inputs; the same at every call.

    Its biases are frozen: weights only are read, by ours and by the rivals.
    """
    torch.manual_seed(0)
    network = NETWORKS[name]
    model = network.build().eval()
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_("bias" not in parameter_name)
    x = torch.randn(count, *network.shape)
    return model.to(device), x.to(device)
