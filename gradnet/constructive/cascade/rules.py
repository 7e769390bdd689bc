"""Rules compiled to networks, as candidates for cascade-correlation.

J.-P. Thivierge, F. Dandurand and T. R. Shultz, Transferring domain rules in a
constructive network: introducing RBCC, IJCNN 2004. Each rule becomes a steep sigmoid
unit, used as a source of
:class:`gradnet.constructive.cascade.knowledge.KnowledgeUnits`. The encoding of rules is
not the paper's, and its pruning step is not included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class Not:
    """Negation of an input or a rule.

    Attributes:
        of: the index of an input, or a rule.
    """

    of: "int | NOfM | Not"


@dataclass(frozen=True)
class NOfM:
    """A rule that holds if at least ``least`` of its antecedents hold.

    Attributes:
        least: number of antecedents that must hold.
        antecedents: indices of inputs, or rules.
    """

    least: int
    antecedents: Sequence["int | NOfM | Not"]

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: there are fewer than ``least`` antecedents, or none.
        """
        if not 1 <= self.least <= len(self.antecedents):
            raise InvalidInputError(
                f"at least {self.least} of {len(self.antecedents)} antecedents is no "
                "rule; give from 1 up to their number"
            )


def all_of(*antecedents: "int | NOfM | Not") -> NOfM:
    """The rule that all antecedents hold (AND)."""
    return NOfM(len(antecedents), antecedents)


def any_of(*antecedents: "int | NOfM | Not") -> NOfM:
    """The rule that at least one antecedent holds (OR)."""
    return NOfM(1, antecedents)


class RuleNetwork(nn.Module):
    """A rule as a network of ``(N, D)`` inputs to one output ``(N, 1)``.

    A nested rule reads the output of the inner one, which is only close to 0 or 1, so
    its steepness must exceed twice its number of antecedents times their error.

    Args:
        rule: the rule to compute.
        steepness: the weight of each antecedent; from 6 on truth tables are exact at a
            threshold of a half.
        coding: of false and true in the inputs: 0 and 1, or -1 and 1.
        centered: the output lies between -0.5 and 0.5, as of sigmoid units here, else
            between 0 and 1.
    """

    def __init__(
        self,
        rule: "int | NOfM | Not",
        steepness: float = 6.0,
        coding: Literal["binary", "signed"] = "binary",
        centered: bool = True,
    ) -> None:
        super().__init__()
        self.rule = rule if isinstance(rule, NOfM) else NOfM(1, [rule])
        self.steepness, self.coding, self.centered = steepness, coding, centered

    def forward(self, inputs: Tensor) -> Tensor:
        """The truth value of the rule for each sample."""
        if self.coding == "signed":
            inputs = (inputs + 1) / 2
        return self._truth(self.rule, inputs)[:, None] - 0.5 * self.centered

    def _truth(self, rule: "int | NOfM | Not", inputs: Tensor) -> Tensor:
        if isinstance(rule, int):
            return inputs[:, rule]
        if isinstance(rule, Not):
            return 1 - self._truth(rule.of, inputs)
        weights, bias = threshold_weights(rule, self.steepness)
        rows = []
        for antecedent in rule.antecedents:
            inner = antecedent.of if isinstance(antecedent, Not) else antecedent
            rows.append(self._truth(inner, inputs))
        net = torch.stack(rows, 1) @ weights.to(inputs) + bias
        return torch.sigmoid(net)


def threshold_weights(rule: NOfM, steepness: float) -> tuple[Tensor, float]:
    """The weights and the bias of a rule's unit, for antecedents of 0 and 1.

    Args:
        rule: ``n`` of ``M`` antecedents, of which any may be negated.
        steepness: magnitude of every weight.

    Returns:
        Weights ``(M,)`` of the antecedents before negation, and the bias.
    """
    negated = torch.tensor([isinstance(a, Not) for a in rule.antecedents])
    weights = torch.where(negated, -steepness, steepness)
    return weights, -steepness * (rule.least - 0.5 - int(negated.sum()))
