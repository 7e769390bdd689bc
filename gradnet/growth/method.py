"""The interface of growth methods: the initial network, when to edit it, what to train.

A method never trains a network itself; :func:`gradnet.growth.run.grow` does, with the
package's one training loop.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradnet.core.reproducibility import derive_seed
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit
from gradnet.training.loop import TrainingSettings

Record = dict[str, Any]


@dataclass(frozen=True)
class Schedule:
    """When a network grows.

    Attributes:
        every: steps between edits; None spreads the edits evenly over the first part
            of the run.
        first: steps before the first edit; 0 for a trained network; None takes
            ``every``.
        patience: grow already when so many evaluations in a row improved the validation
            accuracy by less than ``gain``; None looks at the steps alone.
        gain: the least improvement that counts (0.0005 is AutoGrow's).
        until: that part of the run; what is left is for the whole network, while the
            learning rate falls.
    """

    every: int | None = None
    first: int | None = None
    patience: int | None = None
    gain: float = 0.0005
    until: float = 0.75

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: a number is too small.
        """
        for name, least in (("every", 1), ("first", 0), ("patience", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidInputError(
                    f"growth {name} is {value}; it must be >= {least}"
                )
        if not 0 < self.until < 1:
            raise InvalidInputError(
                f"growth until is {self.until}; it is a part of the run, below 1"
            )

    def latest_step(self, stage: int, start: int, edits: int, steps: int) -> int:
        """The step of the edit that ends a stage at the latest.

        Args:
            stage: counted from 0.
            start: the stage's first step.
            edits: number of edits of the whole run.
            steps: number of steps of the whole run.

        Returns:
            The step, counted from the start of the run.
        """
        if stage == 0 and self.first is not None:
            return self.first
        if self.every is not None:
            return start + self.every
        if self.patience is not None:
            return steps
        left = round(self.until * steps) - start
        return start + max(left // (edits - stage), 1)

    def is_stalled(self, accuracies: Sequence[float]) -> bool:
        """Whether the last ``patience`` accuracies improved by less than ``gain``."""
        if self.patience is None or len(accuracies) <= self.patience:
            return False
        before, recent = accuracies[: -self.patience], accuracies[-self.patience :]
        return max(recent) < max(before) + self.gain


@dataclass
class GrowthHistory:
    """The evaluations and edits of a growth run so far.

    Attributes:
        steps: number of steps of the whole run.
        stage: number of edits so far.
        start: the step of the last edit.
        records: one for each evaluation, see :func:`gradnet.growth.run.grow`.
        edits: one record for each edit, with the fields of its certificate.
    """

    steps: int
    stage: int = 0
    start: int = 0
    records: list[Record] = field(default_factory=list)
    edits: list[Record] = field(default_factory=list)

    def begin_stage(self, edit: Edit, step: int) -> None:
        """Record an edit in plain values, with counts in place of lists of names."""
        self.stage, self.start = self.stage + 1, step
        names = ("copied", "split", "created")
        facts = {
            key: len(value) if key in names else value
            for key, value in vars(edit.certificate).items()
        }
        about = {"stage": self.stage, "step": step, "choice": edit.choice}
        self.edits.append({**about, **facts})

    @property
    def stage_accuracies(self) -> list[float]:
        """Validation accuracies since the last edit, the first one just after it."""
        return [r["accuracy"] for r in self.records if r["stage"] == self.stage]


@dataclass(frozen=True)
class EditContext:
    """The inputs of an edit besides the network.

    Attributes:
        stage: the stage that begins with the edit; the first edit begins stage 1.
        probe: training images ``(N, channels, h, w)``, augmented as for evaluation.
        seed: of the run.
        samples: training and validation samples, for edits that train new units; None
            if an edit must not use data.
        choice: the edit's :attr:`~gradnet.surgery.edit.Edit.choice` when it is
            replayed; None the first time.
        is_replayed: whether only the shapes of the new network matter, since its
            weights will be loaded: then an edit need not train anything.
    """

    stage: int
    probe: Tensor
    seed: int
    samples: Samples | None = None
    choice: str | None = None
    is_replayed: bool = False

    def generator(self) -> torch.Generator:
        """A new generator for this edit, with the same draws when it is replayed."""
        return torch.Generator().manual_seed(self.torch_seed)

    @property
    def torch_seed(self) -> int:
        """The seed of torch's global generator, which initializes new layers."""
        return derive_seed("edit", self.seed, self.stage)


@dataclass(frozen=True, kw_only=True)
class GrowthMethod(abc.ABC):
    """A schedule of edits of a network, and of which parameters train after each.

    The shapes that an edit gives a network must depend only on the stage, the seed, the
    probe and the edit's recorded choice: a resumed run replays all edits, and then
    loads the weights.

    Attributes:
        training: how all stages train; its schedule spans the whole run, and its
            patience ends a stage, not the run.
        growth: see :class:`Schedule`.
        shuffle: a new order of the images every epoch; otherwise one for all.
        cache_trunk: compute what a frozen trunk makes of the training images once a
            stage, where no augmentation forbids it and the network is an
            ``nn.Sequential``.
    """

    training: TrainingSettings = field(default_factory=TrainingSettings)
    growth: Schedule = field(default_factory=Schedule)
    shuffle: bool = True
    cache_trunk: bool = False

    @property
    @abc.abstractmethod
    def preserves_function(self) -> bool:
        """Whether edits are function-preserving: the same logits in evaluation mode."""

    @property
    @abc.abstractmethod
    def edits(self) -> int:
        """The number of edits of a whole run."""

    @property
    def carries_optimizer(self) -> bool:
        """Whether the optimizer's state is carried over after an edit."""
        return self.preserves_function

    @abc.abstractmethod
    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The initial network, with weights from torch's global generator.

        Args:
            input_shape: ``(channels, height, width)``.
            num_classes: ``K``.
        """

    def begin_with(
        self, start: nn.Module, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The initial network of a run that starts from a trained network.

        By default the method's own initial network, with the trained weights.

        Args:
            start: the trained network; not modified.
            input_shape: ``(channels, height, width)``.
            num_classes: ``K``.

        Returns:
            A new network that shares no memory with ``start``.

        Raises:
            InvalidInputError: the method cannot start from this network.
        """
        first = self.initial_model(input_shape, num_classes)
        state = start.state_dict()
        expected, given = (
            {name: tuple(value.shape) for name, value in tensors.items()}
            for tensors in (first.state_dict(), state)
        )
        if expected != given:
            pairs = expected.items() ^ given.items()
            name = min(pair[0] for pair in pairs)
            raise InvalidInputError(
                f"{type(self).__name__} cannot start from this {type(start).__name__}: "
                f"{name} is {given.get(name, 'missing')} there, and "
                f"{expected.get(name, 'missing')} in the method's initial network; set "
                "its options to match, or start from another network"
            )
        first.load_state_dict(state)
        return first

    @abc.abstractmethod
    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """The edit at the end of a stage, which does not modify the network."""

    def freeze(self, model: nn.Module, stage: int) -> None:
        """Set ``requires_grad`` of all parameters for a stage; by default all train."""
        model.requires_grad_(True)

    def training_at(self, stage: int) -> TrainingSettings:
        """The training settings of a stage; their steps are those of the whole run."""
        return self.training

    def latest_step(self, history: GrowthHistory) -> int:
        """The step at which the current stage ends at the latest."""
        if history.stage >= self.edits:
            return history.steps
        step = self.growth.latest_step(
            history.stage, history.start, self.edits, history.steps
        )
        return min(step, history.steps)

    def is_due(self, history: GrowthHistory) -> bool:
        """Whether the network should grow now, before the latest step of the stage."""
        grows = history.stage < self.edits
        return grows and self.growth.is_stalled(history.stage_accuracies)


def insertion_order(before: list[int], after: list[int]) -> list[int]:
    """In which stage of a network each new layer is inserted, stages taking turns.

    Args:
        before: number of layers in each stage of the initial network.
        after: number of layers in each stage of the final network.

    Returns:
        The index of a stage for each insertion, in order.

    Raises:
        InvalidInputError: the numbers of stages differ, or a stage would shrink.
    """
    if len(before) != len(after) or any(map(int.__gt__, before, after)):
        raise InvalidInputError(
            f"a network with stages of {before} layers cannot grow to stages of "
            f"{after}; give as many stages, none of them smaller"
        )
    missing = [new - old for old, new in zip(before, after, strict=True)]
    turns = range(max(missing, default=0))
    return [s for turn in turns for s, count in enumerate(missing) if turn < count]
