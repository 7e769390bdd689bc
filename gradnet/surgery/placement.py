"""Insertion of layers into a module tree: outputs of layers, free names, origins."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradnet.core.evaluation_mode import layerwise_attention
from gradnet.core.reproducibility import isolated_randomness
from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Origin

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layer_output(
    model: nn.Module, name: str, probe: Tensor, training: bool = False
) -> tuple[Tensor, nn.Module | None]:
    """A layer's output on a batch, and the last weighted layer that ran before it.

    Args:
        model: not modified.
        name: the layer.
        probe: inputs ``(N, ...)`` of the network.
        training: run it in training mode (without dropout), not in evaluation mode.

    Returns:
        The output, and the linear or convolution layer; None if there is none.

    Raises:
        InvalidInputError: the network fails on the batch, or the layer does not run
            exactly once or does not return a tensor.
    """
    clone = copy.deepcopy(model)
    if not training or not clone.training:
        clone.train(training)
    outputs: list[object] = []
    weighted: list[nn.Module] = []

    def record(layer: nn.Module, _: object, output: object) -> None:
        # Cloned, because later layers may modify it in place.
        outputs.append(output.clone() if isinstance(output, Tensor) else output)

    def record_weighted(layer: nn.Module, _: object) -> None:
        if not outputs:
            weighted.append(layer)

    for layer in clone.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()
        if isinstance(layer, WEIGHTED):
            layer.register_forward_pre_hook(record_weighted)
    clone.get_submodule(name).register_forward_hook(record)
    try:
        with torch.no_grad(), isolated_randomness(), layerwise_attention():
            clone(probe)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"the network fails on the probe: {reason}") from None
    if len(outputs) != 1:
        raise InvalidInputError(
            f"layer {name!r} runs {len(outputs)} times in one forward pass, and so "
            "would a layer after it; use a separate layer for each call"
        )
    if not isinstance(outputs[0], Tensor):
        raise InvalidInputError(
            f"layer {name!r} returns a {type(outputs[0]).__name__}, not a tensor; name "
            "a layer inside it"
        )
    return outputs[0], weighted[-1] if weighted else None


def insert_after(
    model: nn.Module,
    after: str,
    layers: Sequence[nn.Module],
    names: Sequence[str] | None = None,
) -> dict[str, Origin]:
    """Insert layers after a layer, in place.

    Args:
        model: modified in place.
        after: name of the layer.
        layers: the new layers, in order.
        names: their names. By default derived from their classes; if the siblings are
            named 0, 1, 2, ..., all of them are renumbered.

    Returns:
        The origins of the old parameters and buffers, which may have new names.

    Raises:
        InvalidInputError: a name is taken or invalid.
    """
    before = _names(model)
    path, _, local = after.rpartition(".")
    parent = model.get_submodule(path)
    if is_plain_sequential(parent):
        index = list(parent._modules).index(local) + 1
        _insert_siblings(parent, index, layers, names)
    else:
        wrapped = nn.Sequential().train(parent.training)
        wrapped.add_module("0" if local.isdigit() else local, getattr(parent, local))
        _insert_siblings(wrapped, 1, layers, names)
        setattr(parent, local, wrapped)
    return _origins(model, before)


def append_child(
    model: nn.Module, container: str, layer: nn.Module, name: str | None
) -> dict[str, Origin]:
    """Append a layer to an ``nn.Sequential``, which may be empty, in place.

    Args:
        model: modified in place.
        container: name of the ``nn.Sequential``; empty for the model itself.
        layer: the new layer.
        name: its name; None for a default as in :func:`insert_after`.

    Returns:
        The origins of the old parameters and buffers.

    Raises:
        InvalidInputError: the name is taken or invalid.
    """
    before = _names(model)
    parent = model.get_submodule(container)
    names = None if name is None else [name]
    _insert_siblings(parent, len(parent._modules), [layer], names)
    return _origins(model, before)


def is_plain_sequential(module: nn.Module) -> bool:
    """Whether it is an ``nn.Sequential`` that does not override forward."""
    return (
        isinstance(module, nn.Sequential)
        and type(module).forward is nn.Sequential.forward
    )


def is_numbered(parent: nn.Module) -> bool:
    """Whether the children are named 0, 1, 2, ..."""
    return list(parent._modules) == [str(i) for i in range(len(parent._modules))]


def unused_names(wanted: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The wanted names, or with the first suffix 2, 3, ... with which none is taken."""
    names, number = list(wanted), 1
    while set(names) & set(taken):
        number += 1
        names = [f"{name}{number}" for name in wanted]
    return names


def _insert_siblings(
    parent: nn.Module,
    start: int,
    layers: Sequence[nn.Module],
    names: Sequence[str] | None,
) -> None:
    old = list(parent._modules.items())
    taken = [name for name, _ in old]
    for name in names or ():
        if name in taken or "." in name or not name or hasattr(parent, name):
            raise InvalidInputError(
                f"a new layer cannot be named {name!r}: the name is taken or not valid "
                f"for a layer; taken are: {', '.join(taken)}"
            )
    numbered = names is None and is_numbered(parent)
    if names is None:
        names = []
        for layer in layers:
            names += unused_names([type(layer).__name__.lower()], [*taken, *names])
    new = list(zip(names, layers, strict=True))
    children = [*old[:start], *new, *old[start:]]
    for name in taken:
        delattr(parent, name)
    for index, (name, child) in enumerate(children):
        parent.add_module(str(index) if numbered else name, child)


def _names(model: nn.Module) -> dict[int, list[str]]:
    """``id`` of each parameter and buffer -> its names; several if it is tied."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return names


def _origins(model: nn.Module, before: dict[int, list[str]]) -> dict[str, Origin]:
    """Origins of the parameters and buffers that existed before, by their new names."""
    origins = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if sources := before.get(id(tensor)):
            origins[name] = Origin(name if name in sources else sources[0])
    return origins
