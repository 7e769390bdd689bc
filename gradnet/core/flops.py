"""Parameters of a network, and the FLOPs of a forward pass and of a training step.

torch counts FLOPs while the operations run: two for a multiply-add, matrix products and
convolutions only. Gradients of frozen layers are not computed, so they do not count.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from gradnet.core.evaluation_mode import layerwise_attention
from gradnet.core.reproducibility import isolated_randomness


@dataclass(frozen=True)
class Flops:
    """FLOPs of training, by purpose.

    Attributes:
        forward: of forward passes, and of what edits computed besides them.
        weight_gradients: of the gradients of weights, in backward passes.
        input_gradients: of the gradients of activations, in backward passes.
    """

    forward: float = 0
    weight_gradients: float = 0
    input_gradients: float = 0

    @property
    def total(self) -> float:
        """The sum of all three."""
        return self.forward + self.weight_gradients + self.input_gradients

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.forward + other.forward,
            self.weight_gradients + other.weight_gradients,
            self.input_gradients + other.input_gradients,
        )

    def __mul__(self, count: float) -> "Flops":
        return Flops(
            self.forward * count,
            self.weight_gradients * count,
            self.input_gradients * count,
        )


def count_parameters(model: nn.Module, trainable_only: bool = False) -> int:
    """The number of entries of a network's parameters, tied ones once."""
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if parameter.requires_grad or not trainable_only
    )


def forward_flops(model: nn.Module, x: Tensor) -> float:
    """FLOPs of a forward pass of one sample, in evaluation mode.

    Args:
        model: not changed.
        x: inputs ``(N, ...)``; the first is used.
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return _count(lambda: model(x[:1]))[0]


def training_flops(
    model: nn.Module,
    x: Tensor,
    loss: Callable[[Tensor], Tensor] | None = None,
) -> Flops:
    """FLOPs of one training step for each of its samples, counted while it runs.

    Args:
        model: in the mode in which it trains; not changed.
        x: inputs ``(N, ...)`` of a step.
        loss: maps outputs to a scalar; default: cross-entropy with the first class.
    """
    model = copy.deepcopy(model)
    results: list[Tensor] = []

    def forward() -> None:
        outputs = model(x)
        if loss is not None:
            results.append(loss(outputs))
        else:
            labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
            results.append(functional.cross_entropy(outputs, labels))

    with isolated_randomness():
        passed, by_layer = _count(forward, model)
        backward = _count(results[0].backward)[0] if results[0].requires_grad else 0
    # The gradient of a layer's weight takes as many FLOPs as its forward pass.
    weights = sum(
        _without_children(name, layer, by_layer)
        for name, layer in model.named_modules(remove_duplicate=False)
        if any(p.requires_grad and p.ndim > 1 for p in _own_parameters(layer))
    )
    weights = min(weights, backward)
    return Flops(passed, weights, backward - weights) * (1 / len(x))


def count_flops(call: Callable[[], object]) -> float:
    """FLOPs of a call, gradients of any kind included."""
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    # Its module hooks fail with autograd.grad by a module's own weights.
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter:
        call()
    return float(counter.get_total_flops())


class _NoModules:
    """Replaces the module tracker: all FLOPs are counted together."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


def _own_parameters(layer: nn.Module) -> list[nn.Parameter]:
    """A layer's own parameters, with those of parametrizations such as masks."""
    parameters = list(layer.parameters(recurse=False))
    if isinstance(masked := getattr(layer, "parametrizations", None), nn.Module):
        parameters += masked.parameters()
    return parameters


def _count(
    call: Callable[[], object], model: nn.Module | None = None
) -> tuple[float, dict[str, float]]:
    """FLOPs of a call: the total, and those of each of the model's layers."""
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with counter, layerwise_attention():
        call()
    root = type(model).__name__
    by_layer = {
        "" if name == root else name.removeprefix(f"{root}."): float(
            sum(counts.values())
        )
        for name, counts in counter.get_flop_counts().items()
    }
    return float(counter.get_total_flops()), by_layer


def _without_children(
    name: str, layer: nn.Module, by_layer: Mapping[str, float]
) -> float:
    """FLOPs of a layer's own operations."""
    children = (f"{name}.{child}".lstrip(".") for child, _ in layer.named_children())
    inner = sum(by_layer.get(child, 0) for child in children)
    return by_layer.get(name, 0) - inner


def _convolution_backward(
    gradient: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    *rest: Any,
    **_: Any,
) -> int:
    """The forward count for each gradient; torch's own formula ignores groups."""
    transposed, wanted = rest[4], rest[7]
    forward = conv_flop_count(list(x), list(weight), list(gradient), transposed)
    return forward * sum(wanted[:2])


_FORMULAS = {torch.ops.aten.convolution_backward: _convolution_backward}
