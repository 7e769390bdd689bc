"""Insert new layers after a layer, or at the end of an nn.Sequential."""

import copy

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit, certify, layer_of
from gradnet.surgery.placement import (
    append_child,
    insert_after,
    is_plain_sequential,
    layer_output,
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
    """Insert a block after a layer.

    In an ``nn.Sequential`` it becomes the layer's next sibling. Elsewhere the layer
    ``a`` is replaced by an ``nn.Sequential`` of itself, now ``a.a``, and the block.

    Args:
        model: not modified.
        after: the layer's name in ``named_modules``.
        block: is copied; the copy gets the network's mode and the dtype and device of
            the layer's output, whose shape it must keep.
        probe: inputs ``(N, ...)`` of the network, on which the edit is checked.
        name: of the block among its siblings; by default the next number if siblings
            are numbered, otherwise derived from its class.
        exact: raise if the block changes the network's function.

    Returns:
        The edit, see :class:`~gradnet.surgery.edit.Edit`.

    Raises:
        InvalidInputError: there is no such layer, it does not run exactly once or does
            not return a tensor, the name is taken, or the block changes the shape or
            (with ``exact``) the function.

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
    output, _ = layer_output(edited, after, probe)
    new = _adapted_block(block, output, edited)
    origins = insert_after(edited, after, [new], None if name is None else [name])
    edit = certify(model, edited, origins, probe)
    if exact:
        check_exact(edit, _kind(block), after, _block_remedy(output))
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
    """Insert a block at the end of an ``nn.Sequential``.

    Args:
        model: not modified.
        container: the ``nn.Sequential``; ``""`` is the network itself.
        block: see :func:`insert_block`.
        probe: inputs ``(N, ...)`` of the network.
        name: of the block among its siblings.
        exact: raise if the block changes the network's function.

    Returns:
        The edit, see :class:`~gradnet.surgery.edit.Edit`.

    Raises:
        InvalidInputError: as for :func:`insert_block`, or the container is not an
            ``nn.Sequential`` with its own forward method.
    """
    edited = copy.deepcopy(model)
    parent = layer_of(edited, container, (nn.Sequential,)) if container else edited
    if not is_plain_sequential(parent):
        raise InvalidInputError(
            f"{container or 'the network'!r} is a {type(parent).__name__}, not an "
            "nn.Sequential with its own forward method; give one, or use insert_block"
        )
    output, _ = layer_output(edited, container, probe)
    new = _adapted_block(block, output, edited)
    origins = append_child(edited, container, new, name)
    edit = certify(model, edited, origins, probe)
    if exact:
        check_exact(edit, _kind(block), container, _block_remedy(output))
    return edit


def zero_last_layer(branch: nn.Module) -> nn.Module:
    """Make the residual branch ``F`` of ``x + F(x)`` output zero, in place.

    Only the weight and bias of its last layer with parameters are set to zero: with two
    layers at zero, neither would ever get a gradient. "Last" is in order of
    registration, so pass the branch alone: a shortcut with parameters would count too.

    Args:
        branch: the branch, or a residual block with no parameters outside its branch.

    Returns:
        The same module.

    Raises:
        InvalidInputError: it has no parameters, or zero parameters do not make its last
            layer output zero.
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
            f"{_kind(layers[-1])}, which does not output zero when its parameters are "
            "zero; end the branch with a convolution, a linear layer or a "
            "normalization with a weight"
        )
    for parameter in parameters.values():
        nn.init.zeros_(parameter)
    return branch


def check_exact(edit: Edit, what: str, where: str, remedy: str) -> None:
    """Check that an edit changes the logits by no more than rounding.

    Args:
        edit: to be checked.
        what: the new layers, for the message.
        where: the name of the layer that was edited, for the message.
        remedy: for the message.

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


def _adapted_block(block: nn.Module, output: Tensor, model: nn.Module) -> nn.Module:
    """A copy of the block, checked to keep the shape of the layer's output."""
    new = copy.deepcopy(block).to(output.device, output.dtype)
    try:
        with torch.no_grad():
            shape = getattr(new.eval()(output.clone()), "shape", None)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"{_kind(block)} fails on an input {tuple(output.shape)}: {reason}"
        ) from None
    if shape != output.shape:
        shown = tuple(shape) if shape is not None else "no tensor"
        raise InvalidInputError(
            f"{_kind(block)} maps {tuple(output.shape)} to {shown}; an inserted block "
            "must keep the shape"
        )
    return new.train(model.training)


def _block_remedy(output: Tensor) -> str:
    remedy = "zero the last layer of its residual branch (zero_last_layer)"
    if (output < 0).any():
        remedy += ", with no activation after the sum: the inputs here have both signs"
    return remedy


def _kind(value: object) -> str:
    return type(value).__name__
