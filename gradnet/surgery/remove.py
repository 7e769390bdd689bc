"""Removal of a layer's units, with all parameters that belong to them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.groups import channel_group
from gradnet.surgery.edit import Edit, certify
from gradnet.surgery.rebuild import group_origins, rebuild


def remove_units(
    model: nn.Module, layer: str, units: Sequence[int], *, probe: Tensor
) -> Edit:
    """Remove output units of a layer, with their parameters in all other layers.

    The function is preserved only if those units contribute nothing; the certificate
    has the difference.

    Args:
        model: any network that ``torch.fx`` can trace, not modified.
        layer: the name of a linear or convolutional layer.
        units: indices of the units, without repetition.
        probe: inputs ``(N, ...)``, for the shapes and the certificate.

    Returns:
        The edit, see :class:`~gradnet.surgery.edit.Edit`.

    Raises:
        InvalidInputError: there is no such layer or unit, no unit would be left, the
            network cannot be traced, or something in it fixes the number of units.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> edit = remove_units(model, "0", [1], probe=torch.ones(2, 4))
        >>> edit.model[0].out_features, edit.certificate.parameters
        (2, (23, 16))
    """
    group = channel_group(model, layer, probe, exact=False)
    wrong = [unit for unit in units if not 0 <= unit < group.width]
    if wrong:
        raise InvalidInputError(
            f"layer {layer!r} has no unit {wrong[0]}; its units are 0 to "
            f"{group.width - 1}"
        )
    if len(set(units)) < len(units):
        raise InvalidInputError(
            f"units of layer {layer!r} are repeated; give each once"
        )
    if len(units) == group.width:
        raise InvalidInputError(
            f"all {group.width} units of layer {layer!r} would be removed; keep at "
            "least one"
        )
    removed = set(units)
    kept = torch.tensor([unit for unit in range(group.width) if unit not in removed])
    origins = group_origins(model, group, kept)
    return certify(model, rebuild(model, group, len(kept), origins), origins, probe)
