"""Knowledge-based cascade-correlation (Shultz and Rivest 2001).

T. R. Shultz and F. Rivest, Knowledge-based cascade-correlation, Connection Science
13(1), 2001. Candidates are trained networks (sources): the source is frozen, and only
the weights from the features to its inputs are trained. Any module can be a source.
Unlike in the paper, the score is not divided by the number of the network's outputs;
this factor is the same for all candidates.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and ``D`` inputs of the
network, ``J`` inputs of a source.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gradnet.constructive.cascade.candidates import Pullback, uniform
from gradnet.errors import InvalidInputError
from gradnet.models.activations import activation


class KnowledgeUnits:
    """Candidates whose activation is the output of a trained network, the source.

    Args:
        source: maps ``(N, J)`` to ``(N, M)``, each sample independently. It is put into
            evaluation mode and frozen.
        inputs: ``J``.
        count: number of candidates of each trial.
        direct: initialize the first candidate so that it passes the network's inputs to
            the source; then ``J`` must be ``D``.
        dtype: of the source.

    Raises:
        InvalidInputError: the source does not map ``(N, J)`` to ``(N, M)``.
    """

    def __init__(
        self,
        source: nn.Module,
        inputs: int,
        count: int,
        direct: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.source = source.eval().requires_grad_(False)
        self.inputs, self.count, self.direct = inputs, count, direct
        parameter = next(source.parameters(), torch.empty(0))
        probe = torch.zeros(2, inputs, dtype=dtype, device=parameter.device)
        with torch.no_grad():
            try:
                found = source(probe)
            except (RuntimeError, TypeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise InvalidInputError(
                    f"the source fails on inputs (2, {inputs}) of {dtype}: {reason}"
                ) from None
        if found.ndim != 2 or len(found) != 2:
            raise InvalidInputError(
                f"the source maps (2, {inputs}) to {tuple(found.shape)}; it must map "
                "(N, J) to (N, M)"
            )
        self.outputs = found.shape[1]

    def connection_mask(self, visible: Tensor) -> Tensor:
        """A weight for each connected feature and input of the source."""
        return visible.repeat(1, 1, self.inputs)

    def initial_weights(
        self, features: int, weight_range: float, generator: torch.Generator
    ) -> Tensor:
        """Uniform in the range, ``(C, J I)``; 0 and 1 for the direct candidate.

        Raises:
            InvalidInputError: ``direct`` is set, and the source has more inputs than
                the network.
        """
        draws = uniform((self.count, self.inputs * features), weight_range, generator)
        if self.direct:
            if features < 1 + self.inputs:
                raise InvalidInputError(
                    f"the source has {self.inputs} inputs, the network only "
                    f"{features - 1}; leave out direct=True"
                )
            draws[0] = (
                torch.eye(self.inputs, features + 1, dtype=draws.dtype)[:, :features]
                .roll(1, 1)
                .flatten()
            )
        return draws

    def forward(
        self, weights: Tensor, features: Tensor, members: Tensor
    ) -> tuple[Tensor, Pullback]:
        """See :class:`~gradnet.constructive.cascade.candidates.Units`."""
        trials, count, _ = weights.shape
        rows = weights.view(trials, count * self.inputs, -1)
        nets = (rows @ features).view(trials, count, self.inputs, -1)
        nets = nets.detach().requires_grad_(True)
        with torch.enable_grad():
            outputs = self.source(nets.movedim(2, 3).reshape(-1, self.inputs))
            values = outputs.view(trials, count, -1, self.outputs).movedim(3, 2)

        def pullback(cotangents: Tensor) -> Tensor:
            (deltas,) = torch.autograd.grad(values, nets, cotangents)
            flat = deltas.reshape(trials, count * self.inputs, -1)
            return (flat @ features.mT).view(trials, count, -1)

        return values.detach().contiguous(), pullback


class UnitSource(nn.Module):
    """An activation function as a source with one input.

    Args:
        name: of :data:`gradnet.models.activations.ACTIVATIONS`.
    """

    def __init__(self, name: str = "sigmoid") -> None:
        super().__init__()
        self.name = name

    def forward(self, net: Tensor) -> Tensor:
        """The activations, with the derivative that :class:`PlainUnits` uses."""
        return _Value.apply(net, self.name)


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, net: Tensor, name: str) -> Tensor:
        value = activation(name).value(net)
        ctx.save_for_backward(net, value)
        ctx.name = name
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * activation(ctx.name).derivative(*ctx.saved_tensors), None
