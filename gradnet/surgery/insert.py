"""Put new layers into a network: after a layer, or at the end of an nn.Sequential."""

import copy

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit, certify, layer_of
from gradnet.surgery.placement import (
    is_plain_sequential,
    output_of,
    place_after,
    place_at_the_end,
)


def insert_block(
    model: nn.Module,
    after: str,
    block: nn.Module,
    *,
    probe: Tensor,
    name: str | None = None,
    exact: bool = True,
) -> Edit:
    """Put a block after a layer.

    In an ``nn.Sequential`` it becomes the layer's next sibling; elsewhere the layer
    ``a`` becomes an ``nn.Sequential`` of itself, ``a.a``, and the block.

    Args:
        model: not modified.
        after: the layer, as ``named_modules`` gives it.
        block: the block, which is copied and takes the network's mode and the dtype and
            device of the layer's output, whose shape it must keep.
        probe: inputs ``(N, ...)`` of the network, on which the edit is checked.
        name: of the block among its siblings; default: the next number among numbers,
            else after its class.
        exact: raise if the block changes the network's function.

    Raises:
        InvalidInputError: no such layer, it runs more than once or gives no tensor, the
            name is taken, or the block changes the shape or (``exact``) the function.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> edit = insert_block(model, "1", nn.Identity(), probe=torch.ones(2, 4))
        >>> [type(layer).__name__ for layer in edit.model]
        ['Linear', 'ReLU', 'Identity', 'Linear']
    """
    layer_of(model, after)
    edited = copy.deepcopy(model)
    passing, _ = output_of(edited, after, probe)
    new = _fitting(block, passing, edited)
    origins = place_after(edited, after, [new], None if name is None else [name])
    edit = certify(model, edited, origins, probe)
    if exact:
        check_exact(edit, _kind(block), after, _remedy_of_a_block(passing))
    return edit


def append_block(
    model: nn.Module,
    container: str,
    block: nn.Module,
    *,
    probe: Tensor,
    name: str | None = None,
    exact: bool = True,
) -> Edit:
    """Put a block at the end of an ``nn.Sequential``.

    Args:
        model: not modified.
        container: the ``nn.Sequential``; ``""`` is the network itself.
        block: see :func:`insert_block`.
        probe: inputs ``(N, ...)`` of the network.
        name: of the block among its siblings.
        exact: raise if the block changes the network's function.

    Raises:
        InvalidInputError: as :func:`insert_block` does, or the container is no plain
            ``nn.Sequential``.
    """
    edited = copy.deepcopy(model)
    parent = layer_of(edited, container, (nn.Sequential,)) if container else edited
    if not is_plain_sequential(parent):
        raise InvalidInputError(
            f"{container or 'the network'!r} is a {type(parent).__name__}, which does "
            "not just run its layers in turn; name an nn.Sequential, or use "
            "insert_block"
        )
    passing, _ = output_of(edited, container, probe)
    new = _fitting(block, passing, edited)
    origins = place_at_the_end(edited, container, new, name)
    edit = certify(model, edited, origins, probe)
    if exact:
        check_exact(edit, _kind(block), container, _remedy_of_a_block(passing))
    return edit


def zero_last_layer(branch: nn.Module) -> nn.Module:
    """Make the residual branch ``F`` of ``x + F(x)`` output zero, in place.

    Only the weight and bias of its last layer with parameters become zero: with two
    layers at zero neither would ever get a gradient. "Last" refers to the order of
    registration, so pass the branch alone: a shortcut with parameters would count too.

    Args:
        branch: the branch, or a residual block with no parameters outside its branch.

    Returns:
        The same module.

    Raises:
        InvalidInputError: it has no parameters, or its last layer is not one that
            multiplies by a weight and adds a bias.
    """
    layers = [
        layer
        for layer in branch.modules()
        if next(layer.parameters(recurse=False), None) is not None
    ]
    if not layers:
        raise InvalidInputError(f"{_kind(branch)} has no parameters to set to zero")
    parameters = dict(layers[-1].named_parameters(recurse=False))
    if not parameters.keys() <= {"weight", "bias"} or isinstance(layers[-1], nn.PReLU):
        raise InvalidInputError(
            f"the last layer with parameters of {_kind(branch)} is a "
            f"{_kind(layers[-1])}, whose output zero parameters do not make zero; "
            "let it end in a convolution, a linear layer or a normalization with a "
            "weight"
        )
    for parameter in parameters.values():
        nn.init.zeros_(parameter)
    return branch


def check_exact(edit: Edit, what: str, where: str, remedy: str) -> None:
    """Raise for an edit that changes the logits by more than rounding.

    Raises:
        InvalidInputError: the message names the new layers, the change and the remedy.
    """
    dtypes = {p.dtype for p in edit.before.parameters()}
    tolerance = 1e-10 if dtypes == {torch.float64} else 1e-5
    if not edit.certificate.preserves(tolerance):
        raise InvalidInputError(
            f"{what} at {where or 'the end'!r} changes the logits by "
            f"{edit.certificate.largest_difference:.2g} on the probe; {remedy}, or "
            "pass exact=False"
        )


def _fitting(block: nn.Module, passing: Tensor, model: nn.Module) -> nn.Module:
    """A copy of the block, checked to keep the shape of its input ``passing``."""
    new = copy.deepcopy(block).to(passing.device, passing.dtype)
    try:
        with torch.no_grad():
            shape = getattr(new.eval()(passing.clone()), "shape", None)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"{_kind(block)} fails on an input {tuple(passing.shape)}: {reason}"
        ) from None
    if shape != passing.shape:
        shown = tuple(shape) if shape is not None else "no tensor"
        raise InvalidInputError(
            f"{_kind(block)} makes {shown} of {tuple(passing.shape)}; a block that is "
            "inserted must keep the shape"
        )
    return new.train(model.training)


def _remedy_of_a_block(passing: Tensor) -> str:
    remedy = "zero the last layer of its residual branch (zero_last_layer)"
    if (passing < 0).any():
        remedy += ", with no activation after the sum: the inputs here have both signs"
    return remedy


def _kind(thing: object) -> str:
    return type(thing).__name__
