"""The interface of growth methods: which network first, when an edit, what trains then.

A method never trains by itself: :func:`gradnet.growth.run.grow` does, with the one
training loop.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from gradnet.core.constraints import Range
from gradnet.core.reproducibility import derive_seed
from gradnet.core.validation import Count, Fraction, Validated
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit
from gradnet.training.loop import TrainingSettings

Record = dict[str, Any]


@dataclass(frozen=True)
class Schedule(Validated):
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

    every: Count | None = None
    first: Annotated[int, Range(0, 10**9)] | None = None
    patience: Count | None = None
    gain: Annotated[float, Range(0, 1)] = 0.0005
    until: Fraction = 0.75

    def latest_step(self, stage: int, start: int, edits: int, steps: int) -> int:
        """The step of the edit that ends a stage.

        Args:
            stage: counted from 0.
            start: the stage's first step.
            edits: of the whole run.
            steps: of the whole run.
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
        """Whether the last ``patience`` of a stage's accuracies brought no gain."""
        if self.patience is None or len(accuracies) <= self.patience:
            return False
        before, lately = accuracies[: -self.patience], accuracies[-self.patience :]
        return max(lately) < max(before) + self.gain


@dataclass
class GrowthHistory:
    """What a growth run did so far.

    Attributes:
        steps: of the whole run.
        stage: how many edits were made.
        start: the step of the last edit.
        records: of all evaluations, see :func:`gradnet.growth.run.grow`.
        edits: one record each, with what its certificate says.
    """

    steps: int
    stage: int = 0
    start: int = 0
    records: list[Record] = field(default_factory=list)
    edits: list[Record] = field(default_factory=list)

    def begin_stage(self, edit: Edit, step: int) -> None:
        """Record an edit in plain values; of its lists of names the lengths."""
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
        """Validation accuracies since the last edit, that just after it included."""
        return [r["accuracy"] for r in self.records if r["stage"] == self.stage]


@dataclass(frozen=True)
class EditContext:
    """What an edit may look at besides the network.

    Attributes:
        stage: the stage that begins with the edit; the first edit begins stage 1.
        probe: training images ``(N, channels, h, w)`` as the network sees them.
        seed: of the run.
        samples: what the network is trained and validated on, for edits that learn
            from them; None where nothing may be learned.
        choice: what the edit decided when it was first made; None when this is the
            first time.
        is_replayed: only the new network's shape matters, for its weights will be
            loaded: what an edit learns need not be learned again.
    """

    stage: int
    probe: Tensor
    seed: int
    samples: Samples | None = None
    choice: str | None = None
    is_replayed: bool = False

    def generator(self) -> torch.Generator:
        """Draws for this edit: the same whenever it is made again."""
        return torch.Generator().manual_seed(self.torch_seed)

    @property
    def torch_seed(self) -> int:
        """For torch's own generator, from which new layers are initialized."""
        return derive_seed("edit", self.seed, self.stage)


@dataclass(frozen=True, kw_only=True)
class GrowthMethod(Validated, abc.ABC):
    """A schedule of edits of a network, and of which parameters train after each.

    The shape that an edit gives a network must depend on nothing but the stage, the
    seed, the probe and the edit's choice, which is kept: a run that is resumed makes
    all edits again, and then loads the weights.

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
        """Whether the logits are the same after each edit, in evaluation mode."""

    @property
    @abc.abstractmethod
    def edits(self) -> int:
        """How many edits a whole run makes."""

    @property
    def carries_optimizer(self) -> bool:
        """Whether the optimizer's state goes on after an edit."""
        return self.preserves_function

    @abc.abstractmethod
    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The network to start from, its weights from torch's generator."""

    def begin_with(
        self, start: nn.Module, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The network to start from when that of another run is given.

        By default the method's own first network, with that one's weights.

        Args:
            start: left as it is.
            input_shape: ``(channels, height, width)``.
            num_classes: ``K``.

        Raises:
            InvalidInputError: it is no network that the method could begin with.
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
                f"{type(self).__name__} cannot begin with this {type(start).__name__}: "
                f"{name} is {given.get(name, 'missing')} there, and "
                f"{expected.get(name, 'missing')} in its first network; set its "
                "options to those of the network, or start from another one"
            )
        first.load_state_dict(state)
        return first

    @abc.abstractmethod
    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """The next network; the old one is left as it is."""

    def freeze(self, model: nn.Module, stage: int) -> None:
        """Say by ``requires_grad`` what trains in a stage; by default all does."""
        model.requires_grad_(True)

    def training_at(self, stage: int) -> TrainingSettings:
        """How a stage trains: rate, optimizer; steps are those of the whole run."""
        return self.training

    def latest_step(self, history: GrowthHistory) -> int:
        """The step at which the present stage ends at the latest."""
        if history.stage >= self.edits:
            return history.steps
        step = self.growth.latest_step(
            history.stage, history.start, self.edits, history.steps
        )
        return min(step, history.steps)

    def is_due(self, history: GrowthHistory) -> bool:
        """Whether the network should grow now, before its latest step."""
        grows = history.stage < self.edits
        return grows and self.growth.is_stalled(history.stage_accuracies)


def places(before: list[int], after: list[int]) -> list[int]:
    """The stage of each new layer or block, stage after stage in turn.

    Args:
        before: layers of each stage at the start.
        after: at the end.

    Raises:
        GradnetError: the numbers do not fit each other.
    """
    if len(before) != len(after) or any(map(int.__gt__, before, after)):
        raise InvalidInputError(
            f"a network with stages of {before} does not become one with stages of "
            f"{after}; give as many stages, none shallower"
        )
    missing = [new - old for old, new in zip(before, after, strict=True)]
    turns = range(max(missing, default=0))
    return [s for turn in turns for s, many in enumerate(missing) if turn < many]
