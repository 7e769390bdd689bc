"""cornet and pronet: a residual network grown block by block at its end.

After the Keras code of github.com/remko66/cornet2: cornet trains the last block, the
new one and the head; pronet trains everything. The variants ``as published`` reproduce
what that code does, quirks included; the others correct them.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from gradnet.core.reproducibility import isolated_randomness
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext, GrowthMethod, Schedule
from gradnet.models import shape_arguments
from gradnet.models.resnet import STAGES, PreactivationBlock, ResNet, block_channels
from gradnet.surgery.edit import Edit, Origin, certify
from gradnet.training.loop import TrainingSettings


def _adam(schedule: Literal["constant", "cosine"]) -> TrainingSettings:
    """Ten epochs of 50,000 images: cornet2's steps, with Keras' Adam."""
    return TrainingSettings(
        steps=7820,
        batch_size=64,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule=schedule,
        evaluate_every=782,
    )


@dataclass(frozen=True, kw_only=True)
class Cornet(GrowthMethod):
    """Grow a residual network at its end; train its last blocks and its head.

    Attributes:
        width: channels of the first stage.
        stages: blocks of each stage.
        initial_blocks: number of blocks of the first network.
        final_blocks: number of blocks of the last network; None for all. If equal to
            ``initial_blocks``, the network does not grow but is trained directly.
        style: published (growth does not preserve the function) or preactivation (the
            last convolution of a new block starts at zero, which preserves the function
            if the head is kept).
        head: new (drawn again at each growth) or keep (old weights stay, those of new
            channels are drawn).
        trained_blocks: how many of the last blocks are trained, including the new one;
            None trains everything (pronet).
        trains_previous_norm: the norm before those blocks trains too, as cornet2 does
            where the first of them keeps its channels.
    """

    training: TrainingSettings = field(default_factory=lambda: _adam("cosine"))
    cache_trunk: bool = True
    width: int = 64
    stages: list[int] = field(default_factory=lambda: list(STAGES))
    initial_blocks: int = 1
    final_blocks: int | None = None
    style: Literal["published", "preactivation"] = "published"
    head: Literal["new", "keep"] = "keep"
    trained_blocks: int | None = 2
    trains_previous_norm: bool = False

    @property
    def preserves_function(self) -> bool:
        """Only with preactivation blocks and a kept head, see the class."""
        return self.style == "preactivation" and self.head == "keep"

    @property
    def edits(self) -> int:
        """One for each block.

        Raises:
            InvalidInputError: ``initial_blocks`` or ``final_blocks`` is out of range.
        """
        final = sum(self.stages) if self.final_blocks is None else self.final_blocks
        if not 1 <= self.initial_blocks <= final <= sum(self.stages):
            raise InvalidInputError(
                f"a network cannot grow from {self.initial_blocks} to {final} blocks "
                f"in stages {self.stages}, which have {sum(self.stages)}"
            )
        return final - self.initial_blocks

    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The first blocks of the network, and a head."""
        return self._model(self.initial_blocks, input_shape, num_classes)

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Add a block before the head."""
        blocks = self.initial_blocks + context.stage
        old_head = model.get_submodule("head")
        assert isinstance(old_head, nn.Linear)
        with isolated_randomness():
            torch.manual_seed(context.torch_seed)
            shape = tuple(context.probe.shape[1:])
            grown = self._model(blocks, shape, old_head.out_features)  # type: ignore[arg-type]
        grown = grown.to(context.probe.device, next(model.parameters()).dtype)
        new_block = grown.get_submodule(f"block{blocks - 1}")
        if isinstance(new_block, PreactivationBlock):
            nn.init.zeros_(new_block.residual.get_submodule("conv1").weight)  # type: ignore[arg-type]
        before = model.state_dict()
        origins = {name: Origin(name) for name in before if name[:5] != "head."}
        if self.head == "keep":
            origins |= self._head_origins(old_head, grown.get_submodule("head"))
        after = grown.state_dict()
        for name, origin in origins.items():
            after[name] = origin.overlay(before[origin.source], after[name])
        grown.load_state_dict(after)
        return certify(model, grown.train(model.training), origins, context.probe)

    def freeze(self, model: nn.Module, stage: int) -> None:
        """Freeze all layers before the trained blocks; nothing in the first stage."""
        model.requires_grad_(True)
        if self.trained_blocks is None or stage == 0:
            return
        first = max(self.initial_blocks + stage - self.trained_blocks, 0)
        names = [name for name, _ in model.named_children()]
        start = names.index(f"block{first}")
        channels = block_channels(self.width, self.stages)
        widens = first > 0 and channels[first] != channels[first - 1]
        if self.trains_previous_norm and not widens and "norm" in names[start - 1]:
            start -= 1
        for name in names[:start]:
            model.get_submodule(name).requires_grad_(False)

    def _head_origins(self, old: nn.Linear, new: nn.Module) -> dict[str, Origin]:
        """Origins of a kept head; new channels, which come last, get new columns."""
        assert isinstance(new, nn.Linear)
        added = new.in_features - old.in_features
        if added and self.style == "published":
            return {}  # flattened channels have other indices: no weight is kept
        index = torch.cat([torch.arange(old.in_features), torch.full((added,), -1)])
        weight = Origin("head.weight", {1: index} if added else {})
        return {"head.weight": weight, "head.bias": Origin("head.bias")}

    def _model(
        self, blocks: int, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        return ResNet(
            **shape_arguments(input_shape, num_classes),
            width=self.width,
            stages=self.stages,
            blocks=blocks,
            style=self.style,
        )


@dataclass(frozen=True, kw_only=True)
class Pronet(Cornet):
    """Grow a residual network at its end, and train all of it.

    Attributes:
        trained_blocks: None: everything trains.
    """

    cache_trunk: bool = False
    trained_blocks: int | None = None


@dataclass(frozen=True, kw_only=True)
class CornetAsPublished(Cornet):
    """cornet2 as its code is: growth after 500 steps, then every 501, to 13 blocks.

    A new head each time, the previous norm trained, a new Adam, batches of 64 in one
    order for all epochs. (Pixels are 0 to 1, not 0 to 255, before the first norm.) Give
    it images as they are: ``--augmentation.whiten false --augmentation.crop 0
    --augmentation.flip false --augmentation.contrast []``.
    """

    training: TrainingSettings = field(default_factory=lambda: _adam("constant"))
    growth: Schedule = field(default_factory=lambda: Schedule(every=501, first=500))
    shuffle: bool = False
    cache_trunk: bool = False
    final_blocks: int | None = 13
    head: Literal["new", "keep"] = "new"
    trains_previous_norm: bool = True


@dataclass(frozen=True, kw_only=True)
class PronetAsPublished(CornetAsPublished):
    """As cornet-published, but everything trains.

    Attributes:
        trained_blocks: None: everything trains.
    """

    trained_blocks: int | None = None
