"""Networks traced by ``torch.fx``: graphs with shapes, and unsupported layers."""

import copy
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from gradnet.errors import InvalidInputError

KNOWN_TENSORS = {
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "num_batches_tracked",
}


@torch.no_grad()
def trace(model: nn.Module, probe: Tensor) -> fx.GraphModule:
    """The network's graph in evaluation mode, its nodes with shapes.

    Args:
        model: not modified.
        probe: inputs ``(N, ...)``.

    Returns:
        The graph of a copy of the network.

    Raises:
        InvalidInputError: the network cannot be traced, fails on the probe, does not
            return one tensor, or calls other layers in training mode.
    """
    name = type(model).__name__
    model = copy.deepcopy(model).eval()
    try:
        outputs = model(probe)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InvalidInputError(
            f"{name} fails on the probe: {_reason(error)}"
        ) from None
    if not isinstance(outputs, Tensor):
        raise InvalidInputError(
            f"{name} returns a {type(outputs).__name__}; give a network that returns "
            "one tensor of logits"
        )
    try:
        evaluated = fx.symbolic_trace(model)
        trained = fx.symbolic_trace(model.train())
    except Exception as error:  # noqa: BLE001
        raise InvalidInputError(
            f"{name} cannot be traced by torch.fx: {_reason(error)}; its forward pass "
            "must not branch or loop over tensors or their shapes"
        ) from None
    different = called_layers(evaluated).keys() ^ called_layers(trained).keys()
    if different:
        raise InvalidInputError(
            f"{name} calls other layers in training mode than in evaluation mode: "
            f"{', '.join(sorted(different))}; disable these (as by aux_logits=False)"
        )
    model.eval()
    ShapeProp(evaluated).propagate(probe)
    return evaluated


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def called_layers(graph: fx.GraphModule) -> Counter[str]:
    """Layer name -> number of calls in the graph."""
    nodes = graph.graph.nodes
    return Counter(str(node.target) for node in nodes if node.op == "call_module")


def unsupported_layers(graph: fx.GraphModule, model: nn.Module) -> dict[str, str]:
    """Layers whose channels cannot change, for example because parameters are shared.

    Args:
        graph: of :func:`trace`.
        model: the network.

    Returns:
        Layer name -> the reason and the remedy.
    """
    calls = called_layers(graph)
    parameters_read = {str(n.target) for n in graph.graph.nodes if n.op == "get_attr"}
    owners: dict[Tensor, list[str]] = {}
    layers = dict(model.named_modules(remove_duplicate=False))
    for name, layer in layers.items():
        for parameter in layer.parameters(recurse=False):
            owners.setdefault(parameter, []).append(name)
    reasons = {}
    for name, layer in layers.items():
        own = dict(layer.named_parameters(recurse=False))
        if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
            continue  # the same for all channels, so that it need not change
        shared = {owner for p in own.values() for owner in owners[p]} - {name}
        used = [leaf for leaf in own if f"{name}.{leaf}" in parameters_read]
        foreign = set(dict(layer.named_parameters())) - KNOWN_TENSORS
        if own and calls[name] > 1:
            reasons[name] = "it is called more than once; give each call its own layer"
        elif shared:
            reasons[name] = (
                f"it shares parameters with {', '.join(sorted(shared))}; untie them"
            )
        elif used:
            reasons[name] = (
                f"its {used[0]} is given to a function; call the layer itself instead"
            )
        elif calls[name] and foreign:
            reasons[name] = (
                f"it has unknown parameters ({', '.join(sorted(foreign))}); only "
                "layers with weight, bias and running statistics are supported"
            )
    return reasons
