"""Recurrent cascade-correlation (Fahlman 1991): hidden units that also see themselves.

A unit's value at the step before comes back by one weight more. Fahlman carries the
derivatives forward in time; here they go backward, to the same gradient for less work.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``S`` sequences of ``L`` steps, whose
``N = S L`` samples stand sequence after sequence; ``K`` outputs, ``D`` inputs.
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
    """Units whose last weight is of their own value at the step before.

    Args:
        count: candidates of each trial.
        steps: ``L``; before the first a unit's value is 0.
        activations: see :class:`~gradnet.constructive.cascade.candidates.PlainUnits`.
    """

    def __init__(
        self, count: int, steps: int, activations: Sequence[str] = ("sigmoid",)
    ) -> None:
        super().__init__(count, activations)
        self.steps = steps

    def connections(self, visible: Tensor) -> Tensor:
        """A weight for each visible column, and the unit's own."""
        return torch.cat([visible, torch.ones_like(visible[..., :1])], 2)

    def initial_weights(
        self, columns: int, weight_range: float, generator: torch.Generator
    ) -> Tensor:
        """Uniform in the range, ``(C, I + 1)``."""
        return uniform((self.count, columns + 1), weight_range, generator)

    def forward(
        self, weights: Tensor, columns: Tensor, members: Tensor
    ) -> tuple[Tensor, Pullback]:
        """See :class:`~gradnet.constructive.cascade.candidates.Units`."""
        trials, count, _ = weights.shape
        own = weights[..., -1:]
        outside = weights[..., :-1] @ columns
        by_step = outside.view(trials, count, -1, self.steps).unbind(3)
        nets, values = [], []
        value = torch.zeros_like(by_step[0])
        for step in by_step:
            nets.append(step + own * value)
            value = self.activate(nets[-1], members)
            values.append(value)

        def pullback(cotangents: Tensor) -> Tensor:
            pulls = cotangents.view(trials, count, -1, self.steps).unbind(3)
            slope = torch.zeros_like(value)
            slopes: list[Tensor] = []
            own_slope = torch.zeros_like(own)
            for step in reversed(range(self.steps)):
                derivative = self.derivative(nets[step], values[step], members)
                slope = (pulls[step] + own * slope) * derivative
                slopes.insert(0, slope)
                if step:
                    own_slope += (slope * values[step - 1]).sum(2, keepdim=True)
            outside_slopes = torch.stack(slopes, 3).flatten(2) @ columns.mT
            return torch.cat([outside_slopes, own_slope], 2)

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
            an output is not judged, as in the padding.
        settings: how it grows.
        seeds: of the trials.

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
    """The outputs of every trial for sequences of any length, ``(T, S, L, K)``.

    Args:
        network: that :func:`recurrent_cascade` grew.
        inputs: ``(S, L, D)``.
        units: hidden units at most; None for all.
    """
    (group,) = network.groups
    assert isinstance(group, RecurrentUnits)
    steps = inputs.shape[1]
    same = RecurrentUnits(group.count, steps, group.activations)
    outputs = replace(network, groups=[same])(inputs.flatten(0, 1), units)
    return outputs.unflatten(1, (-1, steps))
