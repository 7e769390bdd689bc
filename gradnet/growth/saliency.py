"""Saliencies of weights and units, and pruning of the least salient.

With the diagonal ``h`` of the second derivatives, at a minimum of the error, deleting
weight ``u`` adds about ``h u^2 / 2`` to it: the saliency of Optimal Brain Damage.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.groups import channel_group
from gradnet.surgery.edit import Edit
from gradnet.surgery.masks import prunable_weights, with_masks
from gradnet.surgery.remove import remove_units

Ranking = Literal["global", "layer"]


def weight_saliencies(
    model: nn.Module, curvature: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The saliency ``h u^2 / 2`` of each prunable weight.

    Args:
        model: without masks.
        curvature: parameter name -> diagonal ``(*shape)``, see
            :func:`gradnet.curvature.diagonal.curvature_diagonal`.

    Returns:
        Weight name -> ``(*shape)``; negative where the curvature is.
    """
    return {
        name: curvature[name] * model.get_parameter(name).detach().square() / 2
        for name in prunable_weights(model)
    }


def magnitude_scores(model: nn.Module) -> dict[str, Tensor]:
    """The magnitude baseline: saliencies with a curvature of 1 everywhere.

    Args:
        model: without masks.

    Returns:
        Weight name -> ``(*shape)``.
    """
    names = prunable_weights(model)
    return weight_saliencies(
        model, {n: torch.ones_like(model.get_parameter(n)) for n in names}
    )


def random_scores(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """The random baseline: uniform scores.

    Args:
        model: without masks.
        generator: of the scores, on the CPU.

    Returns:
        Weight name -> ``(*shape)``.
    """
    return {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name in prunable_weights(model)
        for weight in [model.get_parameter(name)]
    }


def prune_lowest(
    scores: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    fraction: float,
    ranking: Ranking = "global",
) -> dict[str, Tensor]:
    """Prune the weights of the lowest scores among those that remain.

    Args:
        scores: weight name -> ``(*shape)``.
        kept: weight name -> which entries remain, bool ``(*shape)``.
        fraction: of the remaining entries, from 0 to 1; the number is rounded down.
        ranking: ``global`` compares all weights with each other, ``layer`` prunes the
            fraction of each layer.

    Returns:
        Weight name -> which entries remain afterwards, bool ``(*shape)``.

    Raises:
        InvalidInputError: the fraction is out of range.
    """
    if not 0 <= fraction <= 1:
        raise InvalidInputError(
            f"the fraction to prune is {fraction}; give one from 0 to 1"
        )
    if ranking == "layer":
        parts = [prune_lowest({n: scores[n]}, {n: kept[n]}, fraction) for n in scores]
        return {name: mask for part in parts for name, mask in part.items()}
    flat = torch.cat([scores[name].flatten() for name in kept])
    mask = torch.cat([part.flatten() for part in kept.values()])
    # A small tolerance, since 0.29 * 100 rounds to 28.999...
    count = math.floor(fraction * int(mask.sum()) + 1e-9)
    order = flat.masked_fill(~mask, math.inf).argsort(stable=True)
    mask[order[:count]] = False
    parts_of_mask = mask.split([m.numel() for m in kept.values()])
    named = zip(kept.items(), parts_of_mask, strict=True)
    return {name: part.reshape(old.shape) for (name, old), part in named}


def deletion_curve(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    saliencies: Mapping[str, Tensor],
    fractions: Sequence[float],
    measure: Callable[[nn.Module], Mapping[str, float]],
) -> dict[str, list[Any]]:
    """Predicted and measured error against the fraction pruned, without retraining.

    Args:
        model: without masks; not modified.
        scores: the lowest are pruned first, see :func:`weight_saliencies`.
        saliencies: their sum over the pruned weights is the predicted error.
        fractions: of all prunable weights, each pruned from the full network.
        measure: called with each pruned network; returns further columns of the curve.

    Returns:
        Columns ``deleted`` (the fraction), ``remaining`` (weights) and ``predicted``
        (the increase of the mean error), and those of ``measure``.

    Raises:
        InvalidInputError: a fraction is out of range.
    """
    columns: dict[str, list[Any]] = {}
    whole = {n: torch.ones_like(s, dtype=torch.bool) for n, s in scores.items()}
    for fraction in fractions:
        kept = prune_lowest(scores, whole, fraction)
        row = {
            "deleted": fraction,
            "remaining": sum(int(mask.sum()) for mask in kept.values()),
            "predicted": sum(saliencies[n][~m].sum().item() for n, m in kept.items()),
            **measure(with_masks(model, kept)),
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def unit_scores(
    model: nn.Module, layer: str, scores: Mapping[str, Tensor], probe: Tensor
) -> Tensor:
    """The score of each unit of a layer: the sum of its outgoing weights' scores.

    A unit without outgoing weights has no effect, whatever its incoming weights are, so
    incoming weights are not counted.

    Args:
        model: without masks; any network that ``torch.fx`` can trace.
        layer: the name of a linear or convolutional layer.
        scores: weight name -> ``(*shape)``.
        probe: inputs ``(N, ...)``, for the shapes.

    Returns:
        ``(H,)``.

    Raises:
        InvalidInputError: see :func:`gradnet.surgery.remove.remove_units`.
    """
    group = channel_group(model, layer, probe, exact=False)
    total = torch.zeros(group.width, device=probe.device)
    for channels in group.slices:
        if channels.role == "consumer":
            score = scores[f"{channels.layer}.weight"].movedim(channels.dimension, 0)
            end = channels.offset + group.width * channels.repeat
            score = score[channels.offset : end]
            total = total + score.reshape(group.width, -1).sum(1)
    return total


def remove_weakest_units(
    model: nn.Module, layer: str, scores: Tensor, count: int, probe: Tensor
) -> Edit:
    """Remove the units of the lowest scores, which makes the network smaller.

    Args:
        model: without masks; not modified.
        layer: the name of a linear or convolutional layer.
        scores: ``(H,)``, see :func:`unit_scores`.
        count: how many; at least one unit must remain.
        probe: inputs ``(N, ...)``.

    Returns:
        The edit, see :class:`~gradnet.surgery.edit.Edit`.

    Raises:
        InvalidInputError: see :func:`gradnet.surgery.remove.remove_units`.
    """
    return remove_units(model, layer, scores.argsort()[:count].tolist(), probe=probe)
