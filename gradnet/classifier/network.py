"""GradNet: block-sparse first layer, activation, dense output, on gradient features.

| head | output for one gradient | score of a label |
|---|---|---|
| ``sum`` | K logits, as in 2018 | its logits of all K gradients, summed |
| ``scorer`` | one score, the same weights for every label | base logit plus score |
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.classifier.block_sparse import BlockSparseLinear
from gradnet.errors import GradnetError
from gradnet.gradients.factors import FactoredBlock


class GradNet(nn.Module):
    """The two-layer network on gradient features (arXiv 1912.09306, section 3).

    With ``activation="identity"`` the scorer is linear in the gradient: the tangent
    model of the base network around its trained weights.

    Args:
        block_sizes: block name -> ``D``, in network order.
        num_classes: ``K``.
        hidden: units of each group, see :class:`BlockSparseLinear`.
        window: adjacent blocks that a group sees.
        head: ``sum`` or ``scorer``.
        activation: of the hidden units, ``relu`` or ``identity``.
        dropout: probability of dropping a hidden unit in training.
        initial_std: of all weights; None scales the first layer by its fan in and
            starts the scorer at the base network's own logits.

    Raises:
        GradnetError: an argument is out of its range.
    """

    def __init__(
        self,
        block_sizes: Mapping[str, int],
        num_classes: int,
        hidden: int | Sequence[int] = 16,
        window: int = 1,
        head: Literal["sum", "scorer"] = "scorer",
        activation: Literal["relu", "identity"] = "relu",
        dropout: float = 0.0,
        initial_std: float | None = None,
    ) -> None:
        super().__init__()
        if head not in ("sum", "scorer"):
            raise GradnetError(f"no head {head!r}; there are: sum, scorer")
        if activation not in ("relu", "identity"):
            raise GradnetError(f"no activation {activation!r}: give relu or identity")
        if not 0 <= dropout < 1:
            raise GradnetError(f"dropout is {dropout}; it must be from 0 to below 1")
        self.head, self.num_classes = head, num_classes
        is_linear = activation == "identity"
        self.first = BlockSparseLinear(block_sizes, hidden, window, bias=not is_linear)
        self.activation = nn.Identity() if is_linear else nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        # A constant added to every label's score changes nothing: no bias.
        outputs = num_classes if head == "sum" else 1
        self.output = nn.Linear(self.first.out_features, outputs, bias=head == "sum")
        self.reset_parameters(initial_std)

    def reset_parameters(self, std: float | None = None) -> None:
        """New weights; see ``initial_std`` of the class."""
        self.first.reset_parameters(std)
        if std is not None:
            nn.init.normal_(self.output.weight, std=std)
        elif self.head == "sum":
            self.output.reset_parameters()
        elif isinstance(self.activation, nn.Identity):
            # Either factor of a product may start at zero. With this one the first
            # layer is the tangent model itself, learning from the first step.
            self.first.reset_parameters(0.0)
            nn.init.ones_(self.output.weight)
        else:
            nn.init.zeros_(self.output.weight)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, features: Mapping[str, Tensor | FactoredBlock]) -> Tensor:
        """Features, name -> ``(..., D)``, to ``(..., K)`` (sum), ``(...)`` (scorer)."""
        hidden = self.dropout(self.activation(self.first(features)))
        output: Tensor = self.output(hidden)
        return output if self.head == "sum" else output[..., 0]

    def loss(self, outputs: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy against the true labels, summed over the samples.

        Args:
            outputs: ``(N, C, K)`` of gradients at labels drawn at random (sum), or
                ``(N, K)`` of those at all labels in order (scorer).
            logits: the base network's, ``(N, K)``.
            y: true labels ``(N,)``.
        """
        if self.head == "scorer":
            return functional.cross_entropy(logits + outputs, y, reduction="sum")
        targets = y[:, None].expand(outputs.shape[:2])
        total = functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), reduction="sum"
        )
        return total / outputs.shape[1]

    def predict(self, outputs: Tensor, logits: Tensor) -> Tensor:
        """Scores ``(N, K)`` from the outputs for the gradients at all K labels."""
        return logits + outputs if self.head == "scorer" else outputs.sum(1)

    @property
    def is_linear_scorer(self) -> bool:
        """Whether one gradient's score is linear in its features."""
        is_linear = isinstance(self.activation, nn.Identity) and not self.dropout.p
        return self.head == "scorer" and is_linear

    def linear_weights(self) -> dict[str, Tensor]:
        """Of a linear scorer: block name -> ``(D,)``, both layers multiplied out."""
        totals: dict[str, Tensor] = {}
        outputs = self.output.weight[0].split(self.first.hidden)
        for output, blocks in zip(outputs, self.first.weights_by_group(), strict=True):
            for name, weight in blocks.items():
                share = output @ weight
                totals[name] = totals[name] + share if name in totals else share
        return totals

    @torch.no_grad()
    def dense_twin(self) -> nn.Sequential:
        """The same network on flattened gradients, its first layer dense."""
        return nn.Sequential(
            self.first.to_dense(), self.activation, self.dropout, self.output
        )
