"""Layer-wise growth of a residual network by blocks that start at zero.

After the proposal at github.com/giorgiop/incremental-resnet (2016), which has neither
code nor results, so that the details are our own. With random blocks, added to the
stages in turn at fixed intervals, it is the schedule of AutoGrow (Wen et al. 2020).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from gradnet.core.reproducibility import isolated_randomness
from gradnet.growth.method import EditContext, GrowthMethod, Schedule, insertion_order
from gradnet.models import shape_arguments
from gradnet.models.resnet import PRESERVING, PreactivationBlock, ResNet
from gradnet.surgery.edit import Edit
from gradnet.surgery.insert import insert_block, zero_last_layer
from gradnet.training.loop import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class LayerwiseResNet(GrowthMethod):
    """Insert residual blocks into the stages of a network, in turn.

    With ``initial_stages`` equal to ``stages`` the deep network is trained directly.

    Attributes:
        width: channels of the first stage.
        initial_stages: blocks of each stage at the start.
        stages: blocks of each stage at the end.
        style: preactivation (the last convolution of a new block is zero) or normalized
            (the scale and shift of its last BatchNorm are).
        initialization: zero, which preserves the function, or random.
        trains: all; new: the new block and the head; or last: the last blocks and the
            head, as cornet does.
        last_blocks: number of blocks trained if ``trains`` is last.
    """

    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=6000, optimizer="adamw", learning_rate=1e-3, schedule="cosine"
        )
    )
    growth: Schedule = field(default_factory=lambda: Schedule(patience=3))
    width: int = 16
    initial_stages: list[int] = field(default_factory=lambda: [1, 1, 1])
    stages: list[int] = field(default_factory=lambda: [3, 3, 3])
    style: Literal["preactivation", "normalized"] = "preactivation"
    initialization: Literal["zero", "random"] = "zero"
    trains: Literal["all", "new", "last"] = "all"
    last_blocks: int = 2

    @property
    def preserves_function(self) -> bool:
        """With zero initialization."""
        return self.initialization == "zero"

    @property
    def carries_optimizer(self) -> bool:
        """True: old weights are kept in every variant, and so is their momentum."""
        return True

    @property
    def edits(self) -> int:
        """One for each inserted block."""
        return len(insertion_order(self.initial_stages, self.stages))

    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The shallow network."""
        return ResNet(
            **shape_arguments(input_shape, num_classes),
            width=self.width,
            stages=self.initial_stages,
            style=self.style,
        )

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Insert a block at the end of a stage."""
        order = insertion_order(self.initial_stages, self.stages)
        stage = order[context.stage - 1]
        blocks = [name for name, _ in model.named_children() if _is_block(name)]
        # The last existing block of this stage.
        earlier = order[: context.stage - 1]
        present = [
            self.initial_stages[s] + earlier.count(s)
            for s in range(len(self.initial_stages))
        ]
        after = blocks[sum(present[: stage + 1]) - 1]
        channels = self.width * 2**stage
        with isolated_randomness():
            torch.manual_seed(context.torch_seed)
            block: PreactivationBlock = PRESERVING[self.style](channels, channels)
        if self.initialization == "zero":
            zero_last_layer(block.residual)
        return insert_block(
            model,
            after,
            block,
            probe=context.probe,
            name=f"block_grown{context.stage}",
            exact=self.initialization == "zero",
        )

    def freeze(self, model: nn.Module, stage: int) -> None:
        """Freeze all but the blocks of ``trains``; nothing in the first stage."""
        model.requires_grad_(True)
        if self.trains == "all" or stage == 0:
            return
        names = [name for name, _ in model.named_children()]
        blocks = [name for name in names if _is_block(name)]
        trained = {f"block_grown{stage}"}
        if self.trains == "last":
            trained = set(blocks[-self.last_blocks :])
        for name in names:
            if name not in trained and name != "head":
                model.get_submodule(name).requires_grad_(False)


def _is_block(name: str) -> bool:
    return name.startswith("block")
