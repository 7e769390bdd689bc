"""Deepening: a new layer that starts as the identity (Net2DeeperNet).

T. Chen, I. Goodfellow and J. Shlens, Net2Net: accelerating learning via knowledge
transfer, ICLR 2016, arXiv 1511.05641. The layer is inserted after an activation, which
must be idempotent: phi(phi(v)) = phi(v), as for ReLU.
"""

import copy
import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradnet.core.reproducibility import isolated_randomness
from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit, certify, layer_of
from gradnet.surgery.insert import check_exact
from gradnet.surgery.placement import (
    WEIGHTED,
    insert_after,
    is_numbered,
    is_plain_sequential,
    layer_output,
    unused_names,
)

Initialization = Literal["identity", "random"]
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

IDEMPOTENT = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold, nn.Hardshrink, nn.Identity)
CONVOLUTIONS: Mapping[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]]
CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
NORMALIZATIONS = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}


def deepen(
    model: nn.Module,
    after: str,
    *,
    probe: Tensor,
    batch_norm: bool | None = None,
    kernel_size: int = 3,
    initialization: Initialization = "identity",
    generator: torch.Generator | None = None,
    exact: bool = True,
) -> Edit:
    """Insert a layer, optional BatchNorm, and a copy of the activation after it.

    The layer is linear after outputs ``(N, D)``, and a convolution of stride 1 after
    the outputs of a convolution. In an ``nn.Sequential`` the new layers become
    siblings: numbers shift, names get a suffix (``conv1_deeper``, then
    ``conv1_deeper2``). Elsewhere the activation ``a`` is replaced by an
    ``nn.Sequential`` of itself, now ``a.a``, and the new layers.

    BatchNorm is calibrated on a forward pass in training mode, without dropout: its
    scale and shift are set to undo its normalization, which preserves the function in
    evaluation mode, and in training mode on the probe itself. A channel that is
    constant on the probe is scaled by sqrt(eps) and learns slowly, so that the probe
    should be large enough.

    Args:
        model: not modified.
        after: an activation, or a linear or convolution layer with its activation (and
            BatchNorm) next to it in an ``nn.Sequential``.
        probe: inputs ``(N, ...)`` of the network.
        batch_norm: whether to insert BatchNorm after the new layer; by default if the
            previous layer in the same ``nn.Sequential`` has it.
        kernel_size: height and width of the new convolution's kernel.
        initialization: ``identity``; or ``random``, a baseline that does not preserve
            the function: Kaiming normal weights, zero biases, a default BatchNorm.
        generator: of the random weights, on the CPU; None for torch's global one.
        exact: raise if the edit changes the network's function.

    Returns:
        The edit, see :class:`~gradnet.surgery.edit.Edit`.

    Raises:
        InvalidInputError: there is no such layer, it has no activation, the activation
            does not run exactly once, its output is not of a supported shape, or with
            ``exact`` it is not idempotent.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> edit = deepen(model, "1", probe=torch.ones(2, 4))
        >>> [type(layer).__name__ for layer in edit.model]
        ['Linear', 'ReLU', 'Linear', 'ReLU', 'Linear']
        >>> edit.certificate.preserves(1e-5)
        True
    """
    exact = exact and initialization == "identity"
    name = _activation_of(model, after)
    if exact:
        _check_idempotent(layer_of(model, name), name)
    edited = copy.deepcopy(model)
    layers, names = _new_layers(
        edited, name, probe, batch_norm, kernel_size, initialization, generator
    )
    edit = certify(model, edited, insert_after(edited, name, layers, names), probe)
    if exact:
        remedy = "compute in full precision (no TF32), choose another layer"
        check_exact(edit, "a deeper layer", name, remedy)
    return edit


def _new_layers(
    model: nn.Module,
    name: str,
    probe: Tensor,
    batch_norm: bool | None,
    kernel_size: int,
    initialization: Initialization,
    generator: torch.Generator | None,
) -> tuple[list[nn.Module], list[str] | None]:
    """The layers that :func:`deepen` inserts, and their names."""
    if kernel_size < 1:
        raise InvalidInputError(f"kernel_size is {kernel_size}; give 1, 3, 5, ...")
    if initialization not in ("identity", "random"):
        raise InvalidInputError(
            f"no initialization {initialization!r}; there are: identity, random"
        )
    weighted, norm = _before(model, name)
    if batch_norm is None:
        batch_norm = norm is not None
    output, producer = layer_output(model, name, probe, training=batch_norm)
    layer = _weighted_layer(output, producer, kernel_size, name, batch_norm)
    _initialize(layer, initialization, generator)
    layers: list[nn.Module] = [layer]
    if batch_norm:
        like = layer_of(model, norm) if norm else None
        layers.append(_normalization(output, like, initialization == "identity"))
    activation = layer_of(model, name)
    layers = [new.to(output.device, output.dtype) for new in layers]
    layers.append(copy.deepcopy(activation))
    for new in layers:
        new.train(activation.training)
    return layers, _names(model, name, weighted, norm, layers)


def _check_idempotent(activation: nn.Module, name: str) -> None:
    if type(activation) not in IDEMPOTENT:
        raise InvalidInputError(
            f"{type(activation).__name__} {name!r} is not idempotent, so a layer "
            "after it cannot start as the identity; deepen after one of "
            f"{', '.join(kind.__name__ for kind in IDEMPOTENT)}, insert a residual "
            "block (insert_block), or pass exact=False"
        )


