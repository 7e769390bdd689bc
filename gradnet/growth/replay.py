"""Replay of a run's edits, for the architecture of a network with stored weights."""

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
    """The network of a stage, with the right shapes and arbitrary weights.

    In stage 0 the weights are those that the run starts from.

    Args:
        method: the growth method.
        seed: of the run.
        stage: number of edits to replay.
        probe: inputs ``(N, channels, h, w)``.
        num_classes: ``K``.
        choices: the recorded choice of each edit.
        start: the network that the run started from, not modified; None for the
            method's initial network.

    Returns:
        The network, on the probe's device.

    Raises:
        InvalidInputError: the method cannot start from that network.
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
