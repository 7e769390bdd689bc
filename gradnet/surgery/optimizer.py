"""Transfer of an optimizer's state, such as Adam's moments, to an edited network."""

import copy
import inspect
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit, Origin

AnyOptimizer = TypeVar("AnyOptimizer", bound=torch.optim.Optimizer)

# Name of a state tensor -> the power of the gradient that it is proportional to.
POWERS = {
    torch.optim.SGD: {"momentum_buffer": 1},
    torch.optim.Adam: {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2},
    torch.optim.AdamW: {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2},
    # RMSprop's momentum sums gradients divided by their root mean square.
    torch.optim.RMSprop: {"square_avg": 2, "grad_avg": 1, "momentum_buffer": 0},
}


def transfer_optimizer(optimizer: AnyOptimizer, edit: Edit) -> AnyOptimizer:
    """The optimizer of the network before an edit, for the network after it.

    The new optimizer has the same parameter groups with the same settings (learning
    rate schedulers have to be created anew), over the parameters of ``edit.model`` that
    require gradients:

    * A parameter with a source stays in its source's group. Its moments are the
      source's at the entries' new indices, times the factor by which the edit changed
      the gradient (squared for second moments); step counts are kept. RMSprop's
      momentum sums gradients in units of their own root mean square, so that the
      factor cancels except for its sign. Where weight decay is added to the gradient
      (not in AdamW), its share of the moments is multiplied by the same factor, which
      is not exact for split weights.
    * New entries of such a parameter start with zero first moments, and with the mean
      of the old entries' second moments: with zeros, and the bias correction of the old
      entries' many steps, Adam would move them by up to seven times the learning rate
      at once.
    * A parameter without a source, or whose source was in no group, starts without
      state, as at an optimizer's first step. It joins the group of the nearest
      preceding parameter of its kind (weights of two or more dimensions, or vectors
      such as biases); if there is none, the last group.

    Args:
        optimizer: of ``edit.before``; SGD, Adam, AdamW or RMSprop; not modified.
        edit: the edit of the network.

    Returns:
        An optimizer of the same type over parameters of ``edit.model``.

    Raises:
        InvalidInputError: the optimizer is of another type or trains another network,
            or no parameter of the edited network requires a gradient.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gradnet.surgery import widen
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        >>> edit = widen(model, "0", 5, probe=torch.ones(2, 4))
        >>> optimizer = transfer_optimizer(optimizer, edit)
        >>> optimizer.param_groups[0]["lr"], len(optimizer.param_groups[0]["params"])
        (0.01, 4)
    """
    kind = type(optimizer)
    if kind not in POWERS:
        raise InvalidInputError(
            f"the state of {kind.__name__} cannot be transferred to an edited network; "
            f"use one of {', '.join(known.__name__ for known in POWERS)}, or create a "
            "new optimizer"
        )
    group_of = _groups_by_source(optimizer, edit.before)
    sources = dict(edit.before.named_parameters(remove_duplicate=False))
    groups: list[list[tuple[str, nn.Parameter]]] = [[] for _ in optimizer.param_groups]
    state: dict[Tensor, dict[str, Any]] = {}
    latest: dict[bool, int] = {}
    for name, parameter in edit.model.named_parameters():
        if not parameter.requires_grad:
            continue
        origin = edit.origins.get(name)
        is_weight = parameter.ndim > 1
        if origin is not None and origin.source in group_of:
            latest[is_weight] = group_of[origin.source]
            old = optimizer.state.get(sources[origin.source])
            if old:
                state[parameter] = _transferred_state(old, origin, POWERS[kind])
        groups[latest.get(is_weight, -1)].append((name, parameter))
    if not any(groups):
        raise InvalidInputError(
            "no parameter of the edited network requires a gradient; unfreeze some"
        )
    new = _new_optimizer(optimizer, groups)
    new.state.update(state)
    return new


def _groups_by_source(
    optimizer: torch.optim.Optimizer, before: nn.Module
) -> dict[str, int]:
    """Name of each parameter before the edit -> index of its group."""
    group_of = {
        id(parameter): index
        for index, group in enumerate(optimizer.param_groups)
        for parameter in group["params"]
    }
    named = list(before.named_parameters(remove_duplicate=False))
    if not group_of.keys() <= {id(parameter) for _, parameter in named}:
        raise InvalidInputError(
            "the optimizer has parameters that the network before the edit lacks; give "
            "the optimizer that trained that network"
        )
    return {name: group_of[id(p)] for name, p in named if id(p) in group_of}


def _new_optimizer(
    optimizer: AnyOptimizer, groups: list[list[tuple[str, nn.Parameter]]]
) -> AnyOptimizer:
    """A new optimizer without state, with the settings of each old group."""
    kind = type(optimizer)
    new_groups = []
    for old, members in zip(optimizer.param_groups, groups, strict=True):
        settings = {k: v for k, v in old.items() if k not in ("params", "param_names")}
        named = "param_names" in old
        parameters = members if named else [parameter for _, parameter in members]
        new_groups.append({"params": parameters, **copy.deepcopy(settings)})
    arguments = inspect.signature(kind).parameters
    defaults = {k: v for k, v in optimizer.defaults.items() if k in arguments}
    return kind(new_groups, **copy.deepcopy(defaults))


def _transferred_state(
    old: dict[str, Any], origin: Origin, powers: dict[str, int]
) -> dict[str, Any]:
    """The state of a parameter, from that of its source."""
    new: dict[str, Any] = {}
    for key, value in old.items():
        if key not in powers or not isinstance(value, Tensor):
            new[key] = copy.deepcopy(value)
            continue
        moved = origin.gather(value)
        factor = origin.gradient_factor(moved)
        power = powers[key]
        moved = moved * (factor**power if power else factor.sign())
        if power == 2:
            is_new = origin.gather(torch.ones_like(value)) == 0
            moved = torch.where(is_new, value.mean(), moved)
        new[key] = moved
    return new
