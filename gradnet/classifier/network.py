"""GradNet: block-sparse first layer, activation, dense output, on gradient features.

| head | output for one gradient | score of a label |
|---|---|---|
| ``sum`` | K logits, as in 2018 | its logits, summed over all K gradients |
| ``scorer`` | one score, the same weights for every label | base logit plus score |
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.classifier.block_sparse import BlockSparseLinear
from gradnet.errors import InvalidInputError
from gradnet.gradients.factors import FactoredBlock


class GradNet(nn.Module):
    """The two-layer network on gradient features (arXiv 1912.09306, section 3).

    With ``activation="identity"`` the scorer is linear in the gradient: the tangent
    model of the base network around its trained weights.

    Args:
        block_sizes: block name -> ``D``, in network order.
        num_classes: ``K``.
        hidden: units of each group, see :class:`BlockSparseLinear`.
        window: the number of adjacent blocks that a group sees.
        head: ``sum`` or ``scorer``.
        activation: of the hidden units, ``relu`` or ``identity``.
        dropout: probability of dropping a hidden unit in training.
        initial_std: of all weights; None scales the first layer by its fan-in, and
            lets the scorer start at the base network's own logits.

    Raises:
        InvalidInputError: an argument is out of its range.

    Example:
        >>> network = GradNet({"conv": 6, "fc": 4}, num_classes=3, head="scorer")
        >>> features = {"conv": torch.ones(5, 3, 6), "fc": torch.ones(5, 3, 4)}
        >>> outputs = network(features)  # of 5 samples at all 3 labels
        >>> logits = torch.zeros(5, 3)
        >>> network.predict(outputs, logits).shape
        torch.Size([5, 3])
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
            raise InvalidInputError(f"no head {head!r}; there are: sum, scorer")
        if activation not in ("relu", "identity"):
            raise InvalidInputError(
                f"no activation {activation!r}: give relu or identity"
            )
        if not 0 <= dropout < 1:
            raise InvalidInputError(
                f"dropout is {dropout}; it must be from 0 to below 1"
            )
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
        """Draw new weights.

        Args:
            std: see ``initial_std`` of the class.
        """
        self.first.reset_parameters(std)
        if std is not None:
            nn.init.normal_(self.output.weight, std=std)
        elif self.head == "sum":
            self.output.reset_parameters()
        elif isinstance(self.activation, nn.Identity):
            # One factor of a product may start at zero. With this one the first layer
            # is the tangent model itself, and it learns from the first step.
            self.first.reset_parameters(0.0)
            nn.init.ones_(self.output.weight)
        else:
            nn.init.zeros_(self.output.weight)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, features: Mapping[str, Tensor | FactoredBlock]) -> Tensor:
        """The outputs for gradients.

        Args:
            features: block name -> ``(..., D)``.

        Returns:
            ``(..., K)`` of the sum head, ``(...)`` of the scorer.
        """
        hidden = self.dropout(self.activation(self.first(features)))
        output: Tensor = self.output(hidden)
        return output if self.head == "sum" else output[..., 0]

    def loss(self, outputs: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy against the true labels, summed over the samples.

        Args:
            outputs: for the gradients at random labels, ``(N, C, K)``, of the sum head;
                for the gradients at all labels in order, ``(N, K)``, of the scorer.
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
        """Scores ``(N, K)`` by the gradients at all K labels.

        Args:
            outputs: ``(N, K, K)`` of the sum head, ``(N, K)`` of the scorer.
            logits: the base network's, ``(N, K)``.
        """
        return logits + outputs if self.head == "scorer" else outputs.sum(1)

    @property
    def is_linear_scorer(self) -> bool:
        """Whether one gradient's score is linear in its features."""
        is_linear = isinstance(self.activation, nn.Identity) and not self.dropout.p
        return self.head == "scorer" and is_linear

    def linear_weights(self) -> dict[str, Tensor]:
        """The product of both layers of a linear scorer, block name -> ``(D,)``."""
        totals: dict[str, Tensor] = {}
        outputs = self.output.weight[0].split(self.first.hidden)
        for output, blocks in zip(outputs, self.first.weights_by_group(), strict=True):
            for name, weight in blocks.items():
                term = output @ weight
                totals[name] = totals[name] + term if name in totals else term
        return totals

    @torch.no_grad()
    def to_dense(self) -> nn.Sequential:
        """An equal network on flattened gradients ``(..., P)``, dense throughout."""
        return nn.Sequential(
            self.first.to_dense(), self.activation, self.dropout, self.output
        )
