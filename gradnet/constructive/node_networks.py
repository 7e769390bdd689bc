"""Small sigmoid networks with one hidden layer, a batch of them trained at once.

Letters: ``T`` networks, ``D`` inputs, ``H`` hidden units of the largest network, ``K``
outputs, ``N`` patterns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass
class Networks:
    """A batch of networks of several sizes, padded to the largest.

    Hidden unit 0 is the bias of the outputs: its incoming weights are 0, so that its
    sigmoid is 1/2, and a scale of 2 makes it 1; no gradient reaches its incoming
    weights. Padding units have a scale of 0, so that they output 0 and get no gradient.

    Attributes:
        incoming: incoming weights of the hidden units, biases first,
            ``(T, 1 + H, 1 + D)``.
        outgoing: outgoing weights of the hidden units, ``(T, 1 + H, K)``.
        scale: factor of each hidden unit's output, ``(T, 1 + H, 1)``.
    """

    incoming: Tensor
    outgoing: Tensor
    scale: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs between 0 and 1, ``(T, N, K)``, for inputs ``(N, D)``."""
        return self.values(as_columns(inputs))[1].mT

    def values(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The forward pass.

        Args:
            columns: of :func:`as_columns`, ``(1 + D, N)``.

        Returns:
            The activations of the hidden units ``(T, 1 + H, N)`` and the outputs
            ``(T, K, N)``.
        """
        hidden = (self.incoming @ columns).sigmoid() * self.scale
        return hidden, (self.outgoing.mT @ hidden).sigmoid()


def as_columns(inputs: Tensor) -> Tensor:
    """The inputs ``(N, D)`` transposed, one column per pattern, below a row of ones."""
    return functional.pad(inputs, (1, 0), value=1.0).mT.contiguous()


@dataclass
class TrainableNetworks(Networks):
    """Networks that are trained by gradient descent with momentum.

    Attributes:
        incoming_steps: last update of the incoming weights, ``(T, 1 + H, 1 + D)``.
        outgoing_steps: last update of the outgoing weights, ``(T, 1 + H, K)``.
        trains: 1 for units whose incoming weights are trained, else 0,
            ``(T, 1 + H, 1)``.
    """

    incoming_steps: Tensor
    outgoing_steps: Tensor
    trains: Tensor

    @classmethod
    def without_units(cls, biases: Tensor, inputs: int) -> "TrainableNetworks":
        """Networks without hidden units.

        Args:
            biases: of the outputs, ``(T, K)``.
            inputs: ``D``.

        Returns:
            The networks, with no momentum.
        """
        incoming = biases.new_zeros(len(biases), 1, 1 + inputs)
        outgoing = biases[:, None].clone()
        none = torch.zeros_like(incoming[..., :1])
        steps = torch.zeros_like(incoming), torch.zeros_like(outgoing)
        return cls(incoming, outgoing, none + 2, *steps, none)

    def map(self, change: Callable[[Tensor], Tensor]) -> "TrainableNetworks":
        """Networks whose tensors are those of these, each mapped by the function."""
        return TrainableNetworks(*map(change, vars(self).values()))

    def padded(self) -> "TrainableNetworks":
        """The same networks, padded by one unused hidden unit."""
        return self.map(lambda values: functional.pad(values, (0, 0, 0, 1)))

    def set_unit(
        self, index: int, unit: int, weights: tuple[Tensor, Tensor], freeze_others: bool
    ) -> None:
        """Add a hidden unit to one network.

        Args:
            index: of the network in the batch.
            unit: its number, counted from 1.
            weights: incoming ``(1 + D,)`` and outgoing ``(K,)``.
            freeze_others: stop training the incoming weights of the network's other
                units.
        """
        self.incoming[index, unit], self.outgoing[index, unit] = weights
        self.scale[index, unit] = 1
        if freeze_others:
            self.trains[index] = 0
            self.incoming_steps[index] = 0
        self.trains[index, unit] = 1

    def train_step(
        self, columns: Tensor, targets: Tensor, rate: float, momentum: float
    ) -> None:
        """Update all weights once, in place, by the gradient summed over patterns.

        Args:
            columns: inputs, see :func:`as_columns`, ``(1 + D, N)``.
            targets: ``(K, N)``.
            rate: multiplies the gradient of half the squared error.
            momentum: multiplies the last update.
        """
        sigmoid_backward = torch.ops.aten.sigmoid_backward
        hidden, outputs = self.values(columns)
        errors = sigmoid_backward(outputs - targets, outputs)
        deltas = sigmoid_backward(self.outgoing @ errors, hidden) * self.trains
        rows = columns.mT.expand(len(deltas), -1, -1)
        self.outgoing_steps.baddbmm_(hidden, errors.mT, beta=momentum, alpha=-rate)
        self.incoming_steps.baddbmm_(deltas, rows, beta=momentum, alpha=-rate)
        self.outgoing += self.outgoing_steps
        self.incoming += self.incoming_steps
