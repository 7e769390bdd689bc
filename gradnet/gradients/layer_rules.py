"""Rules that give a layer's gradient from its input and its output cotangents.

A rule takes the layer, the input of one call and the cotangents of its output, and
returns the factors of the gradients. Layers without rules are left to ``torch.func``;
:func:`register_layer_rule` adds rules for a layer of your own.

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

from gradnet.core.registry import Registry
from gradnet.errors import InvalidInputError
from gradnet.gradients.factors import Factors, Formed, Product

Rule = Callable[[Any, Tensor, Tensor], Factors]


def _always(layer: nn.Module) -> bool:
    return True


@dataclass(frozen=True)
class LayerRules:
    """The rules of a kind of layer.

    Attributes:
        layer: class of the layer; the rules hold for its forward method.
        rules: parameter's name in the layer -> its rule.
        channels_first: whether the features are dimension 1 and all later dimensions
            are positions; otherwise the features are the last dimension, and any number
            of dimensions may precede it.
        applies: whether the rules hold for a layer, given its options.
    """

    layer: type[nn.Module]
    rules: Mapping[str, Rule]
    channels_first: bool = False
    applies: Callable[[Any], bool] = _always


def rules_of(layer: nn.Module) -> LayerRules | None:
    """The rules of a layer, or None if its forward method has none.

    Subclasses that inherit the forward method have the rules of their nearest parent.
    """
    order = type(layer).__mro__
    known = [
        rules
        for rules in LAYER_RULES.values()
        if rules.layer in order and type(layer).forward is rules.layer.forward
    ]
    nearest = min(known, key=lambda rules: order.index(rules.layer), default=None)
    return nearest if nearest and nearest.applies(layer) else None


def register_layer_rule(name: str, rules: LayerRules, *, replace: bool = False) -> None:
    """Let the fast engine read a layer of your own.

    Extractors that are made afterwards use the rules. On every new model the rules are
    compared with the gradients of single samples. A parameter whose rule is wrong there
    is read by ``torch.func``, and :meth:`GradientExtractor.explain` says so.

    Installed packages can add rules as entry points of the group
    ``gradnet.layer_rules``, each a :class:`LayerRules`.

    Args:
        name: a new key of :data:`LAYER_RULES`.
        rules: the class of the layer, and a rule for each parameter.
        replace: allow a name that is already there.

    Raises:
        InvalidInputError: the name is taken or not allowed, or these are no rules of a
            module class.

    Example:
        >>> import torch
        >>> from gradnet.gradients import Formed
        >>> class Scaled(nn.Module):
        ...     def __init__(self, size):
        ...         super().__init__()
        ...         self.factor = nn.Parameter(torch.ones(size))
        ...     def forward(self, x):
        ...         return x * self.factor
        >>> def factor_rule(layer, x, cotangents):
        ...     return Formed(cotangents * x[:, None])
        >>> register_layer_rule("scaled", LayerRules(Scaled, {"factor": factor_rule}))
        >>> rules_of(Scaled(3)).layer.__name__
        'Scaled'
        >>> LAYER_RULES.unregister("scaled")
    """
    LAYER_RULES.register(name, rules, replace=replace)


def _check_rules(name: str, rules: object) -> None:
    if not isinstance(rules, LayerRules):
        raise InvalidInputError(f"layer rules {name!r}: give a LayerRules, not {rules}")
    if not (isinstance(rules.layer, type) and issubclass(rules.layer, nn.Module)):
        raise InvalidInputError(
            f"layer rules {name!r}: {rules.layer!r} is no subclass of nn.Module"
        )
    if not rules.rules or not all(map(callable, rules.rules.values())):
        raise InvalidInputError(
            f"layer rules {name!r}: give a function for each parameter's name"
        )


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
        positions = left.shape[-1]
        # (N, in, kernel, T) -> (N, G, T, in / G * kernel)
        right = right.reshape(len(x), layer.groups, -1, positions)
        return left, right.transpose(2, 3)

    return Product(make)


def _conv_transpose_weight(
    layer: nn.ConvTranspose2d, x: Tensor, cotangents: Tensor
) -> Factors:
    """The weight ``(in, out / G, kernel)`` multiplies patches of the output."""

    def make() -> tuple[Tensor, Tensor]:
        assert not isinstance(layer.padding, str)
        padding = [side for pad in reversed(layer.padding) for side in (pad, pad)]
        padded = functional.pad(cotangents.flatten(0, 1), padding)
        patches = _patches(padded, layer.kernel_size, layer.stride, layer.dilation)
        # Output padding can add positions at the far end that no input reaches.
        for dim, size in enumerate(x.shape[2:], start=patches.dim() - x.dim() + 2):
            patches = patches.narrow(dim, 0, size)
        positions = x[0, 0].numel()
        left = patches.reshape(*cotangents.shape[:2], layer.groups, -1, positions)
        right = x.reshape(len(x), layer.groups, -1, positions)
        return left, right.transpose(2, 3)

    return Product(make, transposed=True)


def _patches(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Patches ``(N, channels, *kernel, *positions)`` of an input: a view."""
    for dim, (size, step, spread) in enumerate(
        zip(kernel, stride, dilation, strict=True), start=2
    ):
        x = x.unfold(dim, spread * (size - 1) + 1, step)[..., ::spread]
    spatial = len(kernel)
    positions, window = range(2, 2 + spatial), range(2 + spatial, 2 + 2 * spatial)
    return x.permute(0, 1, *window, *positions)


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
    """Sum ``(N, C, ..., *shape)`` over positions; ``shape`` has ``last`` dims."""
    positions = tuple(range(2, cotangents.dim() - last))
    return cotangents.sum(positions) if positions else cotangents


