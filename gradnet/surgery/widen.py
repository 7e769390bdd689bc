"""Widening: more units in a layer, the network's function kept (Net2WiderNet).

After Chen, Goodfellow and Shlens, "Net2Net" (arXiv 1511.05641). Ours differs where a
copied unit's outgoing weights are shared out: in unequal parts, not equal ones and
noise, so that the copies learn to differ and the function is kept to rounding.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gradnet.core.reproducibility import make_generator
from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.groups import ChannelGroup, channel_group
from gradnet.surgery.edit import Edit, certify
from gradnet.surgery.rebuild import group_origins, rebuild, spread

Initialization = Literal["split", "random-pad"]


def widen(
    model: nn.Module,
    layer: str,
    width: int,
    *,
    probe: Tensor,
    generator: torch.Generator | None = None,
    initialization: Initialization = "split",
    noise: float = 0.0,
    exact: bool = True,
) -> Edit:
    """Give a layer more output units, and all that shares them.

    Where outputs are added up, as along a residual stream, all their layers widen at
    once, by the same copies.

    Args:
        model: any network that ``torch.fx`` can trace, not modified.
        layer: the name of a linear or convolutional layer.
        width: its units afterwards.
        probe: inputs ``(N, ...)``, for the shapes and the certificate.
        generator: of the choice of copies, their shares, noise and fresh weights;
            default: a fixed function of the layer and the width.
        initialization: ``split``: new units are copies of old ones, drawn at random,
            and copies share the outgoing weights of their unit. ``random-pad``: new
            units are fresh, and so are their outgoing weights; the old ones' stay. That
            is the baseline, and does not keep the function.
        noise: standard deviation of what is added to the outgoing weights of new
            copies, as a part of that of the weights before; origins do not tell it.
        exact: raise for a split that does not keep the function; else the certificate
            tells the difference.

    Raises:
        InvalidInputError: no such layer, a width that is not larger, a network that
            cannot be traced, or something in it that fixes the number of units.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> edit = widen(model, "0", 5, probe=torch.ones(2, 4))
        >>> edit.model[0].out_features, edit.model[2].in_features
        (5, 5)
        >>> edit.certificate.preserves(1e-5)
        True
    """
    _check_arguments(initialization, noise)
    split = initialization == "split"
    group = channel_group(model, layer, probe, exact=exact and split)
    if width <= group.width:
        raise InvalidInputError(
            f"layer {layer!r} has {group.width} units, and {width} are no more; "
            "remove_units makes it narrower"
        )
    generator = generator or make_generator("widen", layer, width)
    shares = None
    if split:
        sources, shares = _copies(group.width, width, generator)
    else:
        new = torch.full((width - group.width,), -1)
        sources = torch.cat([torch.arange(group.width), new])
    origins = group_origins(model, group, sources, shares)
    seed = _integers(2**63 - 1, 1, generator).item()
    widened = rebuild(model, group, width, origins, int(seed))
    if noise:
        _disturb(model, widened, group, width, noise, generator)
    edit = certify(model, widened, origins, probe)
    if split and exact and not noise:
        _check_exact(edit, layer, probe)
    return edit


def _check_arguments(initialization: str, noise: float) -> None:
    if initialization not in get_args(Initialization):
        known = ", ".join(get_args(Initialization))
        raise InvalidInputError(
            f"no initialization {initialization!r}; there are: {known}"
        )
    if noise < 0 or (noise and initialization != "split"):
        raise InvalidInputError(
            f"noise {noise} is not possible; give 0 or more, and above 0 only with "
            "initialization='split', which makes copies"
        )


def _copies(old: int, new: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The unit that each one copies, and its share of that unit's outgoing weights."""
    sources = torch.cat([torch.arange(old), _integers(old, new - old, generator)])
    parts = torch.rand(
        new, dtype=torch.float64, generator=generator, device=generator.device
    )
    parts = 0.2 + 0.6 * parts.cpu()
    totals = torch.zeros(old, dtype=torch.float64).index_add(0, sources, parts)
    return sources, parts / totals[sources]


def _integers(end: int, count: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    return torch.randint(end, (count,), generator=generator, device=device).cpu()


@torch.no_grad()
def _disturb(
    model: nn.Module,
    widened: nn.Module,
    group: ChannelGroup,
    width: int,
    noise: float,
    generator: torch.Generator,
) -> None:
    """Add noise to the outgoing weights of the copies."""
    is_copy = (torch.arange(width) >= group.width).double()
    for (layer, dimension), places in group.by_dimension().items():
        if places[0].role != "consumer":
            continue
        old = model.get_submodule(layer).get_parameter("weight")
        new = widened.get_submodule(layer).get_parameter("weight")
        mask = spread(places, group.width, is_copy, old.shape[dimension], rest=0)
        drawn = torch.randn(new.shape, generator=generator, device=generator.device)
        drawn = drawn.to(new).transpose(dimension, -1) * mask.to(new)
        new.add_(noise * old.std() * drawn.transpose(dimension, -1))


def _check_exact(edit: Edit, layer: str, probe: Tensor) -> None:
    dtype = probe.dtype if probe.is_floating_point() else torch.float32
    # Far above rounding, that of TensorFloat-32 too, and far below a true dependence.
    if not edit.certificate.preserves(torch.finfo(dtype).eps ** (1 / 3)):
        raise InvalidInputError(
            f"widening layer {layer!r} moves a logit by "
            f"{edit.certificate.largest_difference:.2g}, so something in the network "
            "depends on the number of its units; exact=False allows that"
        )
