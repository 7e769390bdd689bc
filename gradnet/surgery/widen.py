"""Function-preserving widening of a layer (Net2WiderNet).

T. Chen, I. Goodfellow and J. Shlens, Net2Net: accelerating learning via knowledge
transfer, ICLR 2016, arXiv 1511.05641. Unlike in the paper, the outgoing weights of a
copied unit are divided among its copies in unequal shares, not in equal ones with
noise: so the copies diverge in training, and the function is preserved up to rounding.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gradnet.core.reproducibility import make_generator
from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.groups import ChannelGroup, channel_group
from gradnet.surgery.edit import Edit, certify
from gradnet.surgery.rebuild import expand_values, group_origins, rebuild

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
    """Add output units to a layer, and adapt all layers that share them.

    Where outputs are added, as in a residual stream, all layers that write to it are
    widened by the same copies.

    Args:
        model: any network that ``torch.fx`` can trace, not modified.
        layer: the name of a linear or convolutional layer.
        width: its new number of units.
        probe: inputs ``(N, ...)``, for the shapes and the certificate.
        generator: of the choice of copies, their shares, noise and new weights; None
            for one that is seeded by the layer and the width.
        initialization: ``split``: new units are copies of random old ones, and the
            outgoing weights of a unit are divided among its copies. ``random-pad``, a
            baseline that does not preserve the function: incoming and outgoing weights
            of new units are initialized at random, old weights stay.
        noise: standard deviation of noise added to the outgoing weights of the copies,
            relative to that of the old weights; not part of the edit's origins.
        exact: raise if ``split`` does not preserve the function; otherwise the
            certificate has the difference.

    Returns:
        The edit, see :class:`~gradnet.surgery.edit.Edit`.

    Raises:
        InvalidInputError: there is no such layer, the width is not larger, the network
            cannot be traced, or something in it fixes the number of units.

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
            f"layer {layer!r} already has {group.width} units, not fewer than {width}; "
            "give a larger width, or use remove_units to make it narrower"
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
        _add_noise(model, widened, group, width, noise, generator)
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
            f"noise is {noise}; give 0 or more, and above 0 only with "
            "initialization='split'"
        )


def _copies(old: int, new: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The source of each unit, and its share of the source's outgoing weights.

    Args:
        old: number of units before.
        new: number of units after.
        generator: of both.

    Returns:
        Indices ``(new,)``, and shares ``(new,)`` that sum to 1 over copies of a unit.
    """
    sources = torch.cat([torch.arange(old), _integers(old, new - old, generator)])
    weights = torch.rand(
        new, dtype=torch.float64, generator=generator, device=generator.device
    )
    weights = 0.2 + 0.6 * weights.cpu()
    totals = torch.zeros(old, dtype=torch.float64).index_add(0, sources, weights)
    return sources, weights / totals[sources]


def _integers(end: int, count: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    return torch.randint(end, (count,), generator=generator, device=device).cpu()


@torch.no_grad()
def _add_noise(
    model: nn.Module,
    widened: nn.Module,
    group: ChannelGroup,
    width: int,
    noise: float,
    generator: torch.Generator,
) -> None:
    """Add noise to the outgoing weights of the copies."""
    is_copy = (torch.arange(width) >= group.width).double()
    for (layer, dimension), slices in group.by_dimension().items():
        if slices[0].role != "consumer":
            continue
        old = model.get_submodule(layer).get_parameter("weight")
        new = widened.get_submodule(layer).get_parameter("weight")
        mask = expand_values(slices, group.width, is_copy, old.shape[dimension], rest=0)
        drawn = torch.randn(new.shape, generator=generator, device=generator.device)
        drawn = drawn.to(new).transpose(dimension, -1) * mask.to(new)
        new.add_(noise * old.std() * drawn.transpose(dimension, -1))


def _check_exact(edit: Edit, layer: str, probe: Tensor) -> None:
    dtype = probe.dtype if probe.is_floating_point() else torch.float32
    # Far above rounding, even that of TF32, and far below a real dependence.
    if not edit.certificate.preserves(torch.finfo(dtype).eps ** (1 / 3)):
        raise InvalidInputError(
            f"widening layer {layer!r} changes a logit by "
            f"{edit.certificate.largest_difference:.2g}: something in the network "
            "depends on the number of units; give exact=False to allow that"
        )
