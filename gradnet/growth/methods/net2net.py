"""Net2Net: a trained teacher becomes a wider or deeper student.

T. Chen, I. Goodfellow and J. Shlens, Net2Net: accelerating learning via knowledge
transfer, ICLR 2016, arXiv 1511.05641. As in the paper, the student continues with a
tenth of the teacher's learning rate. Unlike there, outgoing weights are divided
unequally among copies, which diverge without noise.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from gradnet.growth.method import EditContext, GrowthMethod, insertion_order
from gradnet.growth.methods.named_network import NamedNetwork
from gradnet.models import shape_arguments
from gradnet.models.convnet import ConvNet
from gradnet.surgery.composition import compose
from gradnet.surgery.deepen import deepen
from gradnet.surgery.edit import Edit, certify, identity_origins
from gradnet.surgery.widen import widen
from gradnet.training.loop import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Net2Net(GrowthMethod):
    """What the wider and the deeper form share.

    Attributes:
        training: of the teacher; the students' rate is ``student_rate`` of its.
        student_rate: 0.1 as in the paper.
    """

    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=6000, learning_rate=0.05, weight_decay=0.0, evaluate_every=500
        )
    )
    student_rate: float = 0.1

    @property
    def carries_optimizer(self) -> bool:
        """True: old weights are kept in every variant, and so is their momentum."""
        return True

    def training_at(self, stage: int) -> TrainingSettings:
        """The teacher's settings, with the students' rate after the first stage."""
        if stage == 0:
            return self.training
        rate = self.training.learning_rate * self.student_rate
        return replace(self.training, learning_rate=rate)


@dataclass(frozen=True, kw_only=True)
class Net2Wider(Net2Net, NamedNetwork):
    """Widen the hidden layers of a teacher once, and train the student.

    A wide network trained directly is a teacher of that width, ``wider`` empty and
    ``student_rate`` 1.

    Attributes:
        wider: layer -> units of the student, such as '{"linear0": 200}'; without any,
            the teacher goes on at the students' rate.
        initialization: split (Net2Wider: the student computes what the teacher does)
            or random-pad (old weights kept, new ones fresh).
        noise: on the copies' outgoing weights, see :func:`gradnet.surgery.widen`.
    """

    wider: dict[str, int] = field(default_factory=lambda: {"linear0": 128})
    initialization: Literal["split", "random-pad"] = "split"
    noise: float = 0.0

    @property
    def preserves_function(self) -> bool:
        """With ``split`` and without noise."""
        return self.initialization == "split" and not self.noise

    @property
    def edits(self) -> int:
        """One, for all named layers at once; none if nothing would change."""
        return 0 if not self.wider and self.student_rate == 1 else 1

    @property
    def takes_masks(self) -> bool:
        """Only if no layer is widened."""
        return not self.wider

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Widen all named layers at once."""
        if not self.wider:
            copied = copy.deepcopy(model)
            return certify(model, copied, identity_origins(model), context.probe)
        generator, probe = context.generator(), context.probe
        edits: list[Edit] = []
        for layer, width in self.wider.items():
            edits.append(
                widen(
                    edits[-1].model if edits else model,
                    layer,
                    width,
                    probe=probe,
                    generator=generator,
                    initialization=self.initialization,
                    noise=self.noise,
                )
            )
        return compose(edits, probe)


@dataclass(frozen=True, kw_only=True)
class Net2Deeper(Net2Net):
    """Deepen a stack of convolutions layer by layer, stage after stage in turn.

    Trained directly, the deep network is one with as many initial_depths.

    Attributes:
        width: channels of the first stage.
        initial_depths: convolutions of each stage of the teacher.
        depths: of the last student; 2 2 3 makes 8 layers, the head counted in, and
            6 6 7 makes 20.
        initialization: identity (Net2Deeper) or random (the control).
    """

    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=6000, learning_rate=0.05, evaluate_every=500
        )
    )
    width: int = 32
    initial_depths: list[int] = field(default_factory=lambda: [1, 1, 1])
    depths: list[int] = field(default_factory=lambda: [2, 2, 3])
    initialization: Literal["identity", "random"] = "identity"

    @property
    def preserves_function(self) -> bool:
        """With identity layers, in evaluation mode."""
        return self.initialization == "identity"

    @property
    def edits(self) -> int:
        """One for each new layer."""
        return len(insertion_order(self.initial_depths, self.depths))

    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The teacher network."""
        shape = shape_arguments(input_shape, num_classes)
        return ConvNet(**shape, width=self.width, depths=self.initial_depths)

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Add a layer after the last activation of a stage."""
        stage = insertion_order(self.initial_depths, self.depths)[context.stage - 1]
        names = [name for name, _ in model.named_children()]
        is_last = stage == len(self.depths) - 1
        pooling = names.index("pool" if is_last else f"pool{stage}")
        return deepen(
            model,
            names[pooling - 1],
            probe=context.probe,
            initialization=self.initialization,
            generator=context.generator(),
        )
