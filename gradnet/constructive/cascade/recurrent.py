"""Recurrent cascade-correlation (Fahlman 1991): hidden units with a self-connection.

S. E. Fahlman, The recurrent cascade-correlation architecture, NIPS 3, 1991. A unit also
sees its own value at the previous step. The paper propagates derivatives forward in
time; here they are propagated backward, which gives the same gradient for less work.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and ``S`` sequences of
``L`` steps, whose ``N = S L`` samples are ordered sequence by sequence; ``K`` outputs,
``D`` inputs.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gradnet.constructive.cascade.candidates import PlainUnits, Pullback, uniform
from gradnet.constructive.cascade.network import CascadeNetwork
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import CascadeResult, cascade_correlation
from gradnet.errors import InvalidInputError


class RecurrentUnits(PlainUnits):
    """Units whose last weight is that of their own value at the previous step.

    Args:
        count: number of candidates of each trial.
        steps: ``L``; before the first step a unit's value is 0.
        activations: see :class:`~gradnet.constructive.cascade.candidates.PlainUnits`.
    """

    def __init__(
        self, count: int, steps: int, activations: Sequence[str] = ("sigmoid",)
    ) -> None:
        super().__init__(count, activations)
        self.steps = steps

    def connection_mask(self, visible: Tensor) -> Tensor:
        """A weight for each connected feature, and the self-connection."""
        return torch.cat([visible, torch.ones_like(visible[..., :1])], 2)

    def initial_weights(
        self, features: int, weight_range: float, generator: torch.Generator
    ) -> Tensor:
        """Uniform in the range, ``(C, I + 1)``."""
        return uniform((self.count, features + 1), weight_range, generator)

    def forward(
        self, weights: Tensor, features: Tensor, members: Tensor
    ) -> tuple[Tensor, Pullback]:
        """See :class:`~gradnet.constructive.cascade.candidates.Units`."""
        trials, count, _ = weights.shape
        self_weight = weights[..., -1:]
        external = weights[..., :-1] @ features
        external_by_step = external.view(trials, count, -1, self.steps).unbind(3)
        nets, values = [], []
        value = torch.zeros_like(external_by_step[0])
        for step in external_by_step:
            nets.append(step + self_weight * value)
            value = self.activate(nets[-1], members)
            values.append(value)

        def pullback(cotangents: Tensor) -> Tensor:
            by_step = cotangents.view(trials, count, -1, self.steps).unbind(3)
            delta = torch.zeros_like(value)  # of the net input
            deltas: list[Tensor] = []
            self_gradient = torch.zeros_like(self_weight)
            for step in reversed(range(self.steps)):
                derivative = self.derivative(nets[step], values[step], members)
                delta = (by_step[step] + self_weight * delta) * derivative
                deltas.insert(0, delta)
                if step:
                    self_gradient += (delta * values[step - 1]).sum(2, keepdim=True)
            gradient = torch.stack(deltas, 3).flatten(2) @ features.mT
            return torch.cat([gradient, self_gradient], 2)

        return torch.stack(values, 3).view(trials, count, 1, -1), pullback


def recurrent_cascade(
    inputs: Tensor,
    targets: Tensor,
    settings: CascadeSettings | None = None,
    *,
    seeds: Sequence[int] = (0,),
) -> CascadeResult:
    """Grow one recurrent network per seed.

    Args:
        inputs: ``(S, L, D)``; shorter sequences are padded at their end.
        targets: ``(S, L, K)``, as for
            :func:`~gradnet.constructive.cascade.trainer.cascade_correlation`; NaN where
            a target is missing, as in the padding.
        settings: how the networks grow; None for the defaults.
        seeds: one for each trial.

    Returns:
        The networks; :func:`recurrent_outputs` applies them to other sequences.

    Raises:
        InvalidInputError: the shapes of the sequences do not match.
    """
    settings = settings or CascadeSettings()
    if inputs.ndim != 3 or targets.ndim != 3 or inputs.shape[:2] != targets.shape[:2]:
        raise InvalidInputError(
            f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} do not "
            "match; give (S, L, D) and (S, L, K)"
        )
    units = RecurrentUnits(settings.pool, inputs.shape[1], settings.activations)
    return cascade_correlation(
        inputs.flatten(0, 1),
        targets.flatten(0, 1),
        settings,
        seeds=seeds,
        groups=[units],
    )


def recurrent_outputs(
    network: CascadeNetwork, inputs: Tensor, units: int | None = None
) -> Tensor:
    """The outputs of every trial for sequences of any length.

    Args:
        network: of :func:`recurrent_cascade`.
        inputs: ``(S, L, D)``.
        units: maximum number of hidden units; None for all.

    Returns:
        ``(T, S, L, K)``.

    Raises:
        InvalidInputError: the network is not recurrent.
    """
    group = network.groups[0]
    if len(network.groups) != 1 or not isinstance(group, RecurrentUnits):
        raise InvalidInputError(
            "the network has other units than RecurrentUnits; give one of "
            "recurrent_cascade, or call the network itself"
        )
    steps = inputs.shape[1]
    units_of_length = RecurrentUnits(group.count, steps, group.activations)
    outputs = replace(network, groups=[units_of_length])(inputs.flatten(0, 1), units)
    return outputs.unflatten(1, (-1, steps))
