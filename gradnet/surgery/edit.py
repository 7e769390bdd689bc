"""Edits: the new network, the origins of its parameters, and a certificate.

An edit never modifies the network that it is given: it returns another one, which
shares no memory with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gradnet.core.flops import count_parameters, forward_flops
from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class Origin:
    """Where the entries of one parameter or buffer of the new network come from.

    Attributes:
        source: name of the parameter or buffer in the old network.
        indices: dimension -> ``(new size,)``, for each new index the index in the
            source, -1 where the entry is new. Dimensions without a key are unchanged.
        scale: dimension -> ``(new size,)``, the factors of the entries.
        gradient_scale: dimension -> ``(new size,)``, the gradient with respect to an
            entry just after the edit, divided by the gradient with respect to its
            source (chain rule).
    """

    source: str
    indices: Mapping[int, Tensor] = field(default_factory=dict)
    scale: Mapping[int, Tensor] = field(default_factory=dict)
    gradient_scale: Mapping[int, Tensor] = field(default_factory=dict)

    def gather(self, old: Tensor) -> Tensor:
        """The source's entries at their new indices, unscaled; zero where new."""
        new = old.clone()
        for dimension, index in self.indices.items():
            index = index.to(old.device)
            new = new.index_select(dimension, index.clamp(min=0))
            new = new * _along(dimension, index >= 0, new)
        return new

    def scaled(self, old: Tensor) -> Tensor:
        """The source's entries at their new indices, scaled; zero where new."""
        new = self.gather(old)
        for dimension, factor in self.scale.items():
            new = new * _along(dimension, factor, new)
        return new

    def overlay(self, old: Tensor, fresh: Tensor) -> Tensor:
        """The source's entries, scaled; those of ``fresh`` where entries are new."""
        is_old = self.gather(torch.ones_like(old, dtype=torch.bool))
        return torch.where(is_old, self.scaled(old), fresh)

    def gradient_factor(self, new: Tensor) -> Tensor:
        """The product of ``gradient_scale``, in a shape that broadcasts to ``new``."""
        factor = torch.ones([1] * new.ndim, dtype=new.dtype, device=new.device)
        for dimension, values in self.gradient_scale.items():
            factor = factor * _along(dimension, values, new)
        return factor


def _along(dimension: int, values: Tensor, like: Tensor) -> Tensor:
    shape = [1] * like.ndim
    shape[dimension] = -1
    return values.to(like).reshape(shape)


@dataclass(frozen=True)
class Certificate:
    """What an edit changed, as measured on a probe batch.

    Attributes:
        largest_difference: maximum absolute difference of the logits before and after,
            in evaluation mode.
        largest_logit: maximum absolute logit before the edit.
        parameters: number of parameters before and after.
        flops: FLOPs of one sample's forward pass, before and after.
        copied: names of the parameters and buffers whose entries are all copied from
            the source, unchanged.
        split: names of those whose entries are copied from the source and rescaled,
            since several copies share one outgoing weight.
        created: names of those with entries that have no source.
    """

    largest_difference: float
    largest_logit: float
    parameters: tuple[int, int]
    flops: tuple[float, float]
    copied: tuple[str, ...]
    split: tuple[str, ...]
    created: tuple[str, ...]

    def preserves(self, tolerance: float) -> bool:
        """Whether logits changed by at most ``tolerance`` times the largest logit."""
        return self.largest_difference <= tolerance * max(self.largest_logit, 1e-30)


@dataclass(frozen=True)
class Edit:
    """An edit of a network.

    Attributes:
        before: the network that was edited, not modified.
        model: the new network, in the same mode; it shares no memory with ``before``.
        origins: name in the new network -> where its entries come from; parameters and
            buffers without a key are new.
        certificate: what was measured.
        flops: FLOPs that the edit itself took, to choose or to train new units.
        choice: a decision that depended on weights or data, in plain text, so that
            replaying the edit with other weights gives the same shapes.
    """

    before: nn.Module
    model: nn.Module
    origins: Mapping[str, Origin]
    certificate: Certificate
    flops: float = 0.0
    choice: str | None = None


def certify(
    before: nn.Module, model: nn.Module, origins: Mapping[str, Origin], probe: Tensor
) -> Edit:
    """Measure an edit on a probe batch.

    Args:
        before: the old network.
        model: the new network.
        origins: see :class:`Edit`.
        probe: inputs ``(N, ...)`` of both.

    Returns:
        The edit with its certificate.

    Raises:
        InvalidInputError: the new network fails on the probe batch.
    """
    old_logits = _logits(before, probe)
    try:
        new_logits = _logits(model, probe)
        flops = forward_flops(before, probe), forward_flops(model, probe)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidInputError(
            f"the edited network fails on the probe: {reason}"
        ) from None
    copied: list[str] = []
    split: list[str] = []
    created: list[str] = []
    for name in model.state_dict():
        origin = origins.get(name)
        if origin is None or any((i < 0).any() for i in origin.indices.values()):
            created.append(name)
        else:
            (split if origin.scale else copied).append(name)
    certificate = Certificate(
        largest_difference=(new_logits - old_logits).abs().max().item(),
        largest_logit=old_logits.abs().max().item(),
        parameters=(count_parameters(before), count_parameters(model)),
        flops=flops,
        copied=tuple(copied),
        split=tuple(split),
        created=tuple(created),
    )
    return Edit(before, model, origins, certificate)


@torch.no_grad()
def _logits(model: nn.Module, probe: Tensor) -> Tensor:
    modes = {module: module.training for module in model.modules()}
    cudnn = torch.backends.cudnn
    try:
        # TF32 would round the result even of a convolution with an identity kernel.
        with cudnn.flags(enabled=cudnn.enabled, allow_tf32=False):
            logits: Tensor = model.eval()(probe)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return logits


def identity_origins(model: nn.Module) -> dict[str, Origin]:
    """Origins of a copy: every parameter and buffer comes from itself, unchanged."""
    return {name: Origin(name) for name in model.state_dict()}


def layer_of(model: nn.Module, name: str, wanted: tuple[type, ...] = ()) -> nn.Module:
    """The layer of a name.

    Args:
        model: the network.
        name: its name in ``named_modules``.
        wanted: the types that it may have; empty for any.

    Returns:
        The layer itself, not a copy.

    Raises:
        InvalidInputError: there is no such layer, or it is of another type.
    """
    layers = dict(model.named_modules())
    if name not in layers or not name:
        known = [n for n, m in layers.items() if n and isinstance(m, wanted or object)]
        listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise InvalidInputError(f"the network has no layer {name!r}; it has: {listed}")
    if wanted and not isinstance(layers[name], wanted):
        kinds = ", ".join(kind.__name__ for kind in wanted)
        raise InvalidInputError(
            f"layer {name!r} is a {type(layers[name]).__name__}; give a layer of type "
            f"{kinds}"
        )
    return layers[name]
