"""The contents of a GradNet's file: its header, its recipe, its statistics."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradnet.checkpoints.exact_weights import FLOATS
from gradnet.classifier.recipes import Recipe
from gradnet.core.field_types import mistyped
from gradnet.core.formats import Format, unchanged
from gradnet.core.text import listed, reason_of
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.gradients.layout import BlockLayout

# Format 1 has a number, format 2 a checksum; the fields are those of format 0.
FORMAT = Format("gradnet", (unchanged, unchanged))
HEADER_FIELDS = {
    "base": str,
    "recipe": Mapping[str, Any],
    "num_classes": int,
    "layout": Mapping[str, Any] | None,
    "versions": Mapping[str, str],
}


def recipe_of(header: Mapping[str, Any], source: str) -> Recipe:
    """The recipe in a header whose fields have the right types.

    Raises:
        DamagedFileError: one is missing, or of another type.
    """
    for name, kind in HEADER_FIELDS.items():
        is_optional = name in ("layout", "versions")
        if name not in header and not is_optional:
            raise DamagedFileError(f"{source} has a damaged header: no {name!r} in it")
        if name in header and (fault := mistyped(header[name], kind, name)):
            raise DamagedFileError(f"{source} has a damaged header: {fault}")
    try:
        recipe = Recipe.from_dict(header["recipe"])
    except InvalidInputError as error:
        raise DamagedFileError(f"{source}: {reason_of(error)}") from None
    if fault := mistyped(recipe, Recipe):
        raise DamagedFileError(f"{source} has a damaged header: recipe.{fault}")
    return recipe


def statistics_fault(
    statistics: Mapping[str, Tensor], layout: BlockLayout, is_scaled: bool
) -> str | None:
    """Say what is wrong with the stored statistics of features.

    Args:
        statistics: ``block/key`` -> tensor; none at all for features never fitted.
        layout: the blocks that the statistics belong to.
        is_scaled: whether the features have a fitted step.

    Returns:
        One line; None where nothing is wrong.
    """
    sizes = dict(zip(layout.names, layout.sizes, strict=True))
    wanted = {
        f"{block}/{key}": () if key == "count" else (size,)
        for block, size in (sizes.items() if is_scaled else ())
        for key in ("count", "mean", "squares", "minimum", "maximum")
    }
    if not statistics:
        return None
    if odd := sorted(wanted.keys() ^ statistics.keys()):
        return f"missing or unknown: {listed(odd)}"
    for name, tensor in statistics.items():
        dtypes = (torch.int64,) if name.endswith("/count") else FLOATS
        if tuple(tensor.shape) != wanted[name] or tensor.dtype not in dtypes:
            return f"{name} is {tuple(tensor.shape)} of {tensor.dtype}"
        if not torch.isfinite(tensor).all():
            return f"{name} is not finite"
        if name.endswith(("/count", "/squares")) and (tensor < 0).any():
            return f"{name} is negative"
    for block in sizes:
        if (statistics[f"{block}/maximum"] < statistics[f"{block}/minimum"]).any():
            return f"the maximum of {block} is below its minimum"
    return None


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, under the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
