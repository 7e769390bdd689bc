"""A growth method of your own, and a name for it.

It doubles the hidden layer at regular steps. ``gradnet grow doubling`` works too once
an installed package declares an entry point of the group ``gradnet.growth_methods``.
"""

from dataclasses import dataclass, field

from torch import nn

from gradnet import TrainingSettings
from gradnet.data import ProblemSettings, make_problem
from gradnet.growth import GROWTH, GrowthMethod, register_growth_method
from gradnet.growth.method import EditContext, Schedule
from gradnet.growth.run import grow
from gradnet.models import build_model
from gradnet.surgery import Edit, widen


@dataclass(frozen=True, kw_only=True)
class Doubling(GrowthMethod):
    """Double the hidden layer again and again (Net2WiderNet, arXiv 1511.05641).

    Attributes:
        hidden: units of the first network.
        doublings: how many edits.
    """

    growth: Schedule = field(default_factory=lambda: Schedule(every=75))
    hidden: int = 8
    doublings: int = 3

    @property
    def preserves_function(self) -> bool:
        """Copied units, whose outgoing weights share the old ones."""
        return True

    @property
    def edits(self) -> int:
        """One for each doubling."""
        return self.doublings

    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """A perceptron with one hidden layer."""
        return build_model(
            "mlp",
            in_channels=input_shape[0],
            image_size=input_shape[1],
            num_classes=num_classes,
            hidden=[self.hidden],
        )

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Widen the hidden layer; only the stage decides how wide it becomes."""
        width = self.hidden * 2**context.stage
        return widen(
            model, "linear0", width, probe=context.probe, generator=context.generator()
        )


register_growth_method("doubling", Doubling)
method = GROWTH["doubling"](
    training=TrainingSettings(steps=300, learning_rate=0.05, evaluate_every=50)
)
result = grow(method, make_problem(ProblemSettings(data="digits")).all_training)
for edit in result.history.edits:
    before, after = edit["parameters"]
    print(f"step {edit['step']}: {before} -> {after} parameters")
print(f"validation accuracy {result.history.records[-1]['accuracy']:.3f}")
