"""The edits of a run made again, for the shapes of a network whose weights are kept."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradnet.core.reproducibility import derive_seed, isolated_randomness
from gradnet.growth.method import EditContext, GrowthMethod

PROBE_SIZE = 64


def replay(
    method: GrowthMethod,
    seed: int,
    stage: int,
    probe: Tensor,
    num_classes: int,
    choices: Sequence[str | None] = (),
    start: nn.Module | None = None,
) -> nn.Module:
    """The network of a stage, with the right shapes and weights that do not count.

    In stage 0 the weights are those that the run starts from.

    Args:
        method: that it grows by.
        seed: of the run.
        stage: how many edits are made.
        probe: inputs ``(N, channels, h, w)``.
        num_classes: ``K``.
        choices: of the edits, where any had one.
        start: the network to begin with, left as it is; None for the method's own.

    Raises:
        GradnetError: the method cannot begin with that network.
    """
    shape = tuple(probe.shape[1:])
    with isolated_randomness():
        torch.manual_seed(derive_seed("initial model", seed))
        model = (
            method.begin_with(start, shape, num_classes)  # type: ignore[arg-type]
            if start is not None
            else method.initial_model(shape, num_classes)  # type: ignore[arg-type]
        )
    model = model.to(probe.device)
    for number in range(1, stage + 1):
        choice = choices[number - 1] if choices else None
        context = EditContext(number, probe, seed, choice=choice, is_replayed=True)
        model = method.edit(model, context).model
    return model
