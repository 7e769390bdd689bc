"""What a growth run has made, and what it cost."""

from dataclasses import dataclass, field

from torch import nn

from gradnet.core.flops import Flops
from gradnet.growth.method import GrowthHistory
from gradnet.surgery.masks import count_remaining
from gradnet.training.history import Environment


@dataclass
class Growth:
    """A network that grows, and what it cost so far.

    Attributes:
        model: as it is now.
        history: records of evaluations and edits.
        flops: of all training.
        seconds: of all, evaluations counted in.
        training_seconds: of training steps, and of what a frozen trunk's outputs took.
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
        """How many there are, without those that are deleted and stay zero."""
        return count_remaining(self.model)
