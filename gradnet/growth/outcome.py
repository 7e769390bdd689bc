"""The outcome of a growth run: its network, its history and its costs."""

from dataclasses import dataclass, field

from torch import nn

from gradnet.core.flops import Flops
from gradnet.growth.method import GrowthHistory
from gradnet.surgery.masks import count_remaining
from gradnet.training.history import Environment


@dataclass
class Growth:
    """A growing network, and its costs so far.

    Attributes:
        model: the current network.
        history: records of evaluations and edits.
        flops: FLOPs of all training.
        seconds: duration, including evaluations.
        training_seconds: duration of training steps, edits and frozen trunks.
        environments: see :class:`gradnet.training.history.History`.
    """

    model: nn.Module
    history: GrowthHistory
    flops: Flops = field(default_factory=Flops)
    seconds: float = 0.0
    training_seconds: float = 0.0
    environments: list[Environment] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """The number of parameters that are not pruned."""
        return count_remaining(self.model)
