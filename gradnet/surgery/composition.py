"""The composition of several successive edits."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit, Origin, certify


def compose(edits: Sequence[Edit], probe: Tensor) -> Edit:
    """The edit from the first network to the last.

    Args:
        edits: at least one; each edits the network that the previous one returned.
        probe: inputs ``(N, ...)``, for the certificate.

    Returns:
        One edit, whose origins refer to the first network.

    Raises:
        InvalidInputError: there are no edits, or the network fails on the probe.
    """
    if not edits:
        raise InvalidInputError("there are no edits to compose; give at least one")
    origins: Mapping[str, Origin] = edits[0].origins
    for edit in edits[1:]:
        origins = {
            name: _composed(origins[origin.source], origin)
            for name, origin in edit.origins.items()
            if origin.source in origins
        }
    return certify(edits[0].before, edits[-1].model, origins, probe)


def _composed(first: Origin, second: Origin) -> Origin:
    """The origin in the first network of a tensor after both edits."""
    indices = dict(first.indices)
    for dimension, index in second.indices.items():
        earlier = indices.get(dimension)
        if earlier is None:
            indices[dimension] = index
        else:
            new = torch.full_like(index, -1)
            indices[dimension] = torch.where(
                index >= 0, earlier.to(index.device)[index.clamp(min=0)], new
            )
    return Origin(
        first.source,
        indices,
        _multiplied(first.scale, second.scale, second),
        _multiplied(first.gradient_scale, second.gradient_scale, second),
    )


def _multiplied(
    first: Mapping[int, Tensor], second: Mapping[int, Tensor], edit: Origin
) -> dict[int, Tensor]:
    """The product of the factors of two edits, along each dimension."""
    product = dict(second)
    for dimension, factor in first.items():
        if dimension in edit.indices:
            index = edit.indices[dimension].to(factor.device)
            factor = factor[index.clamp(min=0)]
        product[dimension] = factor * product.get(dimension, torch.ones_like(factor))
    return product
