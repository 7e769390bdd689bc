"""Records the calls of layers in a forward pass, and applies the layers' rules to them.

Nothing but a layer's input and the edge of the autograd graph at its output is kept.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradnet.gradients.factors import Factors
from gradnet.gradients.layer_rules import LayerRules


@dataclass
class Call:
    """One call of a layer.

    Attributes:
        x: its input.
        version: of the input at that time; a later one means it was overwritten.
        edge: where the cotangent of its output arrives.
        shape: of its output.
        dtype: of its output.
        cotangents: ``(N, C, m, ...)`` for an output ``(m N, ...)``; filled later.
    """

    x: Tensor
    version: int
    edge: GradientEdge
    shape: torch.Size
    dtype: torch.dtype
    cotangents: Tensor | None = None


@dataclass
class Layer:
    """A layer with rules, and which of its parameters to read.

    Attributes:
        module: the layer.
        rules: its rules.
        leaves: name in the layer -> parameter name in the layout.
        calls: its calls in the current forward pass.
    """

    module: nn.Module
    rules: LayerRules
    leaves: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


@contextmanager
def record_calls(layers: Iterable[Layer]) -> Iterator[None]:
    """Record the calls of layers that have parameters to read, until the block ends."""
    handles = []
    try:
        for layer in layers:
            if layer.leaves:
                hook = _recorder(layer)
                handles.append(
                    layer.module.register_forward_hook(
                        hook, prepend=True, with_kwargs=True
                    )
                )
        yield
    finally:
        for handle in handles:
            handle.remove()


def apply_rules(layer: Layer, call: Call, count: int) -> Iterator[tuple[str, Factors]]:
    """The factors of one call, by parameter name.

    Args:
        layer: the layer that was called.
        call: its input and its cotangents.
        count: ``N``. A batch of ``m N`` has m positions of each sample, or is m calls
            at once where the layer's channels come first.
    """
    assert call.cotangents is not None
    x = call.x.unflatten(0, (count, -1))
    multiple = x.shape[1]
    if layer.rules.channels_first or multiple == 1:
        parts = [(x[:, i], call.cotangents[:, :, i]) for i in range(multiple)]
    else:
        parts = [(x, call.cotangents)]
    for leaf, name in layer.leaves.items():
        for part, cotangents in parts:
            yield name, layer.rules.rules[leaf](layer.module, part, cotangents)


def _recorder(layer: Layer) -> Callable[..., Tensor | None]:
    def record(
        module: nn.Module,
        arguments: tuple[Tensor, ...],
        named: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor | None:
        x = (arguments[0] if arguments else named["input"]).detach()
        replacement = None
        if not output.requires_grad:
            # All layers up to here are frozen. A leaf gives the cotangents a node to
            # arrive at; the model goes on with a copy, which it may overwrite.
            leaf = output.detach().requires_grad_()
            replacement = leaf.clone()
            output = leaf
        edge = get_gradient_edge(output)
        call = Call(x, x._version, edge, output.shape, output.dtype)
        layer.calls.append(call)
        return replacement

    return record
