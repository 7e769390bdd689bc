"""Residual networks of any number of blocks, for growth block by block.

After remko66/cornet2: stages of 2, 5, 5 and 2 blocks with 64 to 512 channels, each
block ``norm(relu(x + F(x)))``. Every block, and every normalization between them, is a
child of one :class:`torch.nn.Sequential`, so that a prefix of it can be frozen.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.errors import InvalidInputError

STAGES = (2, 5, 5, 2)


class PublishedBlock(nn.Module):
    """``relu(shortcut(x) + F(x))`` with ``F`` = convolution, ReLU, norm, convolution.

    The normalization after it is a separate child of the network. Input
    ``(N, inputs, h, w)``, output ``(N, outputs, h / stride, w / stride)``, rounded up.

    Args:
        inputs: channels.
        outputs: channels; where they differ from ``inputs`` the stride is 2 and the
            shortcut a 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.shortcut = (
            nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)
        )
        self.residual = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(inputs, outputs, 3, stride, padding=1),
                relu=nn.ReLU(),
                norm=keras_norm(outputs),
                conv1=nn.Conv2d(outputs, outputs, 3, padding=1),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map feature maps to feature maps, see the class."""
        return functional.relu(self.shortcut(x) + self.residual(x))


class PreactivationBlock(nn.Module):
    """``shortcut(x) + F(x)``, ``F`` = norm, ReLU, convolution, twice (He et al. 2016).

    The shortcut has no weights: where the block adds channels, it is 2x2 average
    pooling and zero padding of the channels. So with the last convolution at zero, the
    block does not change the result of global average pooling and a linear head, with
    or without a stride.

    Args:
        inputs: channels.
        outputs: channels; where they differ from ``inputs`` the stride is 2.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.new_channels = outputs - inputs
        self.residual = nn.Sequential(
            OrderedDict(
                norm0=nn.BatchNorm2d(inputs),
                relu0=nn.ReLU(),
                conv0=nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False),
                norm1=nn.BatchNorm2d(outputs),
                relu1=nn.ReLU(),
                conv1=nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map feature maps to feature maps, see the class."""
        kept = x
        if self.stride == 2:
            kept = functional.avg_pool2d(x, 2)
            kept = functional.pad(kept, (0, 0, 0, 0, 0, self.new_channels))
        return kept + self.residual(x)


class NormalizedBlock(PreactivationBlock):
    """A preactivation block with ``F`` = convolution, norm, ReLU, convolution, norm.

    It is the identity when scale and shift of the last norm are zero.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.residual = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False),
                norm0=nn.BatchNorm2d(outputs),
                relu=nn.ReLU(),
                conv1=nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
                norm1=nn.BatchNorm2d(outputs),
            )
        )


PRESERVING = {"preactivation": PreactivationBlock, "normalized": NormalizedBlock}
Style = Literal["published", "preactivation", "normalized"]


class ResNet(nn.Sequential):
    """A stem, the first blocks of a residual network, and a linear head.

    Input ``(N, in_channels, image_size, image_size)``, output logits ``(N, K)``.

    Args:
        in_channels: 1 or 3.
        image_size: height and width, in pixels.
        num_classes: ``K``.
        width: channels of the first stage; each further stage doubles them.
        stages: blocks of each stage.
        blocks: number of blocks that are built, from the first; None builds all.
        style: ``published`` as in cornet2, with a head on 2x2 average pooling
            (convolutions of stride 2 are padded on both sides, where Keras pads one
            side); ``preactivation`` or ``normalized``, see the blocks, with a head on
            global average pooling.

    Raises:
        InvalidInputError: ``blocks`` is out of range, or feature maps of an odd size
            would have to be halved by average pooling.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 32,
        num_classes: int = 10,
        width: int = 64,
        stages: Sequence[int] = STAGES,
        blocks: int | None = None,
        style: Style = "published",
    ) -> None:
        channels = block_channels(width, stages)
        blocks = len(channels) if blocks is None else blocks
        if not 1 <= blocks <= len(channels):
            raise InvalidInputError(
                f"blocks is {blocks}; stages {list(stages)} allow 1 to {len(channels)}"
            )
        self.style, self.blocks = style, blocks
        layers = _stem(in_channels, width, style)
        previous, size = width, image_size
        for index in range(blocks):
            outputs = channels[index]
            if outputs != previous:
                if style != "published" and size % 2:
                    raise InvalidInputError(
                        f"images of {image_size} x {image_size} cannot be halved for "
                        f"every stage of {list(stages)}: {size} pixels are odd; use "
                        "fewer stages or crop the images"
                    )
                size = (size + 1) // 2
            layers |= block_layers(index, previous, outputs, style)
            previous = outputs
        super().__init__(layers | _head(previous, size, num_classes, style))
        if style == "published":
            initialize_glorot_uniform(self)


def block_channels(width: int, stages: Sequence[int]) -> list[int]:
    """The number of output channels of each block, stage by stage."""
    return [
        width * 2**stage for stage, count in enumerate(stages) for _ in range(count)
    ]


def block_layers(
    index: int, inputs: int, outputs: int, style: str
) -> OrderedDict[str, nn.Module]:
    """The layers of one block, by name.

    Args:
        index: of the block in the network.
        inputs: input channels.
        outputs: output channels.
        style: see :class:`ResNet`.

    Returns:
        Name -> layer; the published style has a norm after each block.

    Raises:
        InvalidInputError: the style is unknown.
    """
    if style in PRESERVING:
        return OrderedDict({f"block{index}": PRESERVING[style](inputs, outputs)})
    if style != "published":
        known = ", ".join(("published", *PRESERVING))
        raise InvalidInputError(f"no style {style!r}; there are: {known}")
    return OrderedDict(
        {
            f"block{index}": PublishedBlock(inputs, outputs),
            f"norm{index}": keras_norm(outputs),
        }
    )


def _stem(in_channels: int, width: int, style: str) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(in_channels, width, 3, padding=1)
    if style != "published":
        return OrderedDict(stem=conv)
    return OrderedDict(
        stem_norm0=keras_norm(in_channels),
        stem=conv,
        stem_relu=nn.ReLU(),
        stem_norm1=keras_norm(width),
    )


def _head(
    channels: int, size: int, num_classes: int, style: str
) -> OrderedDict[str, nn.Module]:
    is_published = style == "published"
    pooled = (size + 1) // 2 if is_published else 1
    pool = nn.AvgPool2d(2, ceil_mode=True) if is_published else nn.AdaptiveAvgPool2d(1)
    return OrderedDict(
        pool=pool,
        flatten=nn.Flatten(),
        head=nn.Linear(channels * pooled**2, num_classes),
    )


def keras_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalization with Keras' defaults (its momentum 0.99 is 0.01 in torch)."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


@torch.no_grad()
def initialize_glorot_uniform(model: nn.Module) -> None:
    """Keras' default: U(-a, a), ``a`` = sqrt(6 / (fan_in + fan_out)), biases zero."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
