"""How a network is trained: steps, batches, optimizer, schedule, patience."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn

from gradnet.core.constraints import Range
from gradnet.core.validation import Count, NonNegative, Positive, Validated
from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class TrainingSettings(Validated):
    """How a network is trained.

    Attributes:
        steps: optimizer steps at most.
        batch_size: samples a step.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: at the start.
        momentum: of ``sgd``.
        weight_decay: as the optimizer defines it (L2 for ``sgd``, decoupled for
            ``adamw``).
        schedule: ``constant``, or ``cosine`` down to zero at the last step.
        evaluate_every: steps between evaluations on the validation part.
        patience: stop after so many evaluations without a better one; None never does.
    """

    steps: Count = 4000
    batch_size: Count = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.01
    momentum: Annotated[float, Range(0, below=1)] = 0.9
    weight_decay: NonNegative = 5e-4
    schedule: Literal["constant", "cosine"] = "constant"
    evaluate_every: Count = 50
    patience: Count | None = None

    def make_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the module's trainable parameters.

        Raises:
            InvalidInputError: no parameter is trainable, or the optimizer is unknown.
        """
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise InvalidInputError("the network has no trainable parameters")
        rate, decay = self.learning_rate, self.weight_decay
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, lr=rate, momentum=self.momentum, weight_decay=decay
            )
        if self.optimizer == "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        raise InvalidInputError(
            f"no optimizer {self.optimizer!r}; there are: sgd, adamw"
        )

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2