def _activation_of(model: nn.Module, name: str) -> str:
    """The name of the activation: the layer, or the one after a weighted layer."""
    layer = layer_of(model, name)
    if _is_activation(layer):
        return name
    path, _, local = name.rpartition(".")
    parent = model.get_submodule(path)
    if isinstance(layer, WEIGHTED) and is_plain_sequential(parent):
        siblings = list(parent._modules)
        for sibling in siblings[siblings.index(local) + 1 :]:
            next_layer = parent.get_submodule(sibling)
            if _is_activation(next_layer):
                return f"{path}.{sibling}" if path else sibling
            if not isinstance(next_layer, _BatchNorm):
                break
    known = [n for n, m in model.named_modules() if type(m) in IDEMPOTENT]
    raise InvalidInputError(
        f"layer {name!r} ({type(layer).__name__}) is not an activation, and none "
        "follows it in an nn.Sequential; give one of: "
        f"{', '.join(known) or 'none here'}, or use insert_block"
    )


def _is_activation(layer: nn.Module) -> bool:
    return (
        type(layer) in IDEMPOTENT
        or type(layer).__module__ == nn.modules.activation.__name__
    )


def _before(model: nn.Module, activation: str) -> tuple[str | None, str | None]:
    """Names of the weighted layer before an activation, and of its BatchNorm."""
    path, _, local = activation.rpartition(".")
    parent = model.get_submodule(path)
    norm = None
    if is_plain_sequential(parent):
        siblings = list(parent._modules)
        for sibling in reversed(siblings[: siblings.index(local)]):
            name = f"{path}.{sibling}" if path else sibling
            layer = parent.get_submodule(sibling)
            if isinstance(layer, _BatchNorm):
                norm = name
            if isinstance(layer, WEIGHTED):
                return name, norm
    return None, None


def _weighted_layer(
    output: Tensor,
    producer: nn.Module | None,
    kernel_size: int,
    name: str,
    batch_norm: bool,
) -> Weighted:
    """A layer that keeps the shape; without a bias if BatchNorm follows."""
    shape, bias = tuple(output.shape), not batch_norm
    kind = CONVOLUTIONS.get(output.ndim)
    with isolated_randomness():
        if output.ndim == 2:
            return nn.Linear(shape[1], shape[1], bias=bias)
        if kind is not None and isinstance(producer, kind):
            return kind(shape[1], shape[1], kernel_size, padding="same", bias=bias)
    raise InvalidInputError(
        f"the output of layer {name!r} is {shape}, neither (N, D) nor that of a "
        "convolution, so that the type of the new layer is unclear; use insert_block"
    )


def _initialize(
    layer: Weighted, initialization: Initialization, generator: torch.Generator | None
) -> None:
    weight = layer.weight
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if initialization == "random":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        return
    nn.init.zeros_(weight)
    # For an even kernel, torch's "same" padding pads one more at the end.
    centre = tuple((side - 1) // 2 for side in weight.shape[2:])
    with torch.no_grad():
        for channel in range(len(weight)):
            weight[(channel, channel, *centre)] = 1


def _normalization(
    output: Tensor, like: nn.Module | None, calibrate: bool
) -> nn.Module:
    """A BatchNorm; if calibrated, the identity on this output."""
    norm = NORMALIZATIONS[output.ndim](output.shape[1])
    if isinstance(like, _BatchNorm):
        norm.eps, norm.momentum = like.eps, like.momentum
    if not calibrate:
        return norm
    if output.numel() == output.shape[1]:
        raise InvalidInputError(
            "the probe has only one value per channel, too few to calibrate "
            "BatchNorm; give more samples"
        )
    norm = norm.to(output.dtype)
    dimensions = [0, *range(2, output.ndim)]
    mean = output.cpu().double().mean(dimensions)
    variance = output.cpu().double().var(dimensions, correction=0).to(output.dtype)
    calibrated = {
        "running_mean": mean,
        "running_var": variance,
        "weight": (variance.double() + norm.eps).sqrt(),
        "bias": mean,
    }
    norm.load_state_dict(norm.state_dict() | calibrated)
    return norm


def _names(
    model: nn.Module,
    activation: str,
    weighted: str | None,
    norm: str | None,
    layers: list[nn.Module],
) -> list[str] | None:
    """Names of the new layers among their siblings; None if those are numbered."""
    path, _, local = activation.rpartition(".")
    parent = model.get_submodule(path)
    siblings = is_plain_sequential(parent)
    if is_numbered(parent) if siblings else local.isdigit():
        return None
    kind = "linear" if isinstance(layers[0], nn.Linear) else "conv"
    stem = _stem(weighted) if weighted else kind
    stems = [stem]
    if len(layers) == 3:
        stems.append(_stem(norm) if norm else f"{stem}_norm")
    stems.append(_stem(local))
    taken = list(parent._modules) if siblings else [local]
    return unused_names([f"{stem}_deeper" for stem in stems], taken)


def _stem(name: str) -> str:
    return re.sub(r"_deeper\d*$", "", name.rpartition(".")[2])
