"""How each layer's gradient follows from its input and its output cotangents.

A rule takes the layer, the input of one call and the cotangents of its output, and
gives the factors of the gradients. What has no rule here is left to ``torch.func``.

| layer | input | cotangents |
|---|---|---|
| Linear, LayerNorm, RMSNorm, Embedding | ``(N, ..., in)`` | ``(N, C, ..., out)`` |
| convolutions, BatchNorm, GroupNorm | ``(N, in, ...)`` | ``(N, C, out, ...)`` |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from gradnet.gradients.factors import Factors, Formed, Product

Rule = Callable[[Any, Tensor, Tensor], Factors]


@dataclass(frozen=True)
class LayerRules:
    """The rules of a layer.

    Attributes:
        rules: parameter's name in the layer -> its rule.
        channels_first: the features are in dimension 1, all else are places; otherwise
            they are the last, and any number of dimensions may stand before them.
    """

    rules: Mapping[str, Rule]
    channels_first: bool


def rules_of(layer: nn.Module) -> LayerRules | None:
    """The rules of a layer, or None where its forward pass is none that is known.

    Subclasses count if they compute as their parent does.
    """
    for kind, rules in RULES.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:
            return None if _is_special(layer) else rules
    return None


def _is_special(layer: nn.Module) -> bool:
    """Whether an option makes the layer's gradient something else than its rule."""
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is not None or layer.scale_grad_by_freq
    return False


def _linear_weight(layer: nn.Linear, x: Tensor, cotangents: Tensor) -> Factors:
    def make() -> tuple[Tensor, Tensor]:
        left = cotangents.reshape(*cotangents.shape[:2], -1, cotangents.shape[-1])
        right = x.reshape(len(x), 1, -1, x.shape[-1])
        return left.transpose(2, 3)[:, :, None], right

    return Product(make)


def _last_bias(layer: nn.Module, x: Tensor, cotangents: Tensor) -> Factors:
    return Formed(_sum_to(cotangents, 1))


def _channel_bias(layer: nn.Module, x: Tensor, cotangents: Tensor) -> Factors:
    return Formed(cotangents.flatten(3).sum(3) if cotangents.dim() > 3 else cotangents)


def _conv_weight(layer: nn.Conv2d, x: Tensor, cotangents: Tensor) -> Factors:
    def make() -> tuple[Tensor, Tensor]:
        padding = layer._reversed_padding_repeated_twice
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = functional.pad(x, padding, mode=mode) if any(padding) else x
        right = _patches(padded, layer.kernel_size, layer.stride, layer.dilation)
        left = cotangents.flatten(3).unflatten(2, (layer.groups, -1))
        places = left.shape[-1]
        # (N, in, kernel, T) -> (N, G, T, in / G * kernel)
        right = right.reshape(len(x), layer.groups, -1, places)
        return left, right.transpose(2, 3)

    return Product(make)


def _conv_transpose_weight(
    layer: nn.ConvTranspose2d, x: Tensor, cotangents: Tensor
) -> Factors:
    """The weight ``(in, out / G, kernel)`` meets patches of the output."""

    def make() -> tuple[Tensor, Tensor]:
        assert not isinstance(layer.padding, str)
        padding = [side for pad in reversed(layer.padding) for side in (pad, pad)]
        padded = functional.pad(cotangents.flatten(0, 1), padding)
        patches = _patches(padded, layer.kernel_size, layer.stride, layer.dilation)
        # Output padding can add places at the far end that no input reaches.
        for dim, size in enumerate(x.shape[2:], start=patches.dim() - x.dim() + 2):
            patches = patches.narrow(dim, 0, size)
        places = x[0, 0].numel()
        left = patches.reshape(*cotangents.shape[:2], layer.groups, -1, places)
        right = x.reshape(len(x), layer.groups, -1, places)
        return left, right.transpose(2, 3)

    return Product(make, transposed=True)