def _has_plain_gradient(layer: nn.Embedding) -> bool:
    return layer.max_norm is None and not layer.scale_grad_by_freq


_CONV: Mapping[str, Rule] = {"weight": _conv_weight, "bias": _channel_bias}
_CONV_TRANSPOSE: Mapping[str, Rule] = {
    "weight": _conv_transpose_weight,
    "bias": _channel_bias,
}
_BATCH_NORM: Mapping[str, Rule] = {"weight": _batch_norm_weight, "bias": _channel_bias}
_BUILT_IN = [
    LayerRules(nn.Linear, {"weight": _linear_weight, "bias": _last_bias}),
    LayerRules(nn.Conv1d, _CONV, True),
    LayerRules(nn.Conv2d, _CONV, True),
    LayerRules(nn.Conv3d, _CONV, True),
    LayerRules(nn.ConvTranspose1d, _CONV_TRANSPOSE, True),
    LayerRules(nn.ConvTranspose2d, _CONV_TRANSPOSE, True),
    LayerRules(nn.ConvTranspose3d, _CONV_TRANSPOSE, True),
    LayerRules(nn.BatchNorm1d, _BATCH_NORM, True),
    LayerRules(nn.BatchNorm2d, _BATCH_NORM, True),
    LayerRules(nn.BatchNorm3d, _BATCH_NORM, True),
    LayerRules(
        nn.GroupNorm, {"weight": _group_norm_weight, "bias": _channel_bias}, True
    ),
    LayerRules(nn.LayerNorm, {"weight": _layer_norm_weight, "bias": _layer_norm_bias}),
    LayerRules(nn.RMSNorm, {"weight": _rms_norm_weight}),
    LayerRules(
        nn.Embedding, {"weight": _embedding_weight}, applies=_has_plain_gradient
    ),
]

LAYER_RULES: Registry[LayerRules] = Registry(
    "layer rule",
    {rules.layer.__name__: rules for rules in _BUILT_IN},
    group="gradnet.layer_rules",
    check=_check_rules,
)
