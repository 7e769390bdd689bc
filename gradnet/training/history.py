"""What a training run did: its evaluations, its time, where it ran."""

from dataclasses import dataclass, field
from typing import Any

Environment = dict[str, Any]


@dataclass
class History:
    """What a training run did.

    Attributes:
        records: one for each evaluation: ``step``, ``train_loss``, ``accuracy``,
            ``loss``, ``seconds`` since the start, earlier runs counted in.
        seconds: of the whole run, evaluations counted in.
        training_seconds: of the steps alone.
        best_step: the step of the best evaluation.
        environments: in which it was trained: more than one where it was continued in
            another; see :func:`gradnet.core.reproducibility.environment`.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    training_seconds: float = 0.0
    best_step: int = -1
    environments: list[Environment] = field(default_factory=list)

    @property
    def best(self) -> dict[str, float]:
        """The record of the best evaluation."""
        return next(r for r in self.records if r["step"] == self.best_step)

    @property
    def evaluations_since_best(self) -> int:
        """How many evaluations the best one lies back."""
        return sum(record["step"] > self.best_step for record in self.records)


def merged(before: list[Environment], further: list[Environment]) -> list[Environment]:
    """The environments of a run in two parts, each named once, in order."""
    return [*before, *(one for one in further if one not in before)]