def _patches(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Windows ``(N, channels, *kernel, *places)`` of ``(N, channels, ...)``: a view."""
    for dim, (size, step, spread) in enumerate(
        zip(kernel, stride, dilation, strict=True), start=2
    ):
        x = x.unfold(dim, spread * (size - 1) + 1, step)[..., ::spread]
    spatial = len(kernel)
    places, window = range(2, 2 + spatial), range(2 + spatial, 2 + 2 * spatial)
    return x.permute(0, 1, *window, *places)


def _embedding_weight(layer: nn.Embedding, x: Tensor, cotangents: Tensor) -> Factors:
    count, labels, size = *cotangents.shape[:2], cotangents.shape[-1]
    gradient = cotangents.new_zeros(count, labels, layer.num_embeddings, size)
    flat = cotangents.reshape(count, labels, -1, size)
    rows = x.reshape(count, 1, -1, 1).expand(flat.shape)
    gradient.scatter_add_(2, rows, flat)
    if layer.padding_idx is not None:
        gradient[:, :, layer.padding_idx] = 0
    return Formed(gradient)


def _batch_norm_weight(layer: nn.BatchNorm2d, x: Tensor, cotangents: Tensor) -> Factors:
    assert layer.running_mean is not None and layer.running_var is not None
    normalized = functional.batch_norm(
        x, layer.running_mean, layer.running_var, eps=layer.eps
    )
    return _channel_bias(layer, x, cotangents * normalized[:, None])


def _group_norm_weight(layer: nn.GroupNorm, x: Tensor, cotangents: Tensor) -> Factors:
    normalized = functional.group_norm(x, layer.num_groups, eps=layer.eps)
    return _channel_bias(layer, x, cotangents * normalized[:, None])


def _layer_norm_weight(layer: nn.LayerNorm, x: Tensor, cotangents: Tensor) -> Factors:
    shape = layer.normalized_shape
    normalized = functional.layer_norm(x, list(shape), eps=layer.eps)
    return Formed(_sum_to(cotangents * normalized[:, None], len(shape)))


def _layer_norm_bias(layer: nn.LayerNorm, x: Tensor, cotangents: Tensor) -> Factors:
    return Formed(_sum_to(cotangents, len(layer.normalized_shape)))


def _rms_norm_weight(layer: nn.RMSNorm, x: Tensor, cotangents: Tensor) -> Factors:
    shape = layer.normalized_shape
    normalized = functional.rms_norm(x, list(shape), eps=layer.eps)
    return Formed(_sum_to(cotangents * normalized[:, None], len(shape)))


def _sum_to(cotangents: Tensor, last: int) -> Tensor:
    """Sum ``(N, C, ..., *shape)`` over the places; ``shape`` has ``last`` dims."""
    places = tuple(range(2, cotangents.dim() - last))
    return cotangents.sum(places) if places else cotangents


_CONV = LayerRules({"weight": _conv_weight, "bias": _channel_bias}, True)
_CONV_TRANSPOSE = LayerRules(
    {"weight": _conv_transpose_weight, "bias": _channel_bias}, True
)
_BATCH_NORM = LayerRules({"weight": _batch_norm_weight, "bias": _channel_bias}, True)

RULES: Mapping[type[nn.Module], LayerRules] = {
    nn.Linear: LayerRules({"weight": _linear_weight, "bias": _last_bias}, False),
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.Conv3d: _CONV,
    nn.ConvTranspose1d: _CONV_TRANSPOSE,
    nn.ConvTranspose2d: _CONV_TRANSPOSE,
    nn.ConvTranspose3d: _CONV_TRANSPOSE,
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.BatchNorm3d: _BATCH_NORM,
    nn.GroupNorm: LayerRules(
        {"weight": _group_norm_weight, "bias": _channel_bias}, True
    ),
    nn.LayerNorm: LayerRules(
        {"weight": _layer_norm_weight, "bias": _layer_norm_bias}, False
    ),
    nn.RMSNorm: LayerRules({"weight": _rms_norm_weight}, False),
    nn.Embedding: LayerRules({"weight": _embedding_weight}, False),
}
