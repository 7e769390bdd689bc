"""Training of a base network, with a snapshot at each accuracy level that it passes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from gradnet.checkpoints.snapshots import (
    SnapshotInfo,
    list_snapshots,
    save_snapshot,
    snapshot_path,
)
from gradnet.core.constraints import Length, PathText, Range
from gradnet.core.reproducibility import derive_seed, environment, isolated_randomness
from gradnet.core.validation import Level, Validated, Width, Widths
from gradnet.data.problem import Problem
from gradnet.errors import GradnetError
from gradnet.models import build_model, shape_arguments
from gradnet.training.loop import Callbacks, History, TrainingSettings, fit
from gradnet.training.supervised import SupervisedTask

logger = logging.getLogger("gradnet")


@dataclass(frozen=True)
class ModelSettings(Validated):
    """Which base network.

    Attributes:
        model: cnn2018, cnn-small or mlp; None takes cnn2018 for inputs from 20 x 20,
            cnn-small below.
        width: channels of a CNN's convolutions; None takes the model's own.
        hidden: units of each hidden layer of an mlp; None takes the model's own.
    """

    model: PathText | None = None
    width: Width | None = None
    hidden: Widths | None = None

    def model_name(self, problem: Problem) -> str:
        """The network's name on this problem."""
        if self.model is not None:
            return self.model
        return "cnn2018" if min(problem.input_shape[1:]) >= 20 else "cnn-small"

    def model_arguments(self, problem: Problem) -> dict[str, Any]:
        """The arguments of the network's factory on this problem.

        Raises:
            GradnetError: the images are not square.
        """
        chosen = {"width": self.width, "hidden": self.hidden}
        return {
            **shape_arguments(problem.input_shape, problem.data.num_classes),
            **{name: value for name, value in chosen.items() if value is not None},
        }


@dataclass(frozen=True)
class BaseSettings(ModelSettings):
    """Which base network, how it is trained, and when it is saved.

    Attributes:
        levels: validation accuracies; a snapshot is saved when one is first passed, and
            training ends when all are.
        level_step: instead of a list, every multiple of this up to 1.
        evaluations_per_epoch: how often the levels are looked at.
        training: optimizer, batch size, most steps; evaluations_per_epoch sets its
            evaluate_every.
    """

    levels: Annotated[list[Level], Length(1, 1000)] = field(
        default_factory=lambda: [0.5, 0.7, 0.85, 0.9, 0.95]
    )
    level_step: Annotated[float, Range(0.001, below=1)] | None = None
    evaluations_per_epoch: Annotated[int, Range(1, 10**6)] = 8
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=20_000, optimizer="adamw", learning_rate=1e-3
        )
    )

    def all_levels(self) -> list[float]:
        """The levels, lowest first."""
        levels: Sequence[float] = self.levels
        if self.level_step is not None:
            count = int(1 / self.level_step + 1e-9)
            levels = [self.level_step * i for i in range(1, count + 1)]
        return sorted({round(level, 6) for level in levels})


def train_base(
    problem: Problem,
    settings: BaseSettings,
    seed: int,
    folder: str | Path,
    callbacks: Callbacks | None = None,
) -> tuple[dict[float, Path], History]:
    """Train a base network and save a snapshot at each level.

    The checkpoint stays in the folder, so that higher levels can be asked for later.

    Args:
        problem: its base half is used.
        settings: see :class:`BaseSettings`.
        seed: of weights, order and augmentation.
        folder: receives the snapshots and the checkpoint.
        callbacks: called at evaluations; its checkpoint and identity are not used.

    Returns:
        Level -> path of those levels that were reached, and what was done.

    Raises:
        GradnetError: settings are out of range, the folder is of another run, or a
            level is asked for that an earlier run in this folder has passed unsaved.
    """
    levels = settings.all_levels()
    name = settings.model_name(problem)
    arguments = settings.model_arguments(problem)
    with isolated_randomness():
        torch.manual_seed(derive_seed("base", seed))
        model = build_model(name, **arguments)
    model.to(problem.data.x_train.device)
    task = SupervisedTask(model, problem.base_half, settings.training.batch_size, seed)
    every = max(1, task.batches.steps_per_epoch // settings.evaluations_per_epoch)
    info = describe_snapshot(problem, name, arguments, seed)
    snapshots = _Snapshots(levels, model, info, Path(folder), callbacks or Callbacks())
    history = fit(
        task,
        replace(settings.training, evaluate_every=every),
        seed=seed,
        callbacks=replace(
            snapshots.callbacks,
            checkpoint=base_checkpoint(folder),
            identity={**problem.identity, "model": name, **arguments},
            on_resume=snapshots.on_resume,
            on_evaluation=snapshots.on_evaluation,
        ),
        should_stop=lambda record: snapshots.best >= levels[-1],
    )
    found = list_snapshots(folder)
    return {level: found[level] for level in levels if level in found}, history


@dataclass
class _Snapshots:
    """Saves a snapshot when a level is first passed, and remembers the best accuracy.

    Snapshots are written before the checkpoint of the same evaluation: a run that is
    killed in between evaluates once more, and finds them.
    """

    levels: Sequence[float]
    model: nn.Module
    info: SnapshotInfo
    folder: Path
    callbacks: Callbacks
    best: float = 0.0

    def on_resume(self, records: list[dict[str, float]]) -> None:
        self.best = max((record["accuracy"] for record in records), default=0.0)
        for level in self.levels:
            if level <= self.best and not snapshot_path(self.folder, level).exists():
                raise GradnetError(
                    f"level {level:g} was passed unsaved when {self.folder} was "
                    "trained; ask for it in a fresh folder"
                )
        self.callbacks.on_resume(records)

    def on_evaluation(self, record: dict[str, float]) -> None:
        self.callbacks.on_evaluation(record)
        step, accuracy = int(record["step"]), record["accuracy"]
        self.best = max(self.best, accuracy)
        for level in self.levels:
            path = snapshot_path(self.folder, level)
            if accuracy >= level and not path.exists():
                reached = replace(
                    self.info, level=level, step=step, validation_accuracy=accuracy
                )
                save_snapshot(path, self.model, reached)
                logger.info("level %g passed at step %d: %s", level, step, path)


def base_checkpoint(folder: str | Path) -> Path:
    """The file from which a base network is trained on, beside its snapshots."""
    return Path(folder) / "checkpoint.pt"


def describe_snapshot(
    problem: Problem, name: str, arguments: Mapping[str, Any], seed: int
) -> SnapshotInfo:
    """What is known of a snapshot before its network is trained."""
    return SnapshotInfo(
        model=name,
        arguments=arguments,
        data=problem.data.name,
        data_fingerprint=problem.data.fingerprint,
        split_seed=problem.splits.seed,
        validation_fraction=problem.splits.validation_fraction,
        split_fingerprint=problem.splits.fingerprint,
        augmentation=asdict(problem.augmentation),
        level=0.0,
        step=0,
        validation_accuracy=0.0,
        seed=seed,
        environment=environment(problem.data.x_train.device),
    )
